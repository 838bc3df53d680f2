// What C++20 waits in, as a thread pool would: each function waits for 60 ms. Prints how many nanoseconds it took.
//
// usage: cpp_waits KIND
#include <atomic>
#include <barrier>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <future>
#include <latch>
#include <mutex>
#include <semaphore>
#include <shared_mutex>
#include <thread>

#include "tests/support/burn.h"

using namespace std::chrono_literals;

#define WHOLE extern "C" WHOLE_FUNCTION

namespace {

constexpr auto kHeld = 60ms;
constexpr auto kLong = 10s;
std::mutex mutex;
std::timed_mutex timed_mutex;
std::recursive_mutex recursive_mutex;
std::shared_mutex shared_mutex;
std::shared_timed_mutex shared_timed_mutex;
std::condition_variable condition;
std::condition_variable_any condition_any;
std::counting_semaphore<4> semaphore{0};
std::latch latch{1};
std::barrier barrier{2};
std::atomic<int> word{0};
bool ready = false;

}  // namespace

WHOLE void WaitMutex() { std::lock_guard guard(mutex); }
WHOLE void WaitTimedMutex() {
  if (!timed_mutex.try_lock_for(kLong)) std::abort();
  timed_mutex.unlock();
}
WHOLE void WaitRecursive() { std::lock_guard guard(recursive_mutex); }
WHOLE void WaitShared() { std::shared_lock guard(shared_mutex); }
WHOLE void WaitSharedTimed() {
  if (!shared_timed_mutex.try_lock_for(kLong)) std::abort();
  shared_timed_mutex.unlock();
}
WHOLE void WaitCondition() {
  std::unique_lock guard(mutex);
  condition.wait(guard, [] { return ready; });
}
WHOLE void WaitConditionFor() {
  std::unique_lock guard(mutex);
  if (!condition.wait_for(guard, kLong, [] { return ready; })) std::abort();
}
WHOLE void WaitConditionAny() {
  std::unique_lock guard(mutex);
  condition_any.wait(guard, [] { return ready; });
}
WHOLE void WaitSemaphore() { semaphore.acquire(); }
WHOLE void WaitLatch() { latch.wait(); }
WHOLE void WaitBarrier() { barrier.arrive_and_wait(); }
WHOLE void WaitAtomic() { word.wait(0); }
WHOLE void WaitFuture(std::future<int>* future) {
  if (future->get() != 7) std::abort();
}
WHOLE void WaitThread() {
  std::jthread thread([] { std::this_thread::sleep_for(kHeld); });
}

namespace {

std::atomic<bool> arrived{false};
void Arrive() { arrived = true; }
// Begins when the other thread does.
void SleepWhileItWaits() {
  while (!arrived) std::this_thread::sleep_for(1ms);
  std::this_thread::sleep_for(kHeld);
}

void Time(auto wait) {
  auto begin = std::chrono::steady_clock::now();
  wait();
  std::chrono::nanoseconds took = std::chrono::steady_clock::now() - begin;
  std::printf("%lld\n", static_cast<long long>(took.count()));
}

template <class Lock>
void Hold(Lock& lock, void (*wait)()) {
  lock.lock();
  std::jthread waiter([=] {
    Arrive();
    Time(wait);
  });
  SleepWhileItWaits();
  lock.unlock();
}
void Signal(void (*wait)(), auto notify) {
  std::jthread waiter([=] {
    Arrive();
    Time(wait);
  });
  SleepWhileItWaits();
  {
    std::lock_guard guard(mutex);
    ready = true;
  }
  notify();
}

}  // namespace

int main(int, char** argv) {
  auto is = [&](const char* name) { return std::strcmp(argv[1], name) == 0; };
  if (is("mutex")) Hold(mutex, WaitMutex);
  if (is("timed_mutex")) Hold(timed_mutex, WaitTimedMutex);
  if (is("recursive_mutex")) Hold(recursive_mutex, WaitRecursive);
  if (is("shared_mutex")) Hold(shared_mutex, WaitShared);
  if (is("shared_timed_mutex")) Hold(shared_timed_mutex, WaitSharedTimed);
  if (is("condition")) Signal(WaitCondition, [] { condition.notify_one(); });
  if (is("condition_for")) Signal(WaitConditionFor, [] { condition.notify_all(); });
  if (is("condition_any")) Signal(WaitConditionAny, [] { condition_any.notify_all(); });
  if (is("semaphore")) Signal(WaitSemaphore, [] { semaphore.release(); });
  if (is("latch")) Signal(WaitLatch, [] { latch.count_down(); });
  if (is("barrier")) Signal(WaitBarrier, [] { barrier.arrive_and_wait(); });
  if (is("atomic")) {
    Signal(WaitAtomic, [] {
      word = 1;
      word.notify_all();
    });
  }
  if (is("future")) {
    std::promise<int> promise;
    std::future<int> future = promise.get_future();
    std::jthread waiter([&] {
      Arrive();
      Time([&] { WaitFuture(&future); });
    });
    SleepWhileItWaits();
    promise.set_value(7);
  }
  if (is("jthread")) Time(WaitThread);
  return 0;
}
