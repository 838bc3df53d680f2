// Threads: pthread_create, thrd_create, timer_create (whose SIGEV_THREAD has libc make some), the ways in which a thread ends,
// and the ways in which it is named (prctl is one, and one into a sandbox: process_hooks.h).
//
// Context: `hook`. Nothing here allocates from the application's heap: a new thread's start routine waits in
//          a place of ours (capture/thread_starts.h).
// Stack:   the thread pointer of a glibc thread stands less than a page below the top of its stack, and the
//          stack's size counts from that top. So both bounds are known without pthread_getattr_np, which
//          allocates and locks.
// Seen:    one frame of ours between libc's start_thread and the application's start routine; the encoder
//          leaves it out.
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <threads.h>
#include <time.h>

#include <atomic>
#include <cstdarg>
#include <cstdint>
#include <string_view>
#include <utility>

#include "agent/base/errno_saver.h"
#include "agent/base/signal_safe.h"
#include "agent/base/thread_state.h"
#include "agent/capture/contention.h"
#include "agent/capture/cpu_capture.h"
#include "agent/capture/monotonic_clock.h"
#include "agent/capture/thread_starts.h"
#include "agent/interpose/process_hooks.h"
#include "agent/interpose/real_functions.h"
#include "agent/interpose/slot_patch.h"

namespace profagent {
namespace {

constexpr uintptr_t kPage = 4096;

size_t StackSize(const pthread_attr_t* attributes) {
  size_t size = 0;
  if (attributes != nullptr) {
    pthread_attr_getstacksize(attributes, &size);
    return size;
  }
  pthread_attr_t defaults;
  pthread_attr_init(&defaults);
  pthread_attr_getstacksize(&defaults, &size);
  pthread_attr_destroy(&defaults);
  return size;
}

// Of the thread that asks. `size` as StackSize said: what libc mapped for stack, thread-local storage and the
// thread's descriptor, which is the less than a page above the thread pointer. Guard pages are not part of
// it.
StackBounds BoundsOfThread(size_t size) {
  auto pointer = reinterpret_cast<uintptr_t>(__builtin_thread_pointer());
  if (size < kPage || size > pointer) return {};
  return {(pointer - size + kPage - 1) & ~(kPage - 1), pointer};
}

// nullptr: the thread starts without us.
ThreadStart* Prepare(const pthread_attr_t* attributes, void* routine, void* argument) {
  ThreadStart* start = g_thread_starts.Take();
  if (start == nullptr) return nullptr;
  start->routine = routine;
  start->argument = argument;
  start->stack_size = StackSize(attributes);
  start->slot = g_cpu_capture.PrepareThread();
  start->blocks_signal = t_state.asked_to_block;
  if (start->slot != nullptr) start->slot->start_routine = routine;
  sigset_t mask;
  int signo = g_cpu_capture.signo();
  if (signo != 0 && attributes != nullptr && pthread_attr_getsigmask_np(attributes, &mask) == 0)
    start->blocks_signal = sigismember(&mask, signo) == 1;
  return start;
}

// The thread was not created after all.
void Abandon(ThreadStart* start) {
  if (start->slot != nullptr) g_cpu_capture.AbandonThread(start->slot);
  g_thread_starts.Give(start);
}

void BeginThread(ThreadSlot* slot, size_t stack_size, bool blocks_signal) {
  StackBounds bounds = BoundsOfThread(stack_size);
  t_state.stack_low = bounds.low;
  t_state.stack_high = bounds.high;
  g_cpu_capture.BeginThread(slot, bounds, blocks_signal);
}

// More than once, where a thread leaves by pthread_exit: its cleanup handlers come between.
void EndThread() {
  g_contention.EndThread();
  g_cpu_capture.EndThread();
}

void EndRunThread(void*) { EndThread(); }

template <class Result>
Result RunThread(void* prepared) {
  auto* start = static_cast<ThreadStart*>(prepared);
  auto routine = reinterpret_cast<Result (*)(void*)>(start->routine);
  void* argument = start->argument;
  ThreadSlot* slot = start->slot;
  bool blocks_signal = start->blocks_signal;
  size_t stack_size = start->stack_size;
  g_thread_starts.Give(start);
  BeginThread(slot, stack_size, blocks_signal);
  Result result;
  pthread_cleanup_push(EndRunThread, nullptr);  // a cancelled thread does not return
  result = routine(argument);
  pthread_cleanup_pop(1);
  return result;
}

// SIGEV_THREAD: libc makes a thread for each expiry, past pthread_create. What it runs there begins with us: one function for
// each that the program names, since of the two arguments that a timer has only the value reaches the thread.
using Notify = void (*)(union sigval);
constexpr size_t kNotifies = 8;  // of any more the threads are not sampled
constinit std::atomic<Notify> g_notifies[kNotifies]{};

__attribute__((noinline)) void RunNotified(Notify notify, union sigval value) {
  // How large its stack is, nobody says. That much it has, or libc would not have made it.
  constexpr size_t kSmallestStack = 16384;
  ThreadSlot* slot = g_cpu_capture.PrepareThread();
  if (slot != nullptr) slot->start_routine = reinterpret_cast<void*>(notify);
  BeginThread(slot, kSmallestStack, false);
  pthread_cleanup_push(EndRunThread, nullptr);
  notify(value);
  pthread_cleanup_pop(1);
}

template <size_t kIndex>
void Notified(union sigval value) {
  RunNotified(g_notifies[kIndex].load(std::memory_order_relaxed), value);
}

template <size_t... kIndices>
Notify NotifiedAt(size_t index, std::index_sequence<kIndices...>) {
  static constexpr Notify kFunctions[] = {Notified<kIndices>...};
  return kFunctions[index];
}

Notify NotifiedFor(Notify notify) {
  for (size_t i = 0; i < kNotifies; ++i) {
    Notify found = nullptr;
    if (g_notifies[i].compare_exchange_strong(found, notify, std::memory_order_relaxed) || found == notify)
      return NotifiedAt(i, std::make_index_sequence<kNotifies>());
  }
  return notify;
}

template <class Create>
int CreateNotifyingTimer(Create create, clockid_t clock, struct sigevent* event, timer_t* timer) {
  if (event == nullptr || event->sigev_notify != SIGEV_THREAD || event->sigev_notify_function == nullptr ||
      !g_cpu_capture.running()) {
    return create(clock, event, timer);
  }
  struct sigevent ours = *event;
  ours.sigev_notify_function = NotifiedFor(event->sigev_notify_function);
  return create(clock, &ours, timer);
}

}  // namespace
}  // namespace profagent

using profagent::g_cpu_capture;
using profagent::Real;

PROF_EXPORT int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*routine)(void*),
                               void* argument) {
  profagent::LookForNewObjects();
  profagent::ThreadStart* start = profagent::Prepare(attributes, reinterpret_cast<void*>(routine), argument);
  if (start == nullptr) return Real().pthread_create(thread, attributes, routine, argument);
  int error = Real().pthread_create(thread, attributes, profagent::RunThread<void*>, start);
  if (error != 0) profagent::Abandon(start);
  return error;
}

PROF_EXPORT int thrd_create(thrd_t* thread, thrd_start_t routine, void* argument) {
  profagent::ThreadStart* start = profagent::Prepare(nullptr, reinterpret_cast<void*>(routine), argument);
  if (start == nullptr) return Real().thrd_create(thread, routine, argument);
  int status = Real().thrd_create(thread, profagent::RunThread<int>, start);
  if (status != thrd_success) profagent::Abandon(start);
  return status;
}

// A timer of GLIBC_2.2.5 is a small number, which only libc's functions of that version know.
#define PROF_DEFINE_TIMER_CREATE(ours, real, exported)                                \
  asm(".symver " #ours ", " exported);                                                \
  PROF_EXPORT __attribute__((used)) int ours(clockid_t clock, struct sigevent* event, \
                                             timer_t* timer) noexcept {               \
    return profagent::CreateNotifyingTimer(real, clock, event, timer);                \
  }
PROF_DEFINE_TIMER_CREATE(profagent_new_timer_create, Real().timer_create, "timer_create@@GLIBC_2.34")
PROF_DEFINE_TIMER_CREATE(profagent_same_timer_create, Real().timer_create, "timer_create@GLIBC_2.3.3")
PROF_DEFINE_TIMER_CREATE(profagent_old_timer_create, Real().old_timer_create, "timer_create@GLIBC_2.2.5")
#undef PROF_DEFINE_TIMER_CREATE

PROF_EXPORT void pthread_exit(void* result) {
  profagent::EndThread();
  Real().pthread_exit(result);
  __builtin_unreachable();
}

PROF_EXPORT void thrd_exit(int result) {
  profagent::EndThread();
  Real().thrd_exit(result);
  __builtin_unreachable();
}

PROF_EXPORT int pthread_setname_np(pthread_t thread, const char* name) {
  int error = Real().pthread_setname_np(thread, name);
  if (error == 0) g_cpu_capture.RenameThread(static_cast<uintptr_t>(thread), name);
  return error;
}

// libc's prctl reads four arguments, given or not; so do we.
PROF_EXPORT int prctl(int option, ...) {
  va_list list;
  va_start(list, option);
  unsigned long a = va_arg(list, unsigned long);
  unsigned long b = va_arg(list, unsigned long);
  unsigned long c = va_arg(list, unsigned long);
  unsigned long d = va_arg(list, unsigned long);
  va_end(list);
  if (profagent::IsSandboxPrctl(option, static_cast<long>(a), static_cast<long>(b))) {
    return static_cast<int>(profagent::EnterSandbox([&] { return Real().prctl(option, a, b, c, d); },
                                                    [](long result) { return result != 0; }));
  }
  if (option == PR_SET_TSC && a == PR_TSC_SIGSEGV) profagent::UseClockWithoutCounter();
  int result = Real().prctl(option, a, b, c, d);
  if (option == PR_SET_NAME && result == 0 && g_cpu_capture.running()) {
    profagent::ErrnoSaver keep;
    char name[16] = {};  // as the kernel cut it
    if (Real().prctl(PR_GET_NAME, name) == 0) {
      g_cpu_capture.RenameThread(reinterpret_cast<uintptr_t>(__builtin_thread_pointer()),
                                 {name, strnlen(name, sizeof name)});
    }
  }
  return result;
}
