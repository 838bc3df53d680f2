// Callers of assembly that has neither unwind information nor a frame pointer, as GMP's, x264's and OpenBLAS's.
#include <alloca.h>
#include <sys/mman.h>

#include <cstring>

#include "tests/unit/unwind/code_in_the_wild.h"
#include "tests/unit/unwind/unwind_fixture.h"

// Return addresses of calls of both kinds, below the frame of the caller. Not static: dladdr names them.
__attribute__((noinline)) void LeavesRubbish(int depth, void (*again)(int, void*), void* self) {
  volatile char room[16];
  room[0] = static_cast<char>(depth);
  if (depth % 2 == 0 && depth > 0) LeavesRubbish(depth - 1, again, self);
  if (depth % 2 != 0) again(depth - 1, self);
  asm volatile("" ::"r"(room) : "memory");
}
__attribute__((noinline)) void LeavesMoreRubbish(int depth, void* self) {
  LeavesRubbish(depth, LeavesMoreRubbish, self);
  asm volatile("" ::: "memory");
}

// Their frames are found by rbp, whose value only the callee has.
__attribute__((noinline)) void CallsBareCode(size_t size) {
  LeavesRubbish(20, LeavesMoreRubbish, nullptr);
  auto* room = static_cast<volatile char*>(alloca(size));
  room[0] = 1;
  BareTakesRoom();
  room[1] = 2;
}
__attribute__((noinline)) void CallsThroughStub(size_t size) {
  LeavesRubbish(20, LeavesMoreRubbish, nullptr);
  auto* room = static_cast<volatile char*>(alloca(size));
  room[0] = 1;
  BareStub();
  room[1] = 2;
}
__attribute__((noinline)) void ClearStackBelow() {
  char room[65536];
  std::memset(room, 0, sizeof room);
  asm volatile("" ::"r"(room) : "memory");
}
__attribute__((noinline)) void CallsByPointer(size_t size, void (*function)()) {
  auto* room = static_cast<char*>(alloca(size));
  std::memset(room, 0, size);  // what is left there of other calls leads to their callers
  asm volatile("" ::"r"(room) : "memory");
  ClearStackBelow();  // what a function pointer went to cannot be seen
  function();
  asm volatile("" ::"r"(room) : "memory");
}

__attribute__((noinline)) void* ReturnAddress() { return __builtin_return_address(0); }
__attribute__((noinline)) void* LeavesItsAddress() {
  void* address = ReturnAddress();
  asm volatile("" ::: "memory");
  return address;
}
__attribute__((noinline)) void CallsByPointerWith(void* argument, void (*function)(void*)) {
  ClearStackBelow();
  function(argument);
  asm volatile("" ::: "memory");
}

__attribute__((noinline)) void CallsBareCodeFromTheDeep(int depth) {
  if (depth > 0) {
    CallsBareCodeFromTheDeep(depth - 1);
  } else {
    CallsBareCode(100);
  }
  asm volatile("" ::: "memory");
}

namespace profagent {
namespace {

class SearchWalkTest : public UnwinderTest {
 public:
  static void ExpectStack(const Capture& capture, std::initializer_list<const char*> names) {
    ASSERT_GE(capture.names.size(), names.size() + 2);  // the test, main
    size_t i = 0;
    for (const char* name : names) EXPECT_EQ(capture.names[i++], name);
    EXPECT_FALSE(capture.Has("LeavesRubbish")) << "what an earlier call left was believed";
    EXPECT_TRUE(capture.Has("main"));
    EXPECT_EQ(capture.end, WalkEnd::kOutermost);
  }
};

TEST_F(SearchWalkTest, FindsTheFunctionThatCalled) {
  ExpectStack(CaptureBySignal([] { CallsBareCode(100); }), {"BareTakesRoom", "_Z13CallsBareCodem"});
}

TEST_F(SearchWalkTest, FindsItInADeepStack) {
  Capture capture = CaptureBySignal([] { CallsBareCodeFromTheDeep(200); }, true, 256);
  ExpectStack(capture, {"BareTakesRoom", "_Z13CallsBareCodem"});
  EXPECT_GT(capture.frames.size(), 203u);
}

TEST_F(SearchWalkTest, FindsItOnAStackOfUnknownBounds) {
  ExpectStack(CaptureBySignal([] { CallsBareCode(100); }, false), {"BareTakesRoom", "_Z13CallsBareCodem"});
}

TEST_F(SearchWalkTest, KnowsWhereAPltEntryLeads) {
  ExpectStack(CaptureBySignal([] { CallsThroughStub(100); }), {"BareTakesRoom", "_Z16CallsThroughStubm"});
}

TEST_F(SearchWalkTest, FindsWhoCalledByAFunctionPointer) {
  ExpectStack(CaptureBySignal([] { CallsByPointer(100, BareTakesRoom); }),
              {"BareTakesRoom", "_Z14CallsByPointermPFvvE"});
}

// QEMU's translated code keeps neither, and its frame has a kilobyte of room in which old calls by pointers stand.
TEST_F(SearchWalkTest, KnowsThePointerThatLeadsToMadeCode) {
  void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  const char* code = reinterpret_cast<const char*>(MadeTakesRoom);
  std::memcpy(page, code, static_cast<size_t>(kMadeTakesRoomEnd - code));
  kMadeCode = reinterpret_cast<void (*)()>(page);
  Capture capture = CaptureBySignal([] { CallsMadeCode(); });
  ASSERT_GE(capture.names.size(), 2u);
  EXPECT_EQ(capture.frames[0].module(), ModuleId::kNone);
  EXPECT_FALSE(capture.Has("LeavesCallByPointer"));
  ExpectStack(capture, {capture.names[0].c_str(), "CallsMadeCode"});
  munmap(page, 4096);
}

TEST_F(SearchWalkTest, FollowsBareCodeThatBareCodeCalled) {
  ExpectStack(CaptureBySignal([] { CallsByPointer(100, BareCallsBare); }),
              {"BareTakesRoom", "BareCallsBare", "_Z14CallsByPointermPFvvE"});
}

TEST_F(SearchWalkTest, KnowsAStackPointerThatARegisterKeeps) {
  ExpectStack(CaptureBySignal([] { CallsByPointer(100, BareAlignsStack); }),
              {"BareAlignsStack", "_Z14CallsByPointermPFvvE"});
}

TEST_F(SearchWalkTest, FollowsNoFramePointerThatLeadsToNoCode) {
  Capture capture = CaptureBySignal([] { CallsByPointerWith(LeavesItsAddress(), BarePointsAtStack); });
  ExpectStack(capture, {"BarePointsAtStack", "_Z18CallsByPointerWithPvPFvS_E"});
}

TEST_F(SearchWalkTest, EndsWhereNothingIsToBeFound) {
  alignas(16) static char stack[16384];
  Capture capture = CaptureBySignal([] { BareOnEmptyStack(stack + sizeof stack - 64); });
  ASSERT_EQ(capture.names.size(), 1u);
  EXPECT_EQ(capture.names[0], "BareOnEmptyStack");
  EXPECT_EQ(capture.end, WalkEnd::kNoUnwindInfo);
}

}  // namespace
}  // namespace profagent
