// Asks for memory and gives it back at the ends of things: of threads, of thread-local objects, of the process.
#include <pthread.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

char* Churn(char* text) {
  char* more = static_cast<char*>(realloc(text, std::strlen(text) + 200));
  std::strcat(more, "+");
  delete[] new char[300];
  free(aligned_alloc(64, 128));
  return more;
}

struct Local {
  char* text = strdup("thread-local");
  ~Local() {
    text = Churn(text);
    free(text);
    text = nullptr;
  }
};
thread_local Local t_local;

pthread_key_t g_key;

// libc calls this up to four times for each thread, the last time when its own cache of blocks is already given up.
void AtThreadEnd(void* text) {
  char* more = Churn(static_cast<char*>(text));
  if (std::strlen(more) < 8) {
    pthread_setspecific(g_key, more);
  } else {
    free(more);
  }
}

void* Thread(void* inherited) {
  free(inherited);
  if (t_local.text == nullptr) std::abort();
  pthread_setspecific(g_key, strdup("key:"));
  return strdup("result");
}

void Threads() {
  for (int round = 0; round < 40; ++round) {
    pthread_t threads[4];
    for (pthread_t& thread : threads) {
      if (pthread_create(&thread, nullptr, Thread, malloc(100)) != 0) std::abort();
    }
    for (pthread_t thread : threads) {
      void* result = nullptr;
      pthread_join(thread, &result);
      free(result);
    }
  }
}

char* g_text;

struct Global {
  ~Global() { g_text = Churn(g_text); }
} g_global;

void AtExit() { g_text = Churn(g_text); }

__attribute__((destructor)) void AfterAll() {
  std::printf("%s\n", g_text);
  free(Churn(g_text));
}

}  // namespace

int main() {
  g_text = strdup("late");
  std::atexit(AtExit);
  at_quick_exit(AtExit);
  if (pthread_key_create(&g_key, AtThreadEnd) != 0) return 99;
  pthread_setspecific(g_key, strdup("key:"));
  if (t_local.text == nullptr) return 99;
  Threads();
  return 7;
}
