#include "agent/unwind/eh_frame.h"

#include <gtest/gtest.h>

#include "agent/unwind/recipe.h"
#include "agent/unwind/table_index.h"
#include "tests/unit/unwind/eh_frame_builder.h"

namespace profagent {
namespace {

using Program = std::vector<uint8_t>;
constexpr uintptr_t kCode = EhFrameBuilder::kCode;

// What every x86-64 CIE begins with: CFA = rsp + 8, return address at CFA - 8.
const Program kAtCall = {0x0c, 7, 8, 0x80 | 16, 1};

struct Rows {
  EhFrameBuilder builder;
  EhFrameTables tables;

  explicit Rows(const Program& program, const Program& initial = kAtCall, int code_alignment = 1) {
    builder.Cie("", {}, initial, code_alignment);
    builder.Fde(kCode, 0x1000, program);
    builder.End32();
    tables = builder.Linear();
  }
  bool Find(uintptr_t offset, UnwindRow* row) {
    FrameEntry entry;
    return FindFrameEntry(tables, nullptr, kCode + offset, &entry) &&
           FindRow(tables, entry, kCode + offset, row);
  }
  UnwindRow At(uintptr_t offset) {
    UnwindRow row = {};
    EXPECT_TRUE(Find(offset, &row)) << offset;
    return row;
  }
  Recipe RecipeAt(uintptr_t offset) { return MakeRecipe(tables, At(offset), kCode + offset); }
};

TEST(EhFrame, GivesTheRowOfEachAddress) {
  // push rbp; mov rsp, rbp; ...; leave: def_cfa rsp 8
  Rows rows({0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d, 6, 0x02, 0x60, 0x0c, 7, 8});
  EXPECT_EQ(rows.At(0).cfa_register, kStackPointer);
  EXPECT_EQ(rows.At(0).cfa_offset, 8);
  EXPECT_EQ(rows.At(0).rule[kFramePointer], RegisterRule::kSame);
  EXPECT_EQ(rows.At(0).value[kReturnAddress], -8);
  EXPECT_EQ(rows.At(1).cfa_offset, 16);
  EXPECT_EQ(rows.At(1).value[kFramePointer], -16);
  EXPECT_EQ(rows.At(3).cfa_register, kStackPointer);
  EXPECT_EQ(rows.At(4).cfa_register, kFramePointer);
  EXPECT_EQ(rows.At(0x63).cfa_register, kFramePointer);
  EXPECT_EQ(rows.At(0x64).cfa_register, kStackPointer);
  EXPECT_EQ(rows.At(0xfff).cfa_offset, 8);
  UnwindRow row;
  EXPECT_FALSE(rows.Find(0x1000, &row));
}

// Memory below the stack pointer as an earlier call may have left it: every byte is RegisterRule::kRegister.
__attribute__((noinline)) void PaintTheStack() {
  volatile uint8_t paint[8192];
  for (volatile uint8_t& byte : paint) byte = static_cast<uint8_t>(RegisterRule::kRegister);
}

// There is no row before it that DW_CFA_restore could go back to: it went to what the stack held, and a register of number
// 67372036 was read.
TEST(EhFrame, RestoresNothingInACommonEntry) {
  Program initial = kAtCall;
  initial.insert(initial.end(), {0xc0 | kRbx, 0x06, kR12});
  Rows rows({}, initial);
  FrameEntry entry;
  UnwindRow row;
  ASSERT_TRUE(FindFrameEntry(rows.tables, nullptr, kCode, &entry));
  PaintTheStack();
  ASSERT_TRUE(FindRow(rows.tables, entry, kCode, &row));
  EXPECT_EQ(row.rule[kRbx], RegisterRule::kSame);
  EXPECT_EQ(row.rule[kR12], RegisterRule::kSame);
}

TEST(EhFrame, AdvancesInEveryWidth) {
  Rows rows({0x02, 4,  0x0e, 16, 0x03, 8, 0, 0x0e, 24, 0x04, 16, 0,    0, 0,
             0x0e, 32, 0x1d, 32, 0,    0, 0, 0,    0,  0,    0,  0x0e, 40},
            kAtCall, 2);
  EXPECT_EQ(rows.At(7).cfa_offset, 8);
  EXPECT_EQ(rows.At(8).cfa_offset, 16);
  EXPECT_EQ(rows.At(24).cfa_offset, 24);
  EXPECT_EQ(rows.At(56).cfa_offset, 32);
  EXPECT_EQ(rows.At(120).cfa_offset, 40);
  Program jump = {0x01};  // DW_CFA_set_loc, absolute
  for (int i = 0; i < 8; ++i) jump.push_back(static_cast<uint8_t>((kCode + 0x40) >> 8 * i));
  jump.insert(jump.end(), {0x0e, 48});
  Rows set_loc(jump);
  EXPECT_EQ(set_loc.At(0x3f).cfa_offset, 8);
  EXPECT_EQ(set_loc.At(0x40).cfa_offset, 48);
}

TEST(EhFrame, KnowsEveryRegisterRule) {
  Rows rows({0x05, 3,  3,               // offset_extended rbx
             0x11, 12, 0x7c,            // offset_extended_sf r12, -4 * -8
             0x2f, 13, 2,               // GNU_negative_offset_extended r13
             0x14, 14, 2,               // val_offset
             0x15, 15, 0x7e,            // val_offset_sf
             0x09, 0,  1,               // register: rax in rdx
             0x07, 2,                   // undefined
             0x08, 4,                   // same value
             0x10, 8,  2,    0x77, 16,  // expression
             0x16, 9,  2,    0x77, 24,  // val_expression
             0x2e, 8,                   // GNU_args_size
             0x05, 17, 4,               // a vector register: passed over
             0x10, 18, 1,    0x96});    // and one with an expression
  UnwindRow row = rows.At(0);
  EXPECT_EQ(row.rule[kRbx], RegisterRule::kOffset);
  EXPECT_EQ(row.value[kRbx], -24);
  EXPECT_EQ(row.value[kR12], 32);
  EXPECT_EQ(row.value[kR13], 16);
  EXPECT_EQ(row.rule[kR14], RegisterRule::kValueOffset);
  EXPECT_EQ(row.value[kR14], -16);
  EXPECT_EQ(row.value[kR15], 16);
  EXPECT_EQ(row.rule[kRax], RegisterRule::kRegister);
  EXPECT_EQ(row.value[kRax], kRdx);
  EXPECT_EQ(row.rule[kRcx], RegisterRule::kUndefined);
  EXPECT_EQ(row.rule[8], RegisterRule::kExpression);
  EXPECT_EQ(ExpressionCode(rows.tables, row.value[8]).left(), 2u);
  EXPECT_EQ(row.rule[9], RegisterRule::kValueIsExpression);
}

TEST(EhFrame, RestoresAndRemembers) {
  Rows rows({0x0e, 16,   0x83, 2,              // rbx saved
             0x41, 0x0a,                       // remember
             0x0e, 64,   0x86, 3,              // rbp saved too
             0x41, 0x0a, 0x0d, 6, 0x41, 0x0b,  // back to the second
             0x41, 0x0b,                       // back to the first
             0x41, 0xc3,                       // restore rbx: what the CIE says
             0x41, 0x06, 16});                 // restore_extended
  EXPECT_EQ(rows.At(1).cfa_offset, 64);
  EXPECT_EQ(rows.At(2).cfa_register, kFramePointer);
  EXPECT_EQ(rows.At(3).cfa_register, kStackPointer);
  EXPECT_EQ(rows.At(3).rule[kFramePointer], RegisterRule::kOffset);
  EXPECT_EQ(rows.At(4).cfa_offset, 16);
  EXPECT_EQ(rows.At(4).rule[kFramePointer], RegisterRule::kSame);
  EXPECT_EQ(rows.At(4).value[kRbx], -16);
  EXPECT_EQ(rows.At(5).rule[kRbx], RegisterRule::kSame);
  EXPECT_EQ(rows.At(6).value[kReturnAddress], -8);
}

TEST(EhFrame, RefusesWhatItCannotHold) {
  UnwindRow row;
  EXPECT_FALSE(Rows({0x0b}).Find(0, &row)) << "restore_state without remember_state";
  Program nested(kMaxRemembered, 0x0a);
  EXPECT_TRUE(Rows(nested).Find(0, &row));
  nested.push_back(0x0a);
  EXPECT_FALSE(Rows(nested).Find(0, &row)) << "deeper than the stack of rows";
  EXPECT_FALSE(Rows({0x3f}).Find(0, &row)) << "an unknown operation";
  EXPECT_FALSE(Rows({0x0c, 40, 8}).Find(0, &row)) << "a CFA on a vector register";
  EXPECT_FALSE(Rows({}, {0x80 | 16, 1}).Find(0, &row)) << "no CFA at all";
  EXPECT_FALSE(Rows({0x0e, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}).Find(0, &row)) << "an offset beyond 32 bits";
  EXPECT_FALSE(Rows({0x0f, 0x7f}).Find(0, &row)) << "an expression that passes the end of the entry";
  EXPECT_FALSE(Rows({0x0f, 1, 0x96, 0x0e, 8}).Find(0, &row)) << "an offset on top of an expression";
}

TEST(EhFrame, BeginsAtZeroWhereARegisterReplacesAnExpression) {
  UnwindRow row = Rows({0x0f, 2, 0x77, 8, 0x0d, 6}).At(0);
  EXPECT_EQ(row.cfa_rule, CfaRule::kRegisterOffset);
  EXPECT_EQ(row.cfa_register, kFramePointer);
  EXPECT_EQ(row.cfa_offset, 0);
}

TEST(EhFrame, ReadsPointersThatAreAligned) {
  alignas(8) const uint8_t bytes[24] = {1, 0, 0, 0, 0, 0, 0, 0, 0x78, 0x56, 0x34, 0x12};
  auto at = reinterpret_cast<uintptr_t>(bytes);
  ByteReader reader(at, at + sizeof bytes);
  reader.U8();
  EXPECT_EQ(reader.Pointer(kPointerAligned, {}, {}), 0x12345678u);
  EXPECT_EQ(reader.at(), at + 16);
}

TEST(EhFrame, ReadsEveryAugmentationAndVersion) {
  struct Case {
    const char* augmentation;
    Program data;
    int version;
    bool signal_frame;
  };
  const Case cases[] = {
      {"", {}, 1, false},
      {"eh", {}, 1, false},
      {"zR", {kPointerAbsolute}, 1, false},
      {"zRS", {kPointerAbsolute}, 1, true},
      {"zPLR", {kPointerUdata4, 1, 2, 3, 4, kPointerUdata4, kPointerAbsolute}, 1, false},
      {"zPLR",
       {kPointerPcRelative | kPointerSdata4 | kPointerIndirect, 1, 2, 3, 4, kPointerOmitted, 0},
       3,
       false},
      {"zRB", {kPointerAbsolute}, 4, false},
      {"zRx", {kPointerAbsolute, 9, 9}, 3, false},  // unknown letters: `z` says how much to skip
  };
  for (const Case& each : cases) {
    EhFrameBuilder builder;
    builder.Cie(each.augmentation, each.data, kAtCall, 1, each.version);
    builder.Fde(kCode, 16, {0x0e, 24}, each.augmentation[0] == 'z');
    builder.End32();
    EhFrameTables tables = builder.Linear();
    FrameEntry entry;
    UnwindRow row;
    ASSERT_TRUE(FindFrameEntry(tables, nullptr, kCode, &entry)) << each.augmentation << each.version;
    EXPECT_EQ(entry.signal_frame, each.signal_frame);
    ASSERT_TRUE(FindRow(tables, entry, kCode, &row));
    EXPECT_EQ(row.cfa_offset, 24);
  }
  EhFrameBuilder unknown;
  unknown.Cie("q", {}, kAtCall);
  unknown.Fde(kCode, 16, {});
  unknown.End32();
  FrameEntry entry;
  EXPECT_FALSE(FindFrameEntry(unknown.Linear(), nullptr, kCode, &entry));
}

// The CIE's id was read as 8 bytes.
TEST(EhFrame, ReadsLengthsOf64Bits) {
  EhFrameBuilder builder(EhFrameBuilder::Lengths::k64Bits);
  builder.Cie("zR", {kPointerAbsolute}, kAtCall);
  builder.Fde(kCode, 16, {0x0e, 24}, true);
  builder.Fde(kCode + 16, 16, {0x0e, 32}, true);
  EhFrameTables sorted = builder.WithHeader(true);
  for (const EhFrameTables& tables : {sorted, builder.Linear()}) {
    FrameEntry entry;
    UnwindRow row;
    ASSERT_TRUE(FindFrameEntry(tables, nullptr, kCode + 16, &entry));
    ASSERT_TRUE(FindRow(tables, entry, kCode + 16, &row));
    EXPECT_EQ(row.cfa_offset, 32);
  }
}

TEST(EhFrame, ReadsEveryPointerEncoding) {
  struct Case {
    uint8_t encoding;
    size_t width;
  };
  const Case cases[] = {
      {kPointerPcRelative | kPointerSdata4, 4},   {kPointerPcRelative | kPointerUdata8, 8},
      {kPointerPcRelative | kPointerSdata8, 8},   {kPointerDataRelative | kPointerSdata4, 4},
      {kPointerDataRelative | kPointerUdata4, 4}, {kPointerAbsolute | kPointerUdata8, 8}};
  for (const Case& each : cases) {
    EhFrameBuilder builder;
    builder.Cie("zR", {each.encoding}, kAtCall);
    uintptr_t code = builder.near_code();
    uintptr_t field = builder.here() + 8;  // behind length and CIE pointer
    uint64_t value = code;
    if ((each.encoding & kPointerBaseMask) == kPointerPcRelative) value -= field;
    if ((each.encoding & kPointerBaseMask) == kPointerDataRelative) value -= builder.Linear().header;
    Program address(2 * each.width, 0);
    memcpy(address.data(), &value, each.width);
    address[each.width] = 32;
    builder.Fde(code, 32, {0x0e, 16}, true, address);
    builder.End32();
    FrameEntry entry;
    ASSERT_TRUE(FindFrameEntry(builder.Linear(), nullptr, code + 31, &entry)) << int{each.encoding};
    EXPECT_EQ(entry.start, code);
    EXPECT_EQ(entry.limit, code + 32);
  }
}

TEST(EhFrame, FindsTheSameEntryWithATableAnIndexAndWithout) {
  for (bool wide : {false, true}) {
    EhFrameBuilder builder;
    builder.Cie("", {}, kAtCall);
    uintptr_t code = builder.near_code();
    uintptr_t at = code;
    std::vector<uintptr_t> starts;
    for (unsigned i = 0; i < 700; ++i) {  // uneven sizes, with holes, and a far one at the end
      starts.push_back(at);
      uintptr_t size = 1 + (i * i) % 97;
      builder.Fde(at, size, {0x0e, static_cast<uint8_t>(8 + i % 8 * 8)});
      at += size + (i % 5 == 0 ? 13 : 0) + (i == 690 ? 1 << 20 : 0);
    }
    EhFrameTables linear = builder.Linear();
    EhFrameTables sorted = builder.WithHeader(wide);
    linear.segment = sorted.segment;
    ASSERT_NE(sorted.table, 0u);
    ASSERT_EQ(sorted.table_count, starts.size());
    std::vector<uint32_t> room(TableIndex::SizeFor(sorted));
    TableIndex index;
    ASSERT_TRUE(index.Build(sorted, room.data()));
    for (uintptr_t pc = code - 5;
         pc<at + 5; pc += pc> starts[690] + 200 && pc < starts[691] - 200 ? 1000 : 1) {
      FrameEntry a, b, c;
      bool found = FindFrameEntry(linear, nullptr, pc, &a);
      ASSERT_EQ(FindFrameEntry(sorted, nullptr, pc, &b), found) << pc - code;
      ASSERT_EQ(FindFrameEntry(sorted, &index, pc, &c), found) << pc - code;
      if (!found) continue;
      ASSERT_EQ(a.start, b.start);
      ASSERT_EQ(a.start, c.start);
    }
  }
}

TEST(EhFrame, RefusesAnIndexOverATableThatIsNotSorted) {
  EhFrameBuilder builder;
  builder.Cie("", {}, kAtCall);
  uintptr_t code = builder.near_code();
  for (unsigned stretch : {0, 2, 1, 3}) {  // of what the index looks at once
    for (unsigned i = 0; i < TableIndex::kStride; ++i) {
      builder.Fde(code + (stretch * TableIndex::kStride + i) * 16, 16, {});
    }
  }
  EhFrameTables tables = builder.WithHeader();
  std::vector<uint32_t> room(TableIndex::SizeFor(tables));
  TableIndex index;
  EXPECT_FALSE(index.Build(tables, room.data()));
}

// Found by eh_frame_fuzzer as a timeout: the index of a few entries has one bucket, and no shift brought such a range into it.
TEST(EhFrame, RefusesAnIndexOverARangeThatNoObjectHas) {
  for (uintptr_t range : {TableIndex::kLargestRange, uintptr_t{1} << 63, ~uintptr_t{0} - 0x20000}) {
    EhFrameBuilder builder;
    builder.Cie("", {}, kAtCall);
    builder.Fde(builder.kCode, 16, {});
    builder.Fde(builder.kCode + range, 16, {});
    EhFrameTables tables = builder.WithHeader(true);
    ASSERT_EQ(tables.table_count, 2u);
    std::vector<uint32_t> room(TableIndex::SizeFor(tables));
    TableIndex index;
    EXPECT_FALSE(index.Build(tables, room.data())) << std::hex << range;
  }
}

// The index looks at every kStride-th entry only: disorder between them may hide an entry, and must not give a wrong one.
TEST(EhFrame, GivesNoWrongEntryWhereDisorderEscapesTheIndex) {
  EhFrameBuilder builder;
  builder.Cie("", {}, kAtCall);
  uintptr_t code = builder.near_code();
  constexpr unsigned kEntries = 4 * TableIndex::kStride;
  for (unsigned i = 0; i < kEntries; ++i) {
    unsigned place = i % TableIndex::kStride == 5 ? i + 4 : i % TableIndex::kStride == 9 ? i - 4 : i;
    builder.Fde(code + place * 16, 16, {});
  }
  EhFrameTables tables = builder.WithHeader();
  std::vector<uint32_t> room(TableIndex::SizeFor(tables));
  TableIndex index;
  ASSERT_TRUE(index.Build(tables, room.data()));
  unsigned found = 0;
  for (uintptr_t pc = code; pc < code + kEntries * 16; ++pc) {
    FrameEntry entry;
    if (!FindFrameEntry(tables, &index, pc, &entry)) continue;
    ++found;
    ASSERT_TRUE(pc >= entry.start && pc < entry.limit) << pc - code;
  }
  EXPECT_GT(found, kEntries / 2 * 16);
}

TEST(EhFrame, SearchesTheEntriesWhenTheTableIsCutOff) {
  EhFrameBuilder builder;
  builder.Cie("", {}, kAtCall);
  builder.Fde(builder.near_code(), 16, {0x0e, 24});
  EhFrameTables whole = builder.WithHeader();
  MemoryRange cut = {whole.segment.start, whole.segment.limit - 1};
  EhFrameTables tables = ReadEhFrameHeader(whole.header, &cut, 1, 0);
  EXPECT_EQ(tables.table, 0u);
  FrameEntry entry;
  EXPECT_TRUE(FindFrameEntry(tables, nullptr, builder.near_code(), &entry));
}

// --- recipes

TEST(Recipe, HoldsTheRowsThatCompilersWrite) {
  Rows rows({0x0e, 0xd0, 1, 0x83, 7, 0x86, 6, 0x8c, 5, 0x8d, 4, 0x8e, 3, 0x8f, 2});
  Recipe recipe = rows.RecipeAt(0);
  EXPECT_EQ(recipe.kind(), RecipeKind::kPlain);
  EXPECT_EQ(recipe.base(), kStackPointer);
  EXPECT_EQ(recipe.offset(), 208);
  const uint8_t words[] = {6, 7, 5, 4, 3, 2};  // rbp, rbx, r12 ...: CFA - 8 * words
  for (unsigned i = 0; i < kCalleeSavedCount; ++i) EXPECT_EQ(recipe.saved(i), words[i] - 1);
}

TEST(Recipe, HoldsNegativeAndLargeOffsets) {
  for (int64_t offset : {int64_t{-8}, int64_t{-4096}, int64_t{0}, int64_t{8} << 20}) {
    EhFrameTables tables;
    UnwindRow row{};
    row.cfa_rule = CfaRule::kRegisterOffset;
    row.cfa_register = kR12;
    row.cfa_offset = static_cast<int32_t>(offset);
    row.rule[kReturnAddress] = RegisterRule::kOffset;
    row.value[kReturnAddress] = -8;
    Recipe recipe = MakeRecipe(tables, row, kCode);
    EXPECT_EQ(recipe.kind(), RecipeKind::kPlain);
    EXPECT_EQ(recipe.base(), kR12);
    EXPECT_EQ(recipe.offset(), offset);
    row.cfa_offset = 20;
    EXPECT_EQ(MakeRecipe(tables, row, kCode).kind(), RecipeKind::kGeneric) << "not a multiple of 8";
  }
}

TEST(Recipe, FoldsThePltExpressionByAddress) {
  // rsp + 8 + (((rip & 15) >= 11) << 3)
  Rows rows({0x0f, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22});
  EXPECT_EQ(rows.RecipeAt(0x20).offset(), 8);
  EXPECT_EQ(rows.RecipeAt(0x2a).offset(), 8);
  EXPECT_EQ(rows.RecipeAt(0x2b).offset(), 16);
  EXPECT_EQ(rows.RecipeAt(0x2b).kind(), RecipeKind::kPlain);
}

TEST(Recipe, FoldsWhatLibcryptoAndRealignedFramesUse) {
  Rows libcrypto({0x0f, 6, 0x77, 0xd0, 1, 0x06, 0x23, 8});  // *(rsp + 208) + 8
  EXPECT_EQ(libcrypto.RecipeAt(0).kind(), RecipeKind::kDereferenced);
  EXPECT_EQ(libcrypto.RecipeAt(0).offset(), 208);
  EXPECT_EQ(libcrypto.RecipeAt(0).added(), 8u);
  Rows realigned({0x0f, 3, 0x76, 0x78, 0x06, 0x10, 6, 2, 0x76, 0, 0x10, 3, 2, 0x76, 0x68});
  Recipe recipe = realigned.RecipeAt(0);  // CFA = *(rbp - 8), rbp at rbp, rbx at rbp - 24
  EXPECT_EQ(recipe.kind(), RecipeKind::kRealigned);
  EXPECT_EQ(recipe.base(), kFramePointer);
  EXPECT_EQ(recipe.offset(), -8);
  EXPECT_EQ(recipe.saved(0), 0);
  EXPECT_EQ(recipe.saved(1), 3);
}

TEST(Recipe, KnowsTheEndOfAStackAndWhatDoesNotFit) {
  EXPECT_EQ(Rows({0x07, 16}).RecipeAt(0).kind(), RecipeKind::kOutermost);
  EXPECT_EQ(Rows({0x80 | 16, 2}).RecipeAt(0).kind(), RecipeKind::kGeneric) << "return address elsewhere";
  EXPECT_EQ(Rows({0x83, 40}).RecipeAt(0).kind(), RecipeKind::kGeneric) << "rbx too far away";
  EXPECT_EQ(Rows({0x83, 31}).RecipeAt(0).saved(1), 30);
  EXPECT_EQ(Rows({0x83, 32}).RecipeAt(0).kind(), RecipeKind::kGeneric)
      << "its field says that it is not saved";
  EXPECT_EQ(Rows({0x0f, 3, 0x76, 0x78, 0x06, 0x10, 6, 2, 0x76, 0, 0x83, 3}).RecipeAt(0).kind(),
            RecipeKind::kGeneric)
      << "rbp is saved by rbp, rbx by the CFA";
  EXPECT_EQ(Rows({0x09, 3, 12}).RecipeAt(0).kind(), RecipeKind::kGeneric) << "rbx in r12";
  EXPECT_EQ(Rows({0x14, 7, 2}).RecipeAt(0).kind(), RecipeKind::kGeneric) << "a stack pointer with a rule";
}

}  // namespace
}  // namespace profagent
