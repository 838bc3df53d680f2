// What a call stack is made of, in the ledger and everywhere behind it.
//
// Context: every one. Plain data.
#pragma once

#include <cstdint>

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
};
constexpr Frame MakeSynthetic(SyntheticFrame kind) {
  return Frame::Of(ModuleId::kSynthetic, static_cast<uint64_t>(kind));
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

}  // namespace profagent
