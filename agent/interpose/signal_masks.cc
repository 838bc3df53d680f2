#include "agent/interpose/signal_masks.h"

#include <cstring>

#include "agent/base/errno_saver.h"
#include "agent/base/raw_syscall.h"
#include "agent/base/thread_state.h"
#include "agent/capture/cpu_capture.h"
#include "agent/capture/foreign_signals.h"
#include "agent/capture/virtual_signals.h"

namespace profagent {
namespace {

// The kernel and libc (its signals for cancellation and setuid) take them out of every mask.
constexpr uint64_t kNeverBlocked = SignalBit(SIGKILL) | SignalBit(SIGSTOP) | SignalBit(32) | SignalBit(33);

uint64_t WordOf(const sigset_t& set) {
  uint64_t word = 0;
  std::memcpy(&word, &set, sizeof word);
  return word;
}

bool Holds(const sigset_t& set, uint64_t bit) { return (WordOf(set) & bit) != 0; }

void Put(sigset_t* set, uint64_t bit, bool value) {
  uint64_t word = WordOf(*set);
  word = value ? word | bit : word & ~bit;
  std::memcpy(set, &word, sizeof word);
}

bool IsVforkChild() {
  if (g_cpu_capture.IsThisProcess()) {
    t_state.real_mask_pid = 0;
    return false;
  }
  g_cpu_capture.MakeMaskReal();
  return true;
}

}  // namespace

int ChangeMask(MaskFunction original, int how, const sigset_t* set, sigset_t* old) {
  int signo = g_cpu_capture.signo();
  if (signo == 0) return original(how, set, old);
  if (t_state.reads_signal) {
    int result = original(how, set, old);
    if (set != nullptr && result == 0) g_foreign_signals.TellOthers();
    return result;
  }
  uint64_t bit = SignalBit(signo);
  if (t_state.blocks_beside != 0 && t_state.real_mask_pid == 0 &&
      !ForeignSignals::Blocks(ChangeSignalMask(SIG_BLOCK, 0))) {
    g_foreign_signals.Block(false);
    t_state.blocks_beside = 0;
  }
  bool asked_before = t_state.asked_to_block;
  bool asked = asked_before;
  sigset_t copy;
  const sigset_t* given = set;
  uint64_t named_beside = 0;
  if (set != nullptr) {
    copy = *set;
    given = &copy;
    named_beside = WordOf(copy) & ~(bit | kNeverBlocked);
    bool named = Holds(copy, bit);
    if (how == SIG_BLOCK && named) asked = true;
    if (how == SIG_UNBLOCK && named) asked = false;
    if (how == SIG_SETMASK) asked = named;
    if ((asked || asked_before || t_state.real_mask_pid != 0) && IsVforkChild())
      return original(how, set, old);
    if (asked && !asked_before) {
      uint64_t blocked_before = ChangeSignalMask(SIG_BLOCK, 0);
      // In a handler whose mask holds the signal, the kernel blocks it for real, and goes on: what waits must not come into the
      // handler, and the mask that the handler puts back is forgotten when it returns, where we do not see it.
      if (t_state.hold_depth == 0 && (blocked_before & bit) != 0) return original(how, set, old);
      // What was blocked already does not show when a handler that blocks returns.
      if ((named_beside & ~blocked_before) != 0) named_beside &= ~blocked_before;
    }
    // Around fork and exec the agent itself blocks the signal; an application's fork handler must not undo
    // that.
    bool held_back = t_state.hold_depth > 0;
    if (how == SIG_SETMASK) Put(&copy, bit, held_back);
    if (how == SIG_BLOCK || held_back) Put(&copy, bit, how == SIG_SETMASK);
  }
  // At no time more than the kernel's mask holds.
  if (set != nullptr && how == SIG_SETMASK) t_state.blocks_beside &= named_beside;
  if (how == SIG_UNBLOCK) t_state.blocks_beside &= ~named_beside;
  int result = original(how, given, old);
  if (result != 0) return result;
  if (how != SIG_UNBLOCK) t_state.blocks_beside |= named_beside;
  if (!asked) t_state.blocks_beside = 0;
  if (asked != asked_before) g_foreign_signals.Block(asked);
  // In the application's handler of the signal the kernel blocks it for real, and that is the application's
  // view too.
  if (old != nullptr) Put(old, bit, asked_before || (t_state.hold_depth == 0 && Holds(*old, bit)));
  if (set != nullptr && !asked) g_foreign_signals.LetThrough();
  return 0;
}

// A thread that blocks the signal and lets it through in the call only: for real, so that what comes just before or after the
// call waits for the call, or is held. Before it, the call would wait for nothing.
TemporaryMask::TemporaryMask(const sigset_t* wanted) : given_(wanted), beside_before_(t_state.blocks_beside) {
  int signo = g_cpu_capture.signo();
  if (signo == 0 || wanted == nullptr || t_state.reads_signal) return;
  ErrnoSaver keep;
  uint64_t bit = SignalBit(signo);
  copy_ = *wanted;
  bool asked = Holds(copy_, bit);
  Put(&copy_, bit, false);
  given_ = &copy_;
  t_state.blocks_beside &= WordOf(copy_);
  asked_before_ = t_state.asked_to_block;
  changed_ = asked != asked_before_;
  if (!changed_) return;
  blocked_ = asked_before_ && (ChangeSignalMask(SIG_BLOCK, bit) & bit) == 0;
  g_foreign_signals.Block(asked);
  g_foreign_signals.LetThrough();
}

TemporaryMask::~TemporaryMask() {
  t_state.blocks_beside = beside_before_;
  if (!changed_) return;
  int signo = g_cpu_capture.signo();
  if (signo == 0) {  // the process has entered a sandbox meanwhile
    t_state.asked_to_block = asked_before_;
    return;
  }
  ErrnoSaver keep;
  g_foreign_signals.Block(asked_before_);
  if (blocked_) ChangeSignalMask(SIG_UNBLOCK, SignalBit(signo));
  g_foreign_signals.LetThrough();
}

}  // namespace profagent
