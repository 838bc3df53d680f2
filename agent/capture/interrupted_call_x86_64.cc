#include <fcntl.h>
#include <linux/futex.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <initializer_list>

#include "agent/base/raw_syscall.h"
#include "agent/base/safe_read.h"
#include "agent/capture/handler_return.h"
#include "agent/capture/interrupted_call.h"
#include "agent/capture/virtual_signals.h"

namespace profagent {
namespace {

constexpr uintptr_t kPage = 4096;
constexpr uint8_t kMovImmediateToEax = 0xb8;  // four bytes of number follow
constexpr uint32_t kMovLength = 5;

bool IsFutexWait(greg_t operation) {
  auto command = static_cast<uint32_t>(operation) & static_cast<uint32_t>(FUTEX_CMD_MASK);
  return command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET;
}

PROF_SIGNAL_SAFE bool DoesNothingBeforeEintr(uint32_t number, const greg_t* registers) {
  switch (number) {
    case SYS_poll:
    case SYS_ppoll:
    case SYS_select:
    case SYS_pselect6:
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
    case SYS_nanosleep:
    case SYS_clock_nanosleep:
    case SYS_pause:
    case SYS_rt_sigsuspend:
    case SYS_rt_sigtimedwait:
    case SYS_semtimedop:
    case SYS_semop:
    case SYS_msgsnd:
    case SYS_msgrcv:
    case SYS_io_getevents:
    case SYS_io_pgetevents:
    case SYS_io_uring_enter:  // what it has submitted or completed is its result otherwise
    case SYS_recvfrom:        // with SO_RCVTIMEO; without it the kernel restarts it itself
    case SYS_recvmsg:
    case SYS_recvmmsg:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_accept:
    case SYS_accept4:
      return true;
    case SYS_futex:  // with a timeout; without one the kernel restarts it itself
      return IsFutexWait(registers[REG_RSI]);
    default:
      return false;
  }
}

PROF_SIGNAL_SAFE bool MayEndWithEintr(const greg_t* registers) {
  auto second = static_cast<uint32_t>(registers[REG_RSI]);
  switch (registers[REG_RAX]) {
    case SYS_read:
    case SYS_readv:
    case SYS_pread64:
    case SYS_preadv:
    case SYS_preadv2:
    case SYS_write:
    case SYS_writev:
    case SYS_pwrite64:
    case SYS_pwritev:
    case SYS_pwritev2:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_recvmmsg:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_sendmmsg:
    case SYS_accept:
    case SYS_accept4:
    case SYS_connect:
    case SYS_wait4:
    case SYS_waitid:
    case SYS_open:
    case SYS_openat:
    case SYS_ioctl:
    case SYS_flock:
    case SYS_splice:
    case SYS_tee:
    case SYS_vmsplice:
    case SYS_sendfile:
    case SYS_mq_timedsend:
    case SYS_mq_timedreceive:
    case SYS_getrandom:
      return true;
    case SYS_fcntl:
      return second == F_SETLKW || second == F_OFD_SETLKW;
    case SYS_futex:
      return IsFutexWait(registers[REG_RSI]);
    default:
      return false;
  }
}

// `mov register, [rsp+8 bits]` or `[rbp+8 bits]` with any register but eax: what stands between number and call where libc
// runs out of registers. Its length, 0: another instruction.
uint32_t LoadLength(const uint8_t* code) {
  uint32_t prefix = code[0] == 0x48 ? 1 : 0;
  code += prefix;
  if (code[0] != 0x8b || (code[1] & 0x38) == 0) return 0;
  if ((code[1] & 0xc7) == 0x45) return prefix + 3;
  return (code[1] & 0xc7) == 0x44 && code[2] == 0x24 ? prefix + 4 : 0;
}

// From where `mov register, [rsp+8 bits]` or `[rbp+8 bits]`, of 64 bits and right before `behind`, has loaded. 0: another
// instruction.
uintptr_t LoadedBefore(const uint8_t* behind, uint8_t loaded, uintptr_t rsp, uintptr_t rbp) {
  auto operand = static_cast<uint8_t>(0x44 | loaded << 3);
  uintptr_t offset = uintptr_t{behind[-1] ^ 0x80u} - 0x80;  // of a signed byte
  if (behind[-5] == 0x48 && behind[-4] == 0x8b && behind[-3] == operand && behind[-2] == 0x24)
    return rsp + offset;
  return behind[-4] == 0x48 && behind[-3] == 0x8b && behind[-2] == (operand | 1) ? rbp + offset : 0;
}

// Since glibc 2.41 all calls at which a thread may be cancelled are made by one function, which has the number from its stack:
// it makes them itself, or hands the number in rsi to __syscall_cancel_arch, which overwrites that. SYS_read: nothing of the kind.
PROF_SIGNAL_SAFE uint32_t NumberOnStack(const uint8_t* code, const greg_t* registers) {
  constexpr uint8_t kRax = 0, kRsi = 6;
  // How the latter begins its call, in assembly: mov r9, [rsp+16]; mov [rsp+8], r11.
  constexpr uint8_t kCancellable[] = {0x4c, 0x8b, 0x4c, 0x24, 0x10, 0x4c, 0x89, 0x5c, 0x24, 0x08};
  constexpr uint32_t kReach = 48, kCallLength = 5, kLongestLoad = 5;
  auto rsp = static_cast<uintptr_t>(registers[REG_RSP]);
  auto rbp = static_cast<uintptr_t>(registers[REG_RBP]);
  uintptr_t place = LoadedBefore(code, kRax, rsp, rbp);
  if (place == 0) {
    uintptr_t caller = 0;
    uint8_t before[kReach];
    if (std::memcmp(code - sizeof kCancellable, kCancellable, sizeof kCancellable) != 0 ||
        SafeRead(rsp, &caller, sizeof caller) != sizeof caller || caller < kReach ||
        SafeRead(caller - kReach, before, kReach) != kReach)
      return SYS_read;
    const uint8_t* behind = before + kReach - kCallLength;
    while (place == 0 && behind >= before + kLongestLoad)
      place = LoadedBefore(behind--, kRsi, rsp + sizeof caller, rbp);
  }
  uint64_t number = SYS_read;
  if (place == 0 || SafeRead(place, &number, sizeof number) != sizeof number) return SYS_read;
  return number <= INT32_MAX ? static_cast<uint32_t>(number) : SYS_read;
}

// Of `mov eax, register`, as liburing's loop has it: the register, which the call has left as it was. nullptr: another instruction.
const greg_t* MovedToEax(const uint8_t* behind, const greg_t* registers) {
  constexpr uint8_t kOld[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI};
  if (behind[-2] != 0x89 || (behind[-1] & 0xc7) != 0xc0) return nullptr;
  uint32_t index = behind[-1] >> 3 & 7;
  return &registers[(behind[-3] & 0xf4) == 0x44 ? REG_R8 + index : kOld[index]];
}

// Of the call at `code`, if it is on the list. SYS_read: it is not.
PROF_SIGNAL_SAFE uint32_t NumberOf(const uint8_t* code, const greg_t* registers) {
  auto is_listed = [&](uint32_t number) { return DoesNothingBeforeEintr(number, registers); };
  if (const greg_t* moved = MovedToEax(code, registers)) {
    auto number = static_cast<uint32_t>(*moved);
    if (is_listed(number)) return number;
  }
  for (uint32_t between : {0u, 3u, 4u, 5u}) {
    const uint8_t* move = code - between - kMovLength;
    if (*move != kMovImmediateToEax) continue;
    if (between != 0 && LoadLength(move + kMovLength) != between) continue;
    uint32_t number = 0;
    std::memcpy(&number, move + 1, sizeof number);
    if (is_listed(number)) return number;
  }
  uint32_t number = NumberOnStack(code, registers);
  return is_listed(number) ? number : SYS_read;
}

// The kernel has gone back to the call, to begin it again.
PROF_SIGNAL_SAFE bool IsRestarted(const greg_t* registers) {
  greg_t pc = registers[REG_RIP];
  if (registers[REG_RCX] != pc + 2) return false;  // what the instruction leaves there
  auto* code = reinterpret_cast<const uint8_t*>(pc);
  return code[0] == 0x0f && code[1] == 0x05 && MayEndWithEintr(registers);
}

void EndWithEintr(greg_t* registers) {
  registers[REG_RIP] += 2;
  registers[REG_RAX] = -EINTR;
}

// One of the application's, which the kernel enters when ours has returned, and without the flag `but_with`. (Of the CPU signal it
// may be another tick, which then has the last word.) Not known in a sandbox, where a system call could kill.
PROF_SIGNAL_SAFE bool HandlerIsNext(const ucontext_t& context, uint64_t but_with) {
  if (g_virtual_signals.is_retreated()) return false;
  uint64_t pending = 0;
  uint64_t blocked = 0;
  RawSyscall(SYS_rt_sigpending, &pending, sizeof pending);  // of all signals: every one is blocked here
  std::memcpy(&blocked, &context.uc_sigmask, sizeof blocked);
  for (pending &= ~blocked; pending != 0; pending &= pending - 1) {
    KernelSigaction action = g_virtual_signals.ApplicationAction(__builtin_ctzll(pending) + 1);
    if (!action.is_default() && !action.is_ignored() && (action.flags & but_with) == 0) return true;
  }
  return false;
}

}  // namespace

bool RestartInterruptedCall(ucontext_t* context) {
  greg_t* registers = context->uc_mcontext.gregs;
  if (registers[REG_RAX] != -EINTR) {
    if (IsRestarted(registers) && HandlerIsNext(*context, SA_RESTART)) EndWithEintr(registers);
    return false;
  }
  if (CameFromHandler(*context)) return false;
  auto pc = static_cast<uintptr_t>(registers[REG_RIP]);
  constexpr uint32_t kFurthest = 2 + 5 + kMovLength;
  auto* code = reinterpret_cast<const uint8_t*>(pc);
  uint8_t copy[kFurthest];
  if ((pc & (kPage - 1)) < kFurthest) {  // the page before this one may not be there
    if (SafeRead(pc - kFurthest, copy, kFurthest) != kFurthest) return false;
    code = copy + kFurthest;
  }
  if (code[-2] != 0x0f || code[-1] != 0x05) return false;  // not behind a `syscall`
  uint32_t number = NumberOf(code - 2, registers);
  if (number == SYS_read || HandlerIsNext(*context, 0)) return false;
  registers[REG_RIP] = static_cast<greg_t>(pc - 2);
  registers[REG_RAX] = number;
  return true;
}

bool EndRestartedCall(ucontext_t* context) {
  if (!IsRestarted(context->uc_mcontext.gregs)) return false;
  EndWithEintr(context->uc_mcontext.gregs);
  return true;
}

}  // namespace profagent
