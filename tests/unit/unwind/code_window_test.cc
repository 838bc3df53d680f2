// What instructions say by their bytes.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "agent/unwind/registers.h"

namespace profagent {
namespace {

using Bytes = std::vector<uint8_t>;

CodeWindow Behind(const Bytes& code) {
  CodeWindow window;
  std::memset(window.bytes, 0, sizeof window.bytes);
  std::memcpy(window.bytes + CodeWindow::kBefore - code.size(), code.data(), code.size());
  window.before = static_cast<uint8_t>(code.size());
  return window;
}
CodeWindow At(const Bytes& code) {
  CodeWindow window;
  std::memset(window.bytes, 0, sizeof window.bytes);
  std::memcpy(window.bytes + CodeWindow::kBefore, code.data(), code.size());
  window.after = static_cast<uint8_t>(code.size());
  return window;
}
bool IsCall(const Bytes& code) {
  uintptr_t target;
  return FollowsCall(Behind(code), 0x1000, &target);
}

TEST(CodeWindow, KnowsEveryCall) {
  uintptr_t target = 0;
  EXPECT_TRUE(FollowsCall(Behind({0xe8, 0xfb, 0xff, 0xff, 0xff}), 0x1000, &target));
  EXPECT_EQ(target, 0xffbu);
  EXPECT_TRUE(IsCall({0xff, 0xd0})) << "*%rax";
  EXPECT_TRUE(IsCall({0x41, 0xff, 0xd4})) << "*%r12";
  EXPECT_TRUE(IsCall({0xff, 0x10})) << "*(%rax)";
  EXPECT_TRUE(IsCall({0xff, 0x50, 8})) << "*8(%rax)";
  EXPECT_TRUE(IsCall({0xff, 0x14, 0xc3})) << "*(%rbx,%rax,8)";
  EXPECT_TRUE(IsCall({0xff, 0x54, 0x24, 8})) << "*8(%rsp)";
  EXPECT_TRUE(IsCall({0xff, 0x15, 1, 2, 3, 4})) << "*x(%rip)";
  EXPECT_TRUE(IsCall({0xff, 0x90, 1, 2, 3, 4})) << "*x(%rax)";
  EXPECT_TRUE(IsCall({0xff, 0x94, 0x24, 1, 2, 3, 4})) << "*x(%rsp)";
  EXPECT_TRUE(IsCall({0xff, 0x14, 0xc5, 1, 2, 3, 4})) << "*x(,%rax,8)";
  EXPECT_FALSE(IsCall({0xff, 0x14, 0xc4, 1, 2, 3, 4})) << "has no room for x";
  EXPECT_FALSE(IsCall({0xff, 0xe0})) << "jmp *%rax";
  EXPECT_FALSE(IsCall({0xd0})) << "its first byte cannot be read";
}

TEST(CodeWindow, KnowsThePointerOfACallThroughMemory) {
  uintptr_t pointer = 0;
  EXPECT_TRUE(FollowsCallThroughMemory(Behind({0xff, 0x15, 0xfe, 0xff, 0xff, 0xff}), 0x1000, &pointer));
  EXPECT_EQ(pointer, 0xffeu);
  EXPECT_FALSE(FollowsCallThroughMemory(Behind({0xff, 0x90, 1, 2, 3, 4}), 0x1000, &pointer)) << "*x(%rax)";
  EXPECT_FALSE(FollowsCallThroughMemory(Behind({0x15, 1, 2, 3, 4}), 0x1000, &pointer)) << "cut off";
}

TEST(CodeWindow, ReadsEpiloguesThatLeadBack) {
  Epilogue epilogue;
  ASSERT_TRUE(ReadEpilogue(At({0x48, 0x83, 0xc4, 24, 0x5b, 0x5d, 0x41, 0x5c, 0xc3}), &epilogue));
  EXPECT_EQ(epilogue.size, 48u);
  ASSERT_EQ(epilogue.restored, 3);
  const uint8_t numbers[] = {kRbx, kFramePointer, kR12};
  for (uint8_t i = 0; i < 3; ++i) {
    EXPECT_EQ(epilogue.registers[i].number, numbers[i]);
    EXPECT_EQ(epilogue.registers[i].offset, 24u + 8 * i);
  }
  auto leads_back = [](const Bytes& code) {
    Epilogue unused;
    return ReadEpilogue(At(code), &unused);
  };
  EXPECT_FALSE(leads_back({0x5c, 0xc3})) << "pop %rsp";
  EXPECT_FALSE(leads_back({0x48, 0x83, 0xc4, 0xf8, 0xc3})) << "takes room";
  EXPECT_FALSE(leads_back({0x5b})) << "the return cannot be read";
  EXPECT_FALSE(leads_back({0x58, 0x58, 0x58, 0x58, 0x58, 0x58, 0x58, 0xc3})) << "more than there is room for";
}

}  // namespace
}  // namespace profagent
