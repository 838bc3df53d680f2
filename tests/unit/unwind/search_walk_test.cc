// Callers of assembly that has neither unwind information nor a frame pointer, as GMP's, x264's and OpenBLAS's.
#include <alloca.h>

#include <cstring>

#include "tests/unit/unwind/unwind_fixture.h"

asm(R"(
.text
.globl BareTakesRoom, BareCallsBare, BareAlignsStack, BareStub, BareOnEmptyStack
.type BareTakesRoom, @function
BareTakesRoom:          # rbp is a number here; what earlier calls left in the room stays there
  push %rbp
  push %rbx
  push %r12
  sub $1000, %rsp
  mov $0x1234567, %ebp
  mov $39, %eax
  syscall
  mov %eax, %ebx
  mov $186, %eax
  syscall
  mov %ebx, %edi
  mov %eax, %esi
  mov $10, %edx
  mov $234, %eax        # tgkill(own pid, own tid, SIGUSR1)
  syscall
  add $1000, %rsp
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size BareTakesRoom, . - BareTakesRoom
.type BareCallsBare, @function
BareCallsBare:
  push %r13
  sub $32, %rsp
  call BareTakesRoom
  add $32, %rsp
  pop %r13
  ret
.size BareCallsBare, . - BareCallsBare
.type BareAlignsStack, @function
BareAlignsStack:        # as OpenBLAS's dgemm kernels: where the stack was stands in rbx
  sub $96, %rsp
  mov %rbx, (%rsp)
  mov %rbp, 8(%rsp)
  mov %r12, 16(%rsp)
  mov %rsp, %rbx
  mov $0x1234567, %ebp
  sub $28800, %rsp
  and $-4096, %rsp
  mov $39, %eax
  syscall
  mov %eax, %r12d
  mov $186, %eax
  syscall
  mov %r12d, %edi
  mov %eax, %esi
  mov $10, %edx
  mov $234, %eax
  syscall
  mov %rbx, %rsp
  mov (%rsp), %rbx
  mov 8(%rsp), %rbp
  mov 16(%rsp), %r12
  add $96, %rsp
  ret
.size BareAlignsStack, . - BareAlignsStack
.type BareStub, @function
BareStub:               # a PLT entry
  endbr64
  bnd jmp *kBarePointer(%rip)
.size BareStub, . - BareStub
.type BareOnEmptyStack, @function
BareOnEmptyStack:       # rdi: where a stack begins that nobody has written to
  push %r12
  push %r13
  xchg %rdi, %rsp
  push %rdi
  sub $8, %rsp
  mov $0x1234567, %r12d
  xchg %rbp, %r12
  mov $39, %eax
  syscall
  mov %eax, %r13d
  mov $186, %eax
  syscall
  mov %r13d, %edi
  mov %eax, %esi
  mov $10, %edx
  mov $234, %eax
  syscall
  xchg %rbp, %r12
  add $8, %rsp
  pop %rsp
  pop %r13
  pop %r12
  ret
.size BareOnEmptyStack, . - BareOnEmptyStack
.data
.align 8
kBarePointer:
  .quad BareTakesRoom
.text
)");

extern "C" void BareTakesRoom();
extern "C" void BareCallsBare();
extern "C" void BareAlignsStack();
extern "C" void BareStub();
extern "C" void BareOnEmptyStack(void* stack);

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
  auto* room = static_cast<volatile char*>(alloca(size));
  room[0] = 1;
  ClearStackBelow();  // what a function pointer went to cannot be seen
  function();
  room[1] = 2;
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

TEST_F(SearchWalkTest, FollowsBareCodeThatBareCodeCalled) {
  ExpectStack(CaptureBySignal([] { CallsByPointer(100, BareCallsBare); }),
              {"BareTakesRoom", "BareCallsBare", "_Z14CallsByPointermPFvvE"});
}

TEST_F(SearchWalkTest, KnowsAStackPointerThatARegisterKeeps) {
  ExpectStack(CaptureBySignal([] { CallsByPointer(100, BareAlignsStack); }),
              {"BareAlignsStack", "_Z14CallsByPointermPFvvE"});
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
