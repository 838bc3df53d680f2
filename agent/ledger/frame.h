// What a call stack is made of, in the ledger and everywhere behind it.
//
// Context: every one. Plain data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace profagent {

// One load of one object (the program, a library, the vDSO), counted from 1 in the order of first meeting. A
// library that is closed and opened again gets a new id. 0: no object at that address (JIT code).
enum class ModuleId : uint16_t { kNone = 0, kMaxLoaded = 0x1ffe, kSynthetic = 0xffff };

// A code position, independent of where the module was loaded: 16 bits module, 48 bits address in the
// module's own numbering (as in its ELF file: what a symbol table or llvm-symbolizer means). With
// ModuleId::kNone: the low 48 bits of the absolute address. The leaf holds the interrupted instruction, a
// caller the last byte of its call (return address - 1), so the value is what goes into profile.proto's
// Location.address after the load bias is added.
struct Frame {
  uint64_t value = 0;

  static constexpr uint64_t kOffsetMask = (uint64_t{1} << 48) - 1;

  static constexpr Frame Of(ModuleId module, uint64_t offset) {
    return Frame{static_cast<uint64_t>(module) << 48 | (offset & kOffsetMask)};
  }
  constexpr ModuleId module() const { return static_cast<ModuleId>(value >> 48); }
  constexpr uint64_t offset() const { return value & kOffsetMask; }
  constexpr bool operator==(const Frame&) const = default;
};

// Frames that no code stands behind. Shown by name; always at the root side of a stack or as its only frame.
enum class SyntheticFrame : uint64_t {
  kTruncated = 1,  // [truncated]: the depth limit cut the root side off
  kUnknown = 2,    // [unknown]: not even the leaf could be read
  // From here on: the function that the program called to wait or to unlock, the leaf of a block or mutex stack. Our hook
  // stands in its place in the program, so the ledger has its name.
  kPrimitives = 16,
};
constexpr Frame MakeSynthetic(SyntheticFrame kind) {
  return Frame::Of(ModuleId::kSynthetic, static_cast<uint64_t>(kind));
}

// The blocking calls and the unlocking ones, each by the name under which programs call it.
enum class Primitive : uint32_t {
  kMutexLock,
  kMutexTimedlock,
  kMutexClocklock,
  kMutexUnlock,
  kRwlockRdlock,
  kRwlockTimedrdlock,
  kRwlockClockrdlock,
  kRwlockWrlock,
  kRwlockTimedwrlock,
  kRwlockClockwrlock,
  kRwlockUnlock,
  kCondWait,
  kCondTimedwait,
  kCondClockwait,
  kBarrierWait,
  kSemWait,
  kSemTimedwait,
  kSemClockwait,
  kJoin,
  kTimedjoin,
  kClockjoin,
  kSpinLock,
  kSpinUnlock,
  kMtxLock,
  kMtxTimedlock,
  kMtxUnlock,
  kCndWait,
  kCndTimedwait,
  kThrdJoin,
  kFutex,
  kCount,
};
constexpr std::string_view PrimitiveName(Primitive primitive) {
  constexpr std::string_view kNames[] = {
      "pthread_mutex_lock",
      "pthread_mutex_timedlock",
      "pthread_mutex_clocklock",
      "pthread_mutex_unlock",
      "pthread_rwlock_rdlock",
      "pthread_rwlock_timedrdlock",
      "pthread_rwlock_clockrdlock",
      "pthread_rwlock_wrlock",
      "pthread_rwlock_timedwrlock",
      "pthread_rwlock_clockwrlock",
      "pthread_rwlock_unlock",
      "pthread_cond_wait",
      "pthread_cond_timedwait",
      "pthread_cond_clockwait",
      "pthread_barrier_wait",
      "sem_wait",
      "sem_timedwait",
      "sem_clockwait",
      "pthread_join",
      "pthread_timedjoin_np",
      "pthread_clockjoin_np",
      "pthread_spin_lock",
      "pthread_spin_unlock",
      "mtx_lock",
      "mtx_timedlock",
      "mtx_unlock",
      "cnd_wait",
      "cnd_timedwait",
      "thrd_join",
      "futex",
  };
  static_assert(sizeof kNames / sizeof kNames[0] == static_cast<size_t>(Primitive::kCount));
  return kNames[static_cast<uint32_t>(primitive)];
}
constexpr Frame PrimitiveFrame(Primitive primitive) {
  return Frame::Of(ModuleId::kSynthetic,
                   static_cast<uint64_t>(SyntheticFrame::kPrimitives) + static_cast<uint64_t>(primitive));
}

// Why a walk ended. Stored with the stack; every end but kOutermost is counted as a loss.
enum class WalkEnd : uint8_t {
  kOutermost,     // the caller of the last frame is marked undefined: the thread's start, or _start
  kDepthLimit,    // PROFAGENT_MAXDEPTH
  kUnreadable,    // the stack ends outside readable memory
  kNoUnwindInfo,  // no CFI at the address and no plausible frame-pointer chain
  kNoProgress,    // the next CFA would not be above this one: a loop, or broken CFI
};

struct [[nodiscard]] WalkResult {
  uint32_t depth = 0;
  WalkEnd end = WalkEnd::kOutermost;
};

inline constexpr uint32_t kDefaultMaxDepth = 128;
inline constexpr uint32_t kMaxDepthLimit = 1024;  // PROFAGENT_MAXDEPTH's upper bound
// Frames that a heap stack may begin with and that profiles hide (operator new, reallocarray): it is recorded so much
// deeper, or the deepest stacks would come out shorter than PROFAGENT_MAXDEPTH says.
inline constexpr uint32_t kHiddenLeafRoom = 4;
inline constexpr uint32_t kMaxStackRecord = kMaxDepthLimit + kHiddenLeafRoom;

}  // namespace profagent
