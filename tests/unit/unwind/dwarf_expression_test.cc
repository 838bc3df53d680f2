#include "agent/unwind/dwarf_expression.h"

#include <gtest/gtest.h>

#include <vector>

namespace profagent {
namespace {

class Expression : public ::testing::Test {
 protected:
  bool Run(std::vector<uint8_t> code, bool concrete = true) {
    auto at = reinterpret_cast<uintptr_t>(code.data());
    StackMemory memory({reinterpret_cast<uintptr_t>(words_), reinterpret_cast<uintptr_t>(words_ + 4)},
                       &windows_);
    ExpressionInput input{.pc = 0x1234};
    if (concrete) {
      input.registers = &registers_;
      input.memory = &memory;
    }
    value_ = ExpressionValue{};
    return EvaluateExpression(ByteReader(at, at + code.size()), input, &value_);
  }
  uint64_t Value(std::vector<uint8_t> code) {
    EXPECT_TRUE(Run(std::move(code)));
    return value_.offset;
  }

  StackWindowPool windows_;
  uint64_t words_[4] = {10, 20, 0x1122334455667788, 40};
  Registers registers_ = {};
  ExpressionValue value_;
};

TEST_F(Expression, Calculates) {
  EXPECT_EQ(Value({0x08, 200, 0x09, 0xff, 0x22}), 199u);                  // const1u, const1s, plus
  EXPECT_EQ(Value({0x0a, 1, 2, 0x0b, 0xfe, 0xff, 0x22}), 511u);           // const2u, const2s
  EXPECT_EQ(Value({0x10, 0xe5, 0x8e, 0x26}), 624485u);                    // constu
  EXPECT_EQ(Value({0x11, 0x7e, 0x1f}), 2u);                               // consts -2, neg
  EXPECT_EQ(Value({0x11, 0x7e, 0x19}), 2u);                               // abs
  EXPECT_EQ(Value({0x37, 0x33, 0x1c}), 4u);                               // 7 - 3
  EXPECT_EQ(Value({0x37, 0x33, 0x1e}), 21u);                              // *
  EXPECT_EQ(Value({0x11, 0x79, 0x32, 0x1b}), static_cast<uint64_t>(-3));  // -7 / 2
  EXPECT_EQ(Value({0x37, 0x33, 0x1d}), 1u);                               // mod
  EXPECT_EQ(Value({0x31, 0x33, 0x24}), 8u);                               // shl
  EXPECT_EQ(Value({0x11, 0x78, 0x31, 0x26}), static_cast<uint64_t>(-4));  // shra
  EXPECT_EQ(Value({0x11, 0x78, 0x08, 64, 0x26}), ~uint64_t{0});           // by the whole width
  EXPECT_EQ(Value({0x31, 0x08, 64, 0x24}), 0u);                           // shl, likewise
  EXPECT_EQ(Value({0x11, 0x78, 0x08, 64, 0x25}), 0u);                     // shr
  EXPECT_EQ(Value({0x3c, 0x3a, 0x27}), 6u);                               // xor
  EXPECT_EQ(Value({0x31, 0x32, 0x16, 0x1c}), 1u);                         // swap, minus
  EXPECT_EQ(Value({0x31, 0x32, 0x33, 0x17}), 2u);                         // rot: 3 1 2
  EXPECT_EQ(Value({0x31, 0x32, 0x33, 0x15, 2}), 1u);                      // pick
  EXPECT_EQ(Value({0x31, 0x32, 0x14}), 1u);                               // over
  EXPECT_EQ(Value({0x31, 0x32, 0x13}), 1u);                               // drop
  EXPECT_EQ(Value({0x32, 0x33, 0x2d}), 1u);                               // lt
  EXPECT_EQ(Value({0x80, 0}), 0x1234u);                                   // breg16: the address
}

TEST_F(Expression, ReadsRegistersAndMemory) {
  registers_.value[kRbx] = reinterpret_cast<uintptr_t>(words_);
  EXPECT_EQ(Value({0x73, 8, 0x06}), 20u);
  EXPECT_EQ(Value({0x73, 16, 0x94, 1}), 0x88u);
  EXPECT_EQ(Value({0x73, 16, 0x94, 4}), 0x55667788u);
  EXPECT_EQ(Value({0x92, 3, 0, 0x06}), 10u);  // bregx
  EXPECT_FALSE(Run({0x73, 16, 0x94, 3}));
  registers_.value[kRbx] = 8;  // nothing can be read there
  EXPECT_FALSE(Run({0x73, 0, 0x06}));
}

TEST_F(Expression, Branches) {
  EXPECT_EQ(Value({0x31, 0x28, 2, 0, 0x35, 0x96, 0x36}), 6u);  // bra taken over lit5 and nop
  EXPECT_EQ(Value({0x32, 0x30, 0x28, 1, 0, 0x35}), 5u);        // not taken
  EXPECT_FALSE(Run({0x31, 0x2f, 0xfd, 0xff})) << "a loop must end";
  EXPECT_FALSE(Run({0x31, 0x2f, 0x10, 0})) << "a jump behind the end";
  EXPECT_FALSE(Run({0x31, 0x2f, 0x00, 0x80})) << "a jump in front of the beginning";
}

TEST_F(Expression, RefusesNonsense) {
  EXPECT_FALSE(Run({}));
  EXPECT_FALSE(Run({0x22})) << "an empty stack";
  EXPECT_FALSE(Run({0x31, 0x30, 0x1b})) << "division by 0";
  EXPECT_FALSE(Run({0x0f, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x11, 0x7f, 0x1b})) << "the division that overflows";
  EXPECT_FALSE(Run({0xe0})) << "an unknown operation";
  EXPECT_FALSE(Run({0x0e, 1})) << "cut off";
  EXPECT_FALSE(Run({0x92, 33, 0})) << "a register that we do not have";
  EXPECT_FALSE(Run(std::vector<uint8_t>(17, 0x31))) << "more values than the stack holds";
  EXPECT_TRUE(Run(std::vector<uint8_t>(16, 0x31)));
}

TEST_F(Expression, KeepsRegistersSymbolicAtDecodeTime) {
  ASSERT_TRUE(Run({0x77, 0xd0, 1, 0x06, 0x23, 8}, false));
  EXPECT_EQ(value_.base, kStackPointer);
  EXPECT_EQ(value_.offset, 208u);
  EXPECT_TRUE(value_.dereferenced);
  EXPECT_EQ(value_.added, 8);
  EXPECT_FALSE(Run({0x77, 0, 0x06, 0x06}, false)) << "two dereferences";
  EXPECT_FALSE(Run({0x77, 0, 0x76, 0, 0x22}, false)) << "two registers";
  EXPECT_FALSE(Run({0x31, 0x06}, false)) << "memory at a constant address may differ by then";
}

}  // namespace
}  // namespace profagent
