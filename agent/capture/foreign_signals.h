// CPU signals that are the application's and that no thread takes yet: what the kernel keeps as pending, where the kernel
// cannot, because it never sees the signal blocked (agent/interpose/signal_masks.h).
//
// Context:   Start in `bootstrap`; what is marked, in `signal` and `hook`; the rest in `hook`. All in the thread that it is
//            about.
// As in the kernel: one signal waits for each thread (pthread_kill, raise) and one for the process (kill, sigqueue,
//            setitimer); more of the same are dropped. A thread takes its own first. SIG_IGN discards all.
// Process:   the kernel believes that any thread wants the signal, and may choose one that blocks it. So that thread
//            holds it for the process and offers it to one that wants it: does not block it, or waits for it in sigwait.
//            The offer is the same signal with a value of ours; its receiver takes what is held, as it was sent. It is not
//            handed over in the offer itself, because the kernel lets no thread send another the details of a kill, and
//            drops the offer where a signal of that number is queued for the thread already: then that one is as good.
//            Whoever begins to want it (unblocks it, waits for it, begins) looks at what is held after it has said so, and
//            who holds one looks for takers after it has held it: no signal stays where somebody wants it.
// signalfd:  where nobody wants it, it goes to the thread that made a signalfd of it, and is blocked there for real from
//            then on, so that the kernel keeps it for the descriptor.
// Beware:    a signal of a timer with SIGEV_THREAD_ID and one of pthread_sigqueue look as if they were sent to the process.
// Locks:     one spin lock, held with every signal blocked, for a few instructions.
#pragma once

#include <signal.h>

#include <atomic>
#include <cstdint>

#include "agent/base/signal_safe.h"
#include "agent/base/thread_state.h"
#include "agent/capture/thread_slots.h"

namespace profagent {

class ForeignSignals {
 public:
  void Start(ThreadSlots* slots, int signo);
  // In a forked child: pending signals are not inherited.
  void ResetAfterFork();

  // Whether this thread's mask holds the signal, to the application; `mask` is the kernel's. Not when of the others that it
  // blocks beside none is blocked any more: it has set another mask past libc. The Go runtime does so in every thread, which
  // began with all blocked.
  PROF_ALWAYS_INLINE static bool Blocks(uint64_t mask) {
    return t_state.asked_to_block && (t_state.blocks_beside == 0 || (t_state.blocks_beside & mask) != 0);
  }
  // What this thread's mask is to the application; whether it is in sigwait or its kin for the signal.
  void Block(bool block);
  PROF_SIGNAL_SAFE void Wait(bool wait);
  // One or the other may have changed: what other threads are told of it.
  PROF_SIGNAL_SAFE void TellOthers();
  // It has ended, or is about to: what was offered to it goes to another.
  void EndThread();
  // What waits and this thread now lets through is delivered to it, at once or when the kernel's mask lets it.
  void LetThrough();

  // `age` is what it was before the signal was looked at: one that SIG_IGN has overtaken is gone.
  PROF_SIGNAL_SAFE void Hold(const siginfo_t& info, uint32_t age);
  PROF_ALWAYS_INLINE uint32_t age() const { return age_.load(std::memory_order_relaxed); }
  // This thread's own, or the process's. Every signal must be blocked, or the handler be running.
  PROF_SIGNAL_SAFE bool Take(siginfo_t* info);
  bool TakeWhatWaits(siginfo_t* info);  // the same for all others
  // What is held for the process, to a thread that wants it. False: there is none.
  PROF_SIGNAL_SAFE bool OfferToTaker();
  PROF_SIGNAL_SAFE void OfferToItself();
  // To the reader of a signalfd, another thread than this. There is none: it stays.
  PROF_SIGNAL_SAFE void OfferToReader();
  PROF_SIGNAL_SAFE bool IsOffer(const siginfo_t& info) const;
  // What came by way of OfferToReader has its true code again.
  PROF_SIGNAL_SAFE void RestoreCode(siginfo_t* info) const;
  PROF_ALWAYS_INLINE bool WaitsForThisThread() const {
    return held_.load(std::memory_order_seq_cst) || HoldsItsOwn();
  }

  // sigpending's answer for this thread.
  bool IsPending() const { return t_state.asked_to_block && WaitsForThisThread(); }
  // The application set SIG_IGN.
  void Discard();

  // This thread made a signalfd with `mask`, which holds the signal; the kernel was given it without, because our ticks
  // must not be read there.
  void ReadBy(int descriptor, uint64_t mask);
  PROF_SIGNAL_SAFE bool IsReader() const;
  // In the reader, once: from here on the kernel has the whole mask, and what waits. The caller has emptied the kernel's
  // queue of the signal, and blocks it for real where the handler returns to.
  PROF_SIGNAL_SAFE void BeginToRead();

 private:
  class Locked;
  PROF_ALWAYS_INLINE bool HoldsItsOwn() const { return t_state.holds_signal && t_state.held_age == age(); }
  PROF_SIGNAL_SAFE bool TakeFromProcess(siginfo_t* info);
  PROF_SIGNAL_SAFE bool SendOffer(uint32_t tid);

  ThreadSlots* slots_ = nullptr;
  int signo_ = 0;
  std::atomic<uint32_t> locked_{0};
  std::atomic<bool> held_{false};  // for the process
  siginfo_t info_{};
  std::atomic<uint32_t> age_{0};  // counts SIG_IGNs: what a thread holds from before is gone

  // The newest signalfd.
  std::atomic<uint32_t> reader_{0};  // tid of the thread that made it; 0: none. release: the three below
  std::atomic<bool> reads_{false};   // it has begun to
  int descriptor_ = -1;
  uint64_t mask_ = 0;
};

extern constinit ForeignSignals g_foreign_signals;

}  // namespace profagent
