// CPU time that the timers owe: what was spent and never arrived as a signal, and whose stack it is charged to.
//
// Context:   `hook` and `dump`, in the thread that ends, over a timer that is stopped, or for a dump, of threads that go on.
//            System calls only, no lock.
// Debts:     the kernel looks at a CPU timer at its own tick, 1 to 10 ms apart, and only at the thread that
//            runs then: on a busy machine a thread may run for 100 ms and more in turns that meet no tick.
//            What expired after the last look before a thread ended never arrives: 10 % of a thread that
//            lives 20 ms, on an idle machine. When a thread ends, its CPU clock says how many periods are
//            owed, and they go to the stack that was sampled last: its own, or, when it was never sampled,
//            that of the last thread with the same start routine, which most likely did the same work. A
//            forked child that met no tick is charged where it ends: that names what it did, its start does not.
//            In the middle of a run every thread owes some milliseconds: a third of what it spent, when that is little.
// Prepaid:   a signal may be on its way while its time is settled. What was settled is remembered in the
//            account, and the handler counts so much less (agent/capture/cpu_handler.cc).
#pragma once

#include <time.h>

#include <atomic>
#include <cstdint>

#include "agent/base/units.h"
#include "agent/capture/thread_slots.h"
#include "agent/ledger/ledger.h"
#include "agent/unwind/unwinder.h"

namespace profagent {

class CpuDebts {
 public:
  void Start(Ledger* ledger, Unwinder* unwinder, Nanos period, uint32_t max_depth);

  // Counts the periods that expired on `clock` and did not arrive yet. The signal is held back, the timer is stopped, or the
  // thread goes on: a tick of it that is counted in the same instant is twice in the account until the next one comes.
  void Settle(ThreadSlot* account, clockid_t clock);

  // The same of the calling thread of a forked child, which ends here or becomes another program.
  void SettleHere(ThreadSlot* slot);

  // The same of the calling thread, which ends: its stack will serve others that begin as it did.
  void SettleEndingThread(ThreadSlot* slot);

  // In a forked child: the stacks were another ledger's.
  void Forget();

 private:
  struct Sibling {  // the newest stack of a thread that began at `start_routine`
    std::atomic<uintptr_t> start_routine;
    std::atomic<RecordId> stack;
  };
  static constexpr uint32_t kSiblings = 64;

  Sibling& SiblingOf(const ThreadSlot& slot);
  StackId StackOfDebt(const ThreadSlot& account, Nanos owed);
  StackId StackHere(StackBounds bounds);

  Ledger* ledger_ = nullptr;
  Unwinder* unwinder_ = nullptr;
  Nanos period_;
  uint32_t max_depth_ = 0;
  Sibling siblings_[kSiblings] = {};
};

}  // namespace profagent
