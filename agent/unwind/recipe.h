// A row of the unwind table in one 64-bit word: what a warm frame needs, and nothing else.
//
// Context: `signal`, `hook`. Plain data; equal rows are equal words, so they are shared (recipe_cache.h).
// Layout:  bits 0-2 kind | 3-6 base register | 7-28 offset / 8, signed | 29-33 added / 8 |
//          34-63 six fields of 5 bits: where rbp, rbx, r12, r13, r14, r15 are saved.
// A field: 31: not saved. Otherwise the register stands at CFA - 8 * (field + 1), or, in a kRealigned row, at
//          base register - 8 * field (gcc's realigned frames name rbp, since the CFA's distance varies).
// The return address is always at CFA - 8. Rows that do not fit (one in some 5 000 of libc's and libcrypto's: signal frames, return
// addresses elsewhere, CFAs with odd offsets, offsets of 16 MiB) are kGeneric: decoded again at each frame.
#pragma once

#include <cstdint>

#include "agent/base/signal_safe.h"
#include "agent/unwind/eh_frame.h"
#include "agent/unwind/registers.h"

namespace profagent {

enum class RecipeKind : uint8_t {
  kNone = 0,          // an empty cache slot
  kPlain = 1,         // CFA = base + offset
  kDereferenced = 2,  // CFA = *(base + offset) + added
  kRealigned = 3,     // the same, and registers are saved relative to base
  kOutermost = 4,     // no caller
  kGeneric = 5,
  kFramePointer = 6,  // no usable unwind information: frame_pointer.h
};

class Recipe {
 public:
  static constexpr uint8_t kNotSaved = 31;

  constexpr Recipe() = default;
  constexpr explicit Recipe(uint64_t bits) : bits_(bits) {}
  static constexpr Recipe Of(RecipeKind kind) { return Recipe(static_cast<uint64_t>(kind)); }

  PROF_ALWAYS_INLINE constexpr uint64_t bits() const { return bits_; }
  PROF_ALWAYS_INLINE constexpr RecipeKind kind() const { return static_cast<RecipeKind>(bits_ & 7); }
  PROF_ALWAYS_INLINE constexpr uint8_t base() const { return bits_ >> 3 & 15; }
  PROF_ALWAYS_INLINE constexpr int64_t offset() const {
    return (static_cast<int64_t>(bits_ << 35) >> 42) * 8;  // bits 7..28, sign extended
  }
  PROF_ALWAYS_INLINE constexpr uint64_t added() const { return (bits_ >> 29 & 31) * 8; }
  // Of kCalleeSaved[i].
  PROF_ALWAYS_INLINE constexpr uint8_t saved(unsigned i) const { return bits_ >> (34 + 5 * i) & 31; }
  constexpr bool operator==(const Recipe&) const = default;

 private:
  uint64_t bits_ = 0;
};
static_assert(sizeof(Recipe) == 8);

// The recipe of the row at `pc`; kGeneric when the row has a form that does not fit.
PROF_SIGNAL_SAFE Recipe MakeRecipe(const EhFrameTables& tables, const UnwindRow& row, uintptr_t pc);

// CFA = register + offset, and where registers are saved, in the recipe's fields. kNone: does not fit.
PROF_ALWAYS_INLINE Recipe MakePlainRecipe(uint64_t cfa_register, uint64_t cfa_offset, uint64_t fields) {
  constexpr uint64_t kLimit = uint64_t{1} << 24;  // bytes: what 22 bits of words hold, signed
  if (cfa_register >= kReturnAddress || cfa_offset % 8 != 0 || cfa_offset >= kLimit) return {};
  return Recipe(static_cast<uint64_t>(RecipeKind::kPlain) | cfa_register << 3 | cfa_offset / 8 << 7 |
                fields << 34);
}

}  // namespace profagent
