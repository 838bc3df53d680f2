// A thread pool as programs have one: jthreads that take jobs from a queue under a mutex and a condition variable, results under
// another mutex, and a main that waits for each job at a C++20 semaphore.
//
// usage: thread_pool JOBS     some 100 us each, four threads
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <mutex>
#include <semaphore>
#include <stop_token>
#include <thread>
#include <vector>

namespace {

class Pool {
 public:
  explicit Pool(int threads) {
    for (int i = 0; i < threads; ++i)
      threads_.emplace_back([this](const std::stop_token& stop) { Run(stop); });
  }

  void Submit(std::function<void()> job) {
    {
      std::lock_guard lock(mutex_);
      jobs_.push_back(std::move(job));
    }
    changed_.notify_one();
  }

 private:
  void Run(const std::stop_token& stop) {
    for (;;) {
      std::unique_lock lock(mutex_);
      if (!changed_.wait(lock, stop, [this] { return !jobs_.empty(); })) return;
      std::function<void()> job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job();
    }
  }

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<std::function<void()>> jobs_;
  std::vector<std::jthread> threads_;  // last: they end before what they use
};

std::mutex g_sum_mutex;
long g_sum;

void Work() {
  long sum = 0;
  for (int i = 0; i < 200000; ++i) {
    sum += i;
    asm volatile("" : "+r"(sum));  // not what a compiler can work out
  }
  std::lock_guard lock(g_sum_mutex);
  g_sum += sum;
}

}  // namespace

int main(int argc, char** argv) {
  const int jobs = argc > 1 ? std::atoi(argv[1]) : 1000;
  std::counting_semaphore<> done(0);
  Pool pool(4);
  for (int i = 0; i < jobs; ++i) {
    pool.Submit([&done] {
      Work();
      done.release();
    });
  }
  for (int i = 0; i < jobs; ++i) done.acquire();
  std::printf("%ld\n", g_sum);
  return 0;
}
