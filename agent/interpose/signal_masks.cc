#include "agent/interpose/signal_masks.h"

#include <cerrno>
#include <cstring>

#include "agent/base/errno_saver.h"
#include "agent/base/raw_syscall.h"
#include "agent/base/thread_state.h"
#include "agent/capture/cpu_capture.h"
#include "agent/capture/virtual_signals.h"

namespace profagent {
namespace {

bool Holds(const sigset_t& set, uint64_t bit) {
  uint64_t word = 0;
  std::memcpy(&word, &set, sizeof word);
  return (word & bit) != 0;
}

void Put(sigset_t* set, uint64_t bit, bool value) {
  uint64_t word = 0;
  std::memcpy(&word, set, sizeof word);
  word = value ? word | bit : word & ~bit;
  std::memcpy(set, &word, sizeof word);
}

// To this thread, with everything that it came with.
void SendHeldSignal(int signo) {
  t_state.holds_signal = false;
  siginfo_t info = t_state.held;
  g_virtual_signals.PassOn(signo, &info);
}

}  // namespace

int ChangeMask(MaskFunction original, int how, const sigset_t* set, sigset_t* old) {
  int signo = g_cpu_capture.signo();
  if (signo == 0 || t_state.reads_signal) return original(how, set, old);
  uint64_t bit = SignalBit(signo);
  bool asked_before = t_state.asked_to_block;
  bool asked = asked_before;
  sigset_t copy;
  const sigset_t* given = set;
  if (set != nullptr) {
    copy = *set;
    given = &copy;
    bool named = Holds(copy, bit);
    if (how == SIG_BLOCK && named) asked = true;
    if (how == SIG_UNBLOCK && named) asked = false;
    if (how == SIG_SETMASK) asked = named;
    if (asked != asked_before && !g_cpu_capture.IsThisProcess()) return original(how, set, old);
    // Around fork and exec the agent itself blocks the signal; an application's fork handler must not undo
    // that.
    bool held_back = t_state.hold_depth > 0;
    if (how == SIG_SETMASK) Put(&copy, bit, held_back);
    if (how == SIG_BLOCK || held_back) Put(&copy, bit, how == SIG_SETMASK);
  }
  int result = original(how, given, old);
  if (result != 0) return result;
  t_state.asked_to_block = asked;
  // In the application's handler of the signal the kernel blocks it for real, and that is the application's
  // view too.
  if (old != nullptr) Put(old, bit, asked_before || (t_state.hold_depth == 0 && Holds(*old, bit)));
  if (!asked && t_state.holds_signal) SendHeldSignal(signo);
  return 0;
}

TemporaryMask::TemporaryMask(const sigset_t* wanted) : given_(wanted) {
  int signo = g_cpu_capture.signo();
  if (signo == 0 || wanted == nullptr || t_state.reads_signal) return;
  ErrnoSaver keep;
  uint64_t bit = SignalBit(signo);
  copy_ = *wanted;
  bool asked = Holds(copy_, bit);
  Put(&copy_, bit, false);
  given_ = &copy_;
  changed_ = true;
  asked_before_ = t_state.asked_to_block;
  if (!asked && t_state.holds_signal) {
    // It must arrive inside the call, which then ends with EINTR; before it, the call would wait for nothing.
    blocked_ = true;
    ChangeSignalMask(SIG_BLOCK, bit);
    SendHeldSignal(signo);
  }
  t_state.asked_to_block = asked;
}

TemporaryMask::~TemporaryMask() {
  if (!changed_) return;
  t_state.asked_to_block = asked_before_;
  int signo = g_cpu_capture.signo();  // 0: the process has entered a sandbox meanwhile
  if (blocked_ && signo != 0) ChangeSignalMask(SIG_UNBLOCK, SignalBit(signo));
}

}  // namespace profagent
