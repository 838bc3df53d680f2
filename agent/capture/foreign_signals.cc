#include "agent/capture/foreign_signals.h"

#include <cstring>

#include "agent/base/raw_syscall.h"
#include "agent/base/short_wait.h"
#include "agent/capture/virtual_signals.h"

namespace profagent {
namespace {

// Behind what siginfo_t has for a queued signal; the kernel carries it along and shows it to handlers and sigwait, but not
// to readers of a signalfd.
struct CodeBehind {
  uint64_t value;
  int32_t code;
};
constexpr size_t kCodeAt = 32;
static_assert(kCodeAt + sizeof(CodeBehind) <= 48, "what the kernel carries");

}  // namespace

PROF_WRITTEN_AT_START constinit ForeignSignals g_foreign_signals;

class ForeignSignals::Locked {
 public:
  PROF_ALWAYS_INLINE explicit Locked(std::atomic<uint32_t>& locked) : locked_(locked) {
    for (ShortWait wait; locked_.exchange(1, std::memory_order_acquire) != 0;) wait.Once();
  }
  PROF_ALWAYS_INLINE ~Locked() { locked_.store(0, std::memory_order_release); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  std::atomic<uint32_t>& locked_;
};

void ForeignSignals::Start(ThreadSlots* slots, int signo) {
  slots_ = slots;
  signo_ = signo;
}

void ForeignSignals::ResetAfterFork() {
  locked_.store(0, std::memory_order_relaxed);
  held_.store(false, std::memory_order_relaxed);
  t_state.holds_signal = false;
  if (reader_.load(std::memory_order_relaxed) == 0) return;
  reader_.store(static_cast<uint32_t>(RawSyscall(SYS_gettid)), std::memory_order_relaxed);
  reads_.store(t_state.reads_signal, std::memory_order_relaxed);
}

// seq_cst, here and where it is read: who begins to want the signal says so before it looks at what is held, and who holds
// one does so before it looks for takers. One of them sees the other.
void ForeignSignals::TellOthers() {
  ThreadSlot* slot = slots_->OfThisThread();
  if (slot == nullptr) return;
  bool blocks = t_state.asked_to_block;
  if (t_state.reads_signal) blocks = (ChangeSignalMask(SIG_BLOCK, 0) & SignalBit(signo_)) != 0;
  bool wants = !blocks || t_state.waits_for_signal;
  slot->taker.store(wants ? slot->tid.load(std::memory_order_relaxed) : 0, std::memory_order_seq_cst);
}

void ForeignSignals::Block(bool block) {
  t_state.asked_to_block = block;
  TellOthers();
}

void ForeignSignals::Wait(bool wait) {
  t_state.waits_for_signal = wait;
  TellOthers();
}

void ForeignSignals::EndThread() {
  ThreadSlot* slot = slots_->OfThisThread();
  if (slot == nullptr) return;
  slot->taker.store(0, std::memory_order_seq_cst);
  if (!held_.load(std::memory_order_seq_cst)) return;
  AllSignalsBlocked blocked;
  if (!OfferToTaker()) OfferToReader();
}

void ForeignSignals::LetThrough() {
  if (t_state.asked_to_block || t_state.hold_depth > 0) return;
  // Its own and the process's; where a handler of ours is no longer in force, nothing takes them.
  for (int i = 0; i < 2 && WaitsForThisThread(); ++i) {
    OfferToItself();
    if ((ChangeSignalMask(SIG_BLOCK, 0) & SignalBit(signo_)) != 0) return;
  }
}

void ForeignSignals::OfferToItself() { SendOffer(static_cast<uint32_t>(RawSyscall(SYS_gettid))); }

void ForeignSignals::Hold(const siginfo_t& info, uint32_t age) {
  if (info.si_code == SI_TKILL) {
    if (HoldsItsOwn()) return;
    t_state.held = info;
    t_state.held_age = age;
    t_state.holds_signal = true;
    return;
  }
  Locked lock(locked_);
  if (held_.load(std::memory_order_relaxed) || age != this->age()) return;
  info_ = info;
  held_.store(true, std::memory_order_seq_cst);
}

bool ForeignSignals::Take(siginfo_t* info) {
  if (!HoldsItsOwn()) return TakeFromProcess(info);
  *info = t_state.held;
  t_state.holds_signal = false;
  return true;
}

bool ForeignSignals::TakeWhatWaits(siginfo_t* info) {
  if (!WaitsForThisThread()) return false;
  AllSignalsBlocked blocked;
  return Take(info);
}

bool ForeignSignals::TakeFromProcess(siginfo_t* info) {
  if (!held_.load(std::memory_order_seq_cst)) return false;
  Locked lock(locked_);
  if (!held_.load(std::memory_order_relaxed)) return false;
  *info = info_;
  held_.store(false, std::memory_order_relaxed);
  return true;
}

bool ForeignSignals::SendOffer(uint32_t tid) {
  long pid = RawSyscall(SYS_getpid);
  siginfo_t offer = {};
  offer.si_signo = signo_;
  offer.si_code = SI_QUEUE;
  offer.si_pid = static_cast<pid_t>(pid);
  offer.si_value.sival_ptr = reinterpret_cast<void*>(slots_->OfferValue());
  return RawSyscall(SYS_rt_tgsigqueueinfo, pid, tid, signo_, &offer) == 0;
}

bool ForeignSignals::OfferToTaker() {
  for (uint32_t i = 0; i < slots_->limit(); ++i) {
    ThreadSlot* slot = slots_->At(i);
    uint32_t tid = slot->taker.load(std::memory_order_seq_cst);
    if (tid == 0) continue;
    if (SendOffer(tid)) return true;
    slot->taker.compare_exchange_strong(tid, 0);  // it has ended without a word
  }
  return false;
}

void ForeignSignals::OfferToReader() {
  uint32_t reader = reader_.load(std::memory_order_acquire);
  if (reader == 0) return;
  if (!reads_.load(std::memory_order_acquire)) {
    SendOffer(reader);
    return;
  }
  siginfo_t info;
  if (!TakeFromProcess(&info)) return;
  if (info.si_code >= 0) {
    // To another thread only a queued signal can be sent with its details.
    CodeBehind behind = {slots_->OfferValue(), info.si_code};
    info.si_code = SI_QUEUE;
    std::memcpy(reinterpret_cast<char*>(&info) + kCodeAt, &behind, sizeof behind);
  }
  RawSyscall(SYS_rt_tgsigqueueinfo, RawSyscall(SYS_getpid), reader, signo_, &info);
}

bool ForeignSignals::IsOffer(const siginfo_t& info) const {
  // Where the user may have no more queued signals (RLIMIT_SIGPENDING), it comes bare.
  bool bare = info.si_code == SI_USER && info.si_pid == 0;
  if (bare) return WaitsForThisThread();
  return info.si_code == SI_QUEUE &&
         reinterpret_cast<uint64_t>(info.si_value.sival_ptr) == slots_->OfferValue();
}

void ForeignSignals::RestoreCode(siginfo_t* info) const {
  CodeBehind behind;
  if (info->si_code != SI_QUEUE) return;
  std::memcpy(&behind, reinterpret_cast<char*>(info) + kCodeAt, sizeof behind);
  if (behind.value == slots_->OfferValue()) info->si_code = behind.code;
}

void ForeignSignals::Discard() {
  AllSignalsBlocked blocked;
  Locked lock(locked_);
  age_.fetch_add(1, std::memory_order_relaxed);
  held_.store(false, std::memory_order_relaxed);
}

void ForeignSignals::ReadBy(int descriptor, uint64_t mask) {
  reader_.store(0, std::memory_order_relaxed);
  descriptor_ = descriptor;
  mask_ = mask;
  reads_.store(false, std::memory_order_relaxed);
  reader_.store(static_cast<uint32_t>(RawSyscall(SYS_gettid)), std::memory_order_seq_cst);
  if (WaitsForThisThread()) OfferToItself();
}

bool ForeignSignals::IsReader() const {
  return reader_.load(std::memory_order_acquire) == RawSyscall(SYS_gettid);
}

void ForeignSignals::BeginToRead() {
  RawSyscall(SYS_signalfd4, descriptor_, &mask_, sizeof mask_, 0);
  t_state.reads_signal = true;
  t_state.asked_to_block = false;  // its masks are the kernel's
  if (ThreadSlot* slot = slots_->OfThisThread()) slot->taker.store(0, std::memory_order_seq_cst);
  reads_.store(true, std::memory_order_release);
  siginfo_t info;
  if (Take(&info)) g_virtual_signals.PassOn(signo_, &info);
}

}  // namespace profagent
