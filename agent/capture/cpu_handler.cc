#include "agent/capture/cpu_handler.h"

#include <fcntl.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <string_view>

#include "agent/base/raw_syscall.h"
#include "agent/base/thread_state.h"
#include "agent/capture/foreign_signals.h"
#include "agent/capture/interrupted_call.h"
#include "agent/capture/perf_events.h"
#include "agent/capture/walk_losses.h"

extern "C" __attribute__((visibility("hidden"), used)) PROF_SIGNAL_SAFE uintptr_t
profagent_on_cpu_signal(int signo, siginfo_t* info, void* context, profagent::HandlerCall* call) {
  return profagent::g_cpu_handler.OnSignal(signo, info, context, call);
}
extern "C" __attribute__((visibility("hidden"))) void profagent_cpu_signal_entry(int signo, siginfo_t* info,
                                                                                 void* context);

PROF_ENTER_APPLICATION_HANDLER("profagent_cpu_signal_entry", "profagent_on_cpu_signal")

namespace profagent {
namespace {

// CPU time, not the clock: on a busy machine the handler may be taken off its processor. The one system call
// that the handler makes for its own sake, and only where its cost is asked for (PROFAGENT_VERBOSE=2).
PROF_SIGNAL_SAFE uint64_t CpuTimeNs() {
  struct timespec now = {};
  RawSyscall(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<uint64_t>(now.tv_sec) * kNanosPerSecond + static_cast<uint64_t>(now.tv_nsec);
}

// A tracer that keeps a tick back and hands it on later, by its number alone (ltrace, when it steps over a breakpoint): the kernel
// then says that the tracer sent it. What is in the file before the line takes 200 bytes at most.
PROF_SIGNAL_SAFE bool IsFromTracer(const siginfo_t& info) {
  constexpr std::string_view kLine = "\nTracerPid:\t";
  if (info.si_code != SI_USER || info.si_pid == 0) return false;
  const long fd = RawSyscall(SYS_openat, AT_FDCWD, "/proc/thread-self/status", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  char status[512];
  const long size = RawSyscall(SYS_read, fd, status, sizeof status);
  RawSyscall(SYS_close, fd);
  for (long at = 0; at + static_cast<long>(kLine.size()) < size; ++at) {
    if (std::memcmp(status + at, kLine.data(), kLine.size()) != 0) continue;
    pid_t tracer = 0;
    for (long i = at + static_cast<long>(kLine.size()); i < size && status[i] >= '0' && status[i] <= '9'; ++i)
      tracer = tracer * 10 + (status[i] - '0');
    return tracer == info.si_pid;
  }
  return false;
}

constexpr bool IsDescriptorSignal(int code) { return code == POLL_IN || code == POLL_HUP; }

}  // namespace

PROF_WRITTEN_AT_START constinit CpuHandler g_cpu_handler;

bool CpuHandler::Start(const Settings& settings) {
  settings_ = settings;
  return scratch_.Start(settings.max_depth);
}

AgentSignalHandler CpuHandler::Entry() { return profagent_cpu_signal_entry; }

ThreadSlot* CpuHandler::OwnerOf(int perf_fd) const {
  ThreadSlot* mine = settings_.slots->OfThisThread();
  if (mine != nullptr && mine->perf_fd.load(std::memory_order_relaxed) == perf_fd) return mine;
  // A thread that was found, not made through us, does not know its slot.
  for (uint32_t i = 0; i < settings_.slots->limit(); ++i) {
    ThreadSlot* slot = settings_.slots->At(i);
    if (slot->use.load(std::memory_order_acquire) == SlotUse::kTimed &&  // acquire: who timed it filled it
        slot->perf_fd.load(std::memory_order_relaxed) == perf_fd) {
      return slot;
    }
  }
  return nullptr;
}

uintptr_t CpuHandler::OnSignal(int signo, siginfo_t* info, void* context, HandlerCall* call) {
  const auto& interrupted = *static_cast<const ucontext_t*>(context);
  if (info->si_code == SI_TIMER) {
    ThreadSlots::Found found = settings_.slots->Find(reinterpret_cast<uint64_t>(info->si_value.sival_ptr));
    uint64_t weight = 1 + (info->si_overrun > 0 ? static_cast<uint64_t>(info->si_overrun) : 0);
    switch (found.meaning) {
      case ThreadSlots::Meaning::kThread:
        OnTick(*found.slot, found.slot, weight, interrupted);
        return AfterTick(signo, call);
      case ThreadSlots::Meaning::kProcess:
        OnTick(process_account_, settings_.slots->OfThisThread(), weight, interrupted);
        return 0;
      case ThreadSlots::Meaning::kStale:  // a timer that was stopped after it fired; what it owed is settled
        return AfterTick(signo, call);
      case ThreadSlots::Meaning::kForeign:
        break;
    }
  } else if (expects_perf_events()) {
    if (IsDescriptorSignal(info->si_code)) {
      ThreadSlot* slot = OwnerOf(info->si_fd);
      if (slot != nullptr) OnPerfTick(slot, interrupted);  // else an event that was closed after it fired
      return AfterTick(signo, call);
    }
    // The kernel had no memory for the signal's details (RLIMIT_SIGPENDING) and sent it bare.
    if (info->si_code == SI_USER && info->si_pid == 0) {
      ThreadSlot* slot = settings_.slots->OfThisThread();
      if (slot != nullptr) OnPerfTick(slot, interrupted);
      return AfterTick(signo, call);
    }
  }
  return OnForeign(signo, call);
}

void CpuHandler::OnPerfTick(ThreadSlot* slot, const ucontext_t& context) {
  if (slot->perf_first.load(std::memory_order_relaxed) && slot->perf_first.exchange(false)) {
    ContinuePerfEvent(slot->perf_fd.load(std::memory_order_relaxed), settings_.period);
  }
  OnTick(*slot, slot, 1, context);
}

void CpuHandler::OnTick(ThreadSlot& account, ThreadSlot* thread, uint64_t weight, const ucontext_t& context) {
  Ledger& ledger = *settings_.ledger;
  if (!ledger.CanRecord()) return;
  // Counted already when the thread's account was settled.
  uint64_t prepaid = account.prepaid.load(std::memory_order_relaxed);
  if (prepaid > 0) {
    uint64_t used = prepaid < weight ? prepaid : weight;
    account.prepaid.fetch_sub(used, std::memory_order_relaxed);
    weight -= used;
    if (weight == 0) return;
  }
  // The process timer's account belongs to all threads; a thread's own is entered twice only if somebody
  // unmasked the signal inside the handler.
  if (&account != &process_account_ && account.in_handler.exchange(1, std::memory_order_acquire) != 0) {
    ledger.header()->cpu_ticks.fetch_add(weight, std::memory_order_relaxed);
    ledger.Count(Loss::kReentered, weight);
    return;
  }
  uint64_t begin = settings_.measure ? CpuTimeNs() : 0;
  Sample(account, thread, weight, context);
  if (settings_.measure) {
    ledger.header()->handler_calls.fetch_add(1, std::memory_order_relaxed);
    ledger.header()->handler_ns.fetch_add(CpuTimeNs() - begin, std::memory_order_relaxed);
  }
  account.in_handler.store(0, std::memory_order_release);
}

void CpuHandler::Sample(ThreadSlot& account, ThreadSlot* thread, uint64_t weight, const ucontext_t& context) {
  Ledger& ledger = *settings_.ledger;
  std::span<Frame> frames = scratch_.Take();
  if (frames.empty()) {
    ledger.header()->cpu_ticks.fetch_add(weight, std::memory_order_relaxed);
    account.ticks.fetch_add(weight, std::memory_order_relaxed);
    ledger.Count(Loss::kNoScratch, weight);
    return;
  }
  StackBounds bounds = thread != nullptr ? thread->bounds : StackBounds{};
  WalkResult walked = settings_.unwinder->Walk(context, bounds, frames);
  CountWalkEnd(ledger, walked.end);
  if (walked.depth == 0) {
    frames[0] = MakeSynthetic(SyntheticFrame::kUnknown);
    walked.depth = 1;
  }
  StackId stack = ledger.InternStack(frames.first(walked.depth), walked.end, weight);
  scratch_.Give(frames);
  TextId name = thread != nullptr ? NameOf(*thread) : kNoText;
  Charge(account, stack, name, weight);
}

TextId CpuHandler::NameOf(ThreadSlot& thread) {
  TextId text{thread.name.load()};
  while (text == kNoText) {
    uint64_t words[ThreadSlot::kNameWords], again[ThreadSlot::kNameWords];
    auto read = [&](uint64_t* to) {
      for (size_t i = 0; i < ThreadSlot::kNameWords; ++i) to[i] = thread.name_words[i].load();
    };
    read(words);
    auto* name = reinterpret_cast<const char*>(words);
    size_t size = sizeof words;
    while (size > 0 && name[size - 1] == '\0') --size;
    text = settings_.ledger->InternText({name, size});
    thread.name.store(text.value);
    if (thread.record != nullptr) thread.record->name.store(text.value, std::memory_order_relaxed);
    read(again);
    if (std::equal(words, std::end(words), again)) break;
    text = kNoText;  // it was renamed meanwhile
  }
  return text;
}

void CpuHandler::Charge(ThreadSlot& account, StackId stack, TextId name, uint64_t ticks) {
  account.ticks.fetch_add(ticks, std::memory_order_relaxed);
  if (AddToLedger(stack, name, ticks)) account.last_stack.store(stack.value, std::memory_order_relaxed);
}

bool CpuHandler::AddToLedger(StackId stack, TextId name, uint64_t ticks) {
  Ledger& ledger = *settings_.ledger;
  ledger.header()->cpu_ticks.fetch_add(ticks, std::memory_order_relaxed);
  return ledger.AddCpuTicks(stack, name, ticks);
}

bool CpuHandler::IsOurs(const siginfo_t& info) const {
  if (g_foreign_signals.IsOffer(info)) return true;
  if (info.si_code == SI_TIMER) {
    return settings_.slots->Find(reinterpret_cast<uint64_t>(info.si_value.sival_ptr)).meaning !=
           ThreadSlots::Meaning::kForeign;
  }
  return expects_perf_events() && IsDescriptorSignal(info.si_code);
}

// The thread made a signalfd, and the application's signal waits for nobody else. From here on the signal is blocked in
// this thread for real, and so the kernel keeps it for the descriptor. A thread whose ticks would be read there cannot be
// timed.
void CpuHandler::BecomeReader(int signo, void* context) {
  ThreadSlot* slot = settings_.slots->OfThisThread();
  if (slot != nullptr) {
    SlotUse timed = SlotUse::kTimed;
    slot->use.compare_exchange_strong(timed, SlotUse::kUntimed);
    int32_t timer = slot->timer_id.exchange(kNoTimer);
    if (timer != kNoTimer) RawSyscall(SYS_timer_delete, timer);
    if (settings_.ledger->is_open()) settings_.ledger->Count(Loss::kThreadNotTimed);
  }
  sigset_t* mask = &static_cast<ucontext_t*>(context)->uc_sigmask;
  uint64_t word = 0;
  std::memcpy(&word, mask, sizeof word);
  word |= SignalBit(signo);
  std::memcpy(mask, &word, sizeof word);
  // The kernel queues one signal of a number for a thread: a tick would stand in the way, and be read.
  siginfo_t info;
  struct timespec no_time = {};
  uint64_t bit = SignalBit(signo);
  uint32_t age = g_foreign_signals.age();
  while (RawSyscall(SYS_rt_sigtimedwait, &bit, &info, &no_time, sizeof bit) == signo) {
    if (!IsOurs(info)) g_foreign_signals.Hold(info, age);
  }
  g_foreign_signals.BeginToRead();
}

bool CpuHandler::Blocks(const void* context) {
  uint64_t mask = 0;
  std::memcpy(&mask, &static_cast<const ucontext_t*>(context)->uc_sigmask, sizeof mask);
  return ForeignSignals::Blocks(mask);
}

uintptr_t CpuHandler::OnForeign(int signo, HandlerCall* call) {
  siginfo_t* info = call->info;
  ForeignSignals& foreign = g_foreign_signals;
  uint32_t age = foreign.age();
  bool offered = foreign.IsOffer(*info);
  if (t_state.waits_for_signal) foreign.Wait(false);  // it left the wait by longjmp, from a handler
  if (Blocks(call->context)) {
    bool process = offered || info->si_code != SI_TKILL;
    if (!offered) foreign.Hold(*info, age);
    bool taken = process && foreign.OfferToTaker();
    if (!taken && foreign.IsReader()) {
      BecomeReader(signo, call->context);
    } else if (!taken && process) {
      foreign.OfferToReader();
    }
  } else if (!offered || foreign.Take(info)) {
    if (foreign.WaitsForThisThread()) foreign.OfferToItself();  // the next one, after this
    return Deliver(signo, call);
  }
  RestartInterruptedCall(static_cast<ucontext_t*>(call->context));
  return 0;
}

uintptr_t CpuHandler::Deliver(int signo, HandlerCall* call) {
  g_foreign_signals.RestoreCode(call->info);
  bool would_kill = false;
  bool on_alternate_stack = true;
  uintptr_t handler = g_virtual_signals.NextHandler(signo, call->context, &would_kill, &on_alternate_stack);
  if (handler == 0 && would_kill) {
    if (settings_.ledger->is_open()) settings_.ledger->Count(Loss::kForeignTick);
    if (!IsFromTracer(*call->info)) {
      if (settings_.before_death != nullptr) settings_.before_death(signo, call->info, call->context);
      g_virtual_signals.DieOf(signo);
    }
  }
  if (handler == 0) RestartInterruptedCall(static_cast<ucontext_t*>(call->context));
  if (!on_alternate_stack) LeaveAlternateStack(call);
  return handler;
}

// The kernel drops an offer to a thread for which a tick is on its way: this is the tick.
uintptr_t CpuHandler::AfterTick(int signo, HandlerCall* call) {
  if (g_foreign_signals.WaitsForThisThread() && !Blocks(call->context) && g_foreign_signals.Take(call->info))
    return Deliver(signo, call);
  RestartInterruptedCall(static_cast<ucontext_t*>(call->context));
  return 0;
}

}  // namespace profagent
