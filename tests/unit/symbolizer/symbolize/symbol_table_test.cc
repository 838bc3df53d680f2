#include "symbolizer/symbolize/symbol_table.h"

#include <gtest/gtest.h>

#include "tests/unit/symbolizer/symbolize/sample_program.h"

namespace profagent {
namespace {

class SymbolTableTest : public ::testing::Test {
 protected:
  // Assembles a library with these symbols and nothing else.
  void Assemble(const std::string& source, const std::string& then = "true", const std::string& link = "") {
    directory_.Write("code.s", ".text\n" + source + "\n.section .note.GNU-stack,\"\",@progbits\n");
    ASSERT_TRUE(
        directory_.Run("gcc -c code.s -o code.o && ld -shared " + link + " code.o -o code.so && " + then));
    auto file = ElfFile::Open(directory_ / "code.so");
    ASSERT_TRUE(file);
    file_ = std::move(*file);
    table_.Add(*file_);
    start_ = testing::SymbolAddresses(*file_, "start").at(0);
  }
  std::string At(uint64_t offset) {
    const Symbol* symbol = table_.Find(start_ + offset);
    return std::string(symbol != nullptr ? symbol->name : "none");
  }

  testing::TemporaryDirectory directory_;
  std::unique_ptr<ElfFile> file_;
  SymbolTable table_;
  uint64_t start_ = 0;
};

TEST_F(SymbolTableTest, KnowsWhereAFunctionEnds) {
  Assemble(R"(
    .globl start
    .type start, @function
start: .skip 16
    .size start, 16
    .skip 16
    .globl second
    .type second, @function
second: .skip 8
    .size second, 8
  )");
  EXPECT_EQ(At(0), "start");
  EXPECT_EQ(At(15), "start");
  EXPECT_EQ(At(16), "none") << "the padding belongs to nobody";
  EXPECT_EQ(At(32), "second");
  EXPECT_EQ(At(40), "none");
  EXPECT_EQ(table_.Find(0), nullptr);
  EXPECT_EQ(table_.Find(UINT64_MAX), nullptr);
}

// A label inside a function, as assembly and -fno-toplevel-reorder leave them, is not a function of its own.
TEST_F(SymbolTableTest, SeesPastLabelsInsideAFunction) {
  Assemble(R"(
    .type start, @function
start: .skip 8
label: .skip 8
    .size start, 16
assembly: .skip 8
  )");
  EXPECT_EQ(At(8), "start");
  EXPECT_EQ(At(12), "start");
  EXPECT_EQ(At(20), "assembly") << "without a size it reaches to the next one";
}

// Nor is a small function inside a larger one all that there is.
TEST_F(SymbolTableTest, SeesPastAFunctionInsideAFunction) {
  Assemble(R"(
    .type start, @function
    .type small, @function
start: .skip 8
small: .skip 4
    .size small, 4
    .skip 4
label: .skip 8
    .size start, 24
    .skip 8
  )");
  EXPECT_EQ(At(8), "small");
  EXPECT_EQ(At(12), "start");
  EXPECT_EQ(At(16), "start");
  EXPECT_EQ(At(24), "label") << "without a size it reaches to the next one";
}

// What follows an exported label in a stripped file is mostly not exported: it must not have the label's name for megabytes.
TEST_F(SymbolTableTest, EndsAnExportedLabelOfAStrippedFile) {
  const std::string code = ".globl start\nstart: .skip 8192\n";
  Assemble(code);
  EXPECT_EQ(At(8191), "start") << "with all symbols there the next one would be, too";
  table_ = SymbolTable();
  Assemble(code, "strip code.so");
  EXPECT_EQ(At(4095), "start");
  EXPECT_EQ(At(4096), "none");
}

TEST_F(SymbolTableTest, ShowsTheNameThatPerfShows) {
  Assemble(R"(
    .globl start, __libc_start, _start_alias
    .weak a_weak
    .type start, @function
    .type __libc_start, @function
    .type a_weak, @function
    .type a_local, @function
start:
__libc_start:
a_weak:
a_local: .skip 8
    .size start, 8
    .size __libc_start, 8
    .size a_weak, 8
    .size a_local, 8
  )");
  EXPECT_EQ(At(0), "start");
  const Symbol* symbol = table_.Find(start_);
  EXPECT_EQ(table_.NameLike(*symbol, "a_local"), "a_local");
  EXPECT_EQ(table_.NameLike(*symbol, "a_weak"), "a_weak");
  EXPECT_EQ(table_.NameLike(*symbol, "other"), "");
  EXPECT_EQ(table_.NameLike(*symbol, "a_"), "");
}

// In .symtab the version of an exported symbol stands behind its name. The agent and DWARF know the function without it.
TEST_F(SymbolTableTest, LeavesVersionsOut) {
  directory_.Write("map", "V1 { };\nV2 { global: versioned; local: *; } V1;\n");
  Assemble(R"(
    .globl first, second
    .type start, @function
    .type first, @function
    .type second, @function
    .symver first, versioned@V1
    .symver second, versioned@@V2
start:
first: .skip 8
    .size first, 8
second: .skip 8
    .size second, 8
  )",
           "true", "--version-script=map");
  EXPECT_EQ(At(0), "versioned");
  EXPECT_EQ(At(8), "versioned");
}

TEST_F(SymbolTableTest, FallsBackToExportedNames) {
  Assemble(
      ".globl start\n.type start, @function\nstart: .skip 8\n.size start, 8\n"
      ".type hidden, @function\nhidden: .skip 8\n.size hidden, 8\n");
  EXPECT_FALSE(table_.only_dynamic());
  EXPECT_EQ(At(8), "hidden");
  ASSERT_TRUE(directory_.Run("strip code.so"));
  auto stripped = ElfFile::Open(directory_ / "code.so");
  ASSERT_TRUE(stripped);
  SymbolTable dynamic;
  dynamic.Add(**stripped);
  EXPECT_TRUE(dynamic.only_dynamic());
  ASSERT_NE(dynamic.Find(start_), nullptr);
  EXPECT_EQ(dynamic.Find(start_ + 8), nullptr);
}

}  // namespace
}  // namespace profagent
