#include "agent/unwind/quick_recipe.h"

#include <cstring>

#include "agent/unwind/cfa_operation.h"

namespace profagent {
namespace {

template <class Value>
PROF_ALWAYS_INLINE Value Load(uintptr_t at) {
  Value value;
  std::memcpy(&value, reinterpret_cast<const void*>(at), sizeof value);
  return value;
}

// Version 1, code alignment 1, data alignment -8, return address in column 16, addresses pc-relative in 4 bytes
// (0x1b); CFA = rsp + 8, return address at CFA - 8, two bytes of padding. In memory order from the version on.
constexpr uint64_t kPlainStart = 0x01107801'00527a01;        // 1 "zR" 1 -8 16 1
constexpr uint64_t kPersonalityStart = 0x7801'00524c507a01;  // 1 "zPLR" 1 -8
constexpr uint16_t kPersonalityMiddle = 0x0710;       // 16 7: a personality of 4 bytes, and two encodings
constexpr uint64_t kProgram = 0x0000'0190'0807'0c1b;  // 0x1b, def_cfa 7 8, offset 16 1, nop, nop
constexpr uint32_t kPlainLength = 0x14;
constexpr uint32_t kPersonalityLength = 0x1c;

PROF_ALWAYS_INLINE bool IsCompilersCie(const MemoryRange& segment, uintptr_t at) {
  if (!segment.Holds(at, 4 + kPlainLength)) return false;
  if (Load<uint32_t>(at + 4) != 0) return false;
  uint32_t length = Load<uint32_t>(at);
  if (length == kPlainLength) {
    return Load<uint64_t>(at + 8) == kPlainStart && Load<uint64_t>(at + 16) == kProgram;
  }
  if (length != kPersonalityLength || !segment.Holds(at, 4 + kPersonalityLength)) return false;
  uint8_t format = Load<uint8_t>(at + 18) & kPointerFormatMask;
  return Load<uint64_t>(at + 8) == kPersonalityStart && Load<uint16_t>(at + 16) == kPersonalityMiddle &&
         (format == kPointerUdata4 || format == kPointerSdata4) && Load<uint64_t>(at + 24) == kProgram;
}

// A row as far as a recipe can hold it.
struct Row {
  uint64_t cfa_register = kStackPointer;
  uint64_t cfa_offset = 8;
  uint64_t saved = (uint64_t{1} << 5 * kCalleeSavedCount) - 1;  // the recipe's fields: Recipe::kNotSaved each
};

// Which field of the recipe, by register; kNoField: none.
constexpr uint8_t kNoField = 15;
PROF_ALWAYS_INLINE uint64_t FieldOf(unsigned number) {
  constexpr uint64_t kFields = [] {
    uint64_t fields = ~uint64_t{0};
    for (unsigned i = 0; i < kCalleeSavedCount; ++i) {
      unsigned at = 4 * kCalleeSaved[i];
      fields = (fields & ~(uint64_t{15} << at)) | uint64_t{i} << at;
    }
    return fields;
  }();
  return number < 16 ? kFields >> 4 * number & 15 : kNoField;
}

// At most 28 bits; more, or the end: `limit` is passed.
PROF_ALWAYS_INLINE uint64_t Uleb(uintptr_t* at, uintptr_t limit) {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 28; shift += 7) {
    if (*at >= limit) break;
    uint8_t byte = Load<uint8_t>((*at)++);
    value |= uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return value;
  }
  *at = limit + 1;
  return 0;
}

}  // namespace

Recipe QuickRecipe(const EhFrameTables& tables, uintptr_t entry, uintptr_t pc) {
  constexpr uintptr_t kHead = 17;  // length, CIE, start, size, and the augmentation's length
  const MemoryRange& segment = tables.segment;
  if (!segment.Holds(entry, kHead)) return {};
  uint32_t length = Load<uint32_t>(entry);
  if (length < kHead - 4 || length > INT32_MAX || !segment.Holds(entry + 4, length)) return {};
  uint32_t distance = Load<uint32_t>(entry + 4);
  if (distance == 0 || distance > entry + 4 - segment.start) return {};
  if (!IsCompilersCie(segment, entry + 4 - distance)) return {};
  intptr_t to_code = Load<int32_t>(entry + 8);
  uintptr_t location = entry + 8 + static_cast<uintptr_t>(to_code);
  uint32_t size = Load<uint32_t>(entry + 12);  // signed, as the address
  if (to_code == 0 || pc - location >= size || size > INT32_MAX || size > UINTPTR_MAX - location) return {};

  uintptr_t limit = entry + 4 + length;
  uint8_t augmentation = Load<uint8_t>(entry + 16);
  uintptr_t at = entry + kHead + augmentation;
  if (augmentation >= 0x80 || at > limit) return {};

  Row row, remembered;
  bool remembers = false;
  while (at < limit) {
    uint8_t operation = Load<uint8_t>(at++);
    unsigned operand = operation & kOperandMask;
    uint64_t advance = 0;
    if (operation >= kOffset) {  // or kRestore
      uint64_t words = operation < kRestore ? Uleb(&at, limit) : 0;
      if (operand == kReturnAddress) {
        if (operation < kRestore && words != 1) return {};
      } else {
        uint64_t field = FieldOf(operand);
        if (field == kNoField) return {};
        if (operation >= kRestore)
          words = Recipe::kNotSaved + 1;
        else if (words - 1 >= Recipe::kNotSaved)
          return {};
        row.saved = (row.saved & ~(uint64_t{31} << 5 * field)) | (words - 1) << 5 * field;
      }
    } else if (operation >= kAdvanceLoc) {
      advance = operand;
    } else if (operation == kDefCfaOffset) {
      row.cfa_offset = Uleb(&at, limit);
    } else if (operation == kNop) {
    } else if (operation <= kAdvanceLoc4 && operation != kSetLoc) {
      unsigned width = 1u << (operation - kAdvanceLoc1);
      if (limit - at < width) return {};
      for (unsigned i = 0; i < width; ++i) advance |= uint64_t{Load<uint8_t>(at++)} << 8 * i;
    } else if (operation == kRememberState) {
      if (remembers) return {};
      remembers = true;
      remembered = row;
    } else if (operation == kRestoreState) {
      if (!remembers) return {};
      remembers = false;
      row = remembered;
    } else if (operation == kDefCfa) {
      row.cfa_register = Uleb(&at, limit);
      if (row.cfa_register >= kReturnAddress) return {};
      row.cfa_offset = Uleb(&at, limit);
    } else if (operation == kDefCfaRegister) {
      row.cfa_register = Uleb(&at, limit);
      if (row.cfa_register >= kReturnAddress) return {};
    } else if (operation == kGnuArgsSize) {
      Uleb(&at, limit);
    } else {
      return {};
    }
    if (at > limit) return {};
    location += advance;
    if (location > pc) break;
  }
  return MakePlainRecipe(row.cfa_register, row.cfa_offset, row.saved);
}

}  // namespace profagent
