#include <sys/syscall.h>
#include <time.h>

#include "agent/base/raw_syscall.h"
#include "agent/base/safe_read.h"
#include "agent/base/thread_state.h"
#include "agent/capture/monotonic_clock.h"
#include "agent/interpose/loaded_object.h"
#include "agent/lifecycle/continued_wait.h"

namespace profagent {
namespace {

constexpr uint64_t kNanosPerMilli = 1'000'000;

// Which register holds the timeout of a call, as milliseconds or as the address of a timespec.
struct Timeout {
  int place = -1;  // of gregs; -1: it has none that begins again
  bool is_millis = false;
  int rest = -1;  // where the address is at which the kernel has left what is left
};

Timeout TimeoutOf(const greg_t* registers) {
  switch (registers[REG_RAX]) {
    case SYS_poll:
      return {REG_RDX, true};
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
      return {REG_R10, true};
    case SYS_epoll_pwait2:
    case SYS_semtimedop:
      return {REG_R10};
    case SYS_rt_sigtimedwait:
      return {REG_RDX};
    case SYS_nanosleep:
      return {REG_RDI, false, REG_RSI};
    case SYS_clock_nanosleep:
      if ((registers[REG_RSI] & TIMER_ABSTIME) != 0) return {};
      return {REG_RDX, false, REG_R10};
    default:
      return {};
  }
}

// In the upper half of a register whose lower one is milliseconds, of which the kernel reads no more: this call was begun again.
constexpr greg_t kBegunAgain = greg_t{0x50524f46} << 32;

// False: it waits for ever, or cannot be read.
bool ReadTimeout(const Timeout& timeout, greg_t value, uint64_t* nanos) {
  if (timeout.is_millis) {
    *nanos = static_cast<uint32_t>(value) * kNanosPerMilli;
    return static_cast<int32_t>(value) >= 0;
  }
  struct timespec time;
  if (value == 0 || SafeRead(static_cast<uintptr_t>(value), &time, sizeof time) != sizeof time) return false;
  constexpr time_t kLongest = time_t{1} << 32;  // 136 years
  if (time.tv_sec < 0 || time.tv_sec > kLongest) return false;
  *nanos = static_cast<uint64_t>(time.tv_sec) * kNanosPerSecond + static_cast<uint64_t>(time.tv_nsec);
  return true;
}

}  // namespace

void ContinueWait(ucontext_t* context) {
  greg_t* registers = context->uc_mcontext.gregs;
  Timeout timeout = TimeoutOf(registers);
  if (timeout.place < 0 || !IsLibcs(reinterpret_cast<void*>(registers[REG_RIP]))) return;
  greg_t& value = registers[timeout.place];
  if (timeout.rest >= 0 && registers[timeout.rest] != 0) {
    value = registers[timeout.rest];
    return;
  }
  uint64_t nanos = 0;
  if (!ReadTimeout(timeout, value, &nanos)) return;

  ContinuedWait& wait = t_state.continued_wait;
  auto mark = timeout.is_millis ? kBegunAgain : reinterpret_cast<greg_t>(&wait.left);
  bool is_same = (timeout.is_millis ? value >> 32 << 32 : value) == mark;
  uint64_t now = MonotonicNow().value;
  if (!is_same) wait.deadline = now + nanos;
  uint64_t left = wait.deadline > now ? wait.deadline - now : 0;
  wait.left = {static_cast<time_t>(left / kNanosPerSecond), static_cast<long>(left % kNanosPerSecond)};
  value = mark;
  if (timeout.is_millis) value |= static_cast<greg_t>((left + kNanosPerMilli - 1) / kNanosPerMilli);
}

}  // namespace profagent
