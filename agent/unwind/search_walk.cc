// The caller of code that neither has unwind information nor keeps a frame pointer: the assembly of GMP, x264, OpenBLAS. Its
// return address is somewhere above the stack pointer, under registers that it saved and room that it took.
//
// Context:  `signal`, from the interrupted function on, as long as no frame had unwind information.
// Believes: a word behind a call instruction of a loaded object, from which the walk by unwind information comes to a stack's
//           outermost frame, or goes on for 64, each return address on the way behind a call. A word that an earlier call
//           left there seldom does.
// Choice:   of several, the one whose call goes where this function can begin: between the last function with unwind information
//           and pc, the nearest first; of code made at run time, where such code is close by (QEMU enters its by a pointer in memory
//           and leaves what stood in a kilobyte of its frame). Then those by a function pointer, whose target nobody knows, then
//           the rest (a function that jumped to this one); from the stack pointer upwards.
// Bounds:   8 KiB of stack, 256 bytes where a register points, and 6 places, each tried with 25 frame pointers at most.
#include <cstring>

#include "agent/unwind/frame_pointer.h"
#include "agent/unwind/walker.h"

namespace profagent {
namespace {

// Bytes of stack that are looked at; the first of them alone where a call says that it went to this function.
constexpr uint32_t kFirstReach = 512, kReach = 8192;
// The same from where a register points; how far that, or a frame pointer, may be.
constexpr uint32_t kSavedReach = 256, kSavedFarthest = 1 << 20;
constexpr size_t kMostPlaces = 6;  // that are tried
// What a runtime makes is in one place: its parts jump to each other.
constexpr uintptr_t kMadeCodeSize = uintptr_t{1} << 31;
// So many frames above one of them prove it, too; so often the search is made anew when a recipe was missing.
constexpr uint32_t kEnoughFrames = 64, kMostTries = 256;
// Of what a function saves above its own room, one may be its caller's frame pointer.
constexpr uintptr_t kSavedWords = 12;

// Ranks of calls that do not say that they went here: by a function pointer, close to the stack pointer or to where a register
// points (code that aligns its stack keeps the old one there), or anywhere; of another function.
constexpr uint32_t kByPointerNear = UINT32_MAX - 3, kByPointerSaved = UINT32_MAX - 2,
                   kByPointer = UINT32_MAX - 1, kElsewhere = UINT32_MAX;

// Whether the function at pc can begin at `target`; `start`: where the code without unwind information does.
bool CanBegin(uintptr_t target, uintptr_t start, uintptr_t pc) { return target >= start && target <= pc; }

// Where a return address stands that is behind a call. Small: a signal's stack may be, too.
struct CallPlace {
  uint32_t rank;    // bytes from the call's target to pc, or kByPointerNear and so on
  uint32_t offset;  // from the stack pointer
};

}  // namespace

// The best ones; of equals the earlier.
class CallPlaces {
 public:
  PROF_SIGNAL_SAFE void Add(CallPlace place) {
    size_t i = count_ < kMostPlaces ? count_++ : kMostPlaces;
    for (; i > 0 && places_[i - 1].rank > place.rank; --i) {
      if (i < kMostPlaces) places_[i] = places_[i - 1];
    }
    if (i < kMostPlaces) places_[i] = place;
  }
  const CallPlace* begin() const { return places_; }
  const CallPlace* end() const { return places_ + count_; }

 private:
  CallPlace places_[kMostPlaces];
  size_t count_ = 0;
};

// Where code without unwind information begins that reaches to pc; pc: not known.
__attribute__((cold)) uintptr_t Walker::StartOfBareCode(uintptr_t pc) {
  ModuleMap::Reader reader(modules_);
  const Module* module = modules_->Find(pc);
  if (module == nullptr) return pc;
  const EhFrameTables& tables = modules_->TablesOf(*module);
  uintptr_t start = SegmentAt(pc, module->load_bias, module->headers, PF_X).start;
  if (tables.segment.empty()) return start;
  if (tables.table == 0) return pc;
  FrameEntry last;
  if (FindFrameEntry(tables, modules_->IndexOf(*module, tables), pc, &last)) return pc;
  return last.limit > start && last.limit <= pc ? last.limit : start;
}

__attribute__((noinline)) bool Walker::IsLoadedCode(uintptr_t address) {
  ModuleMap::Reader reader(modules_);
  return modules_->Find(address) != nullptr;
}

// Whether the call in front of `word` goes through a pointer in memory to code of no object, where that at pc may have been entered.
__attribute__((cold)) bool Walker::LeadsToMadeCode(uintptr_t word, uintptr_t pc) {
  constexpr uint8_t kSize = 6;  // of such a call
  CodeWindow code;
  code.before = kSize;
  uintptr_t pointer = 0, target = 0;
  if (StackMemory::Copy(word - kSize, code.bytes + CodeWindow::kBefore - kSize, kSize) != kSize) return false;
  if (!FollowsCallThroughMemory(code, word, &pointer)) return false;
  if (StackMemory::Copy(pointer, &target, sizeof target) != sizeof target || target == 0) return false;
  return target - pc + kMadeCodeSize < 2 * kMadeCodeSize && !IsLoadedCode(target) && !IsLoadedCode(pc);
}

// Code without unwind information has changed none of the registers but these three, as far as is known here. Nothing is decoded
// here, this deep in the stack: what is not in the cache is reported. Rows that fit no recipe are followed by nobody here.
bool Walker::LeadsOut(const ucontext_t& context, const FramePosition& caller, BareFrame* bare) {
  Registers registers;
  LoadRegisters(context, &registers);
  Place(caller, &registers);
  for (uint32_t i = 0; i < kEnoughFrames; ++i) {
    uintptr_t address = registers.pc() - 1, sp = registers.sp();
    bare->came_to = registers.pc();
    if (!IsLoadedCode(address) || !CallBefore(modules_, registers.pc()).is_call) return false;
    Recipe recipe = cache_->Find(address).recipe;
    if (recipe.kind() == RecipeKind::kNone) bare->unknown = address;
    if (recipe.kind() == RecipeKind::kOutermost) return true;
    if (recipe.kind() == RecipeKind::kNone || recipe.kind() > RecipeKind::kRealigned) return false;
    if (ApplyRecipe(recipe, &registers) != Step::kCaller || registers.sp() <= sp) return false;
  }
  return true;
}

// The same with a frame pointer that was saved below `at`, where the return address of who saved it stands.
bool Walker::LeadsOutWithSaved(const ucontext_t& context, uintptr_t at, uintptr_t lowest,
                               FramePosition* caller, BareFrame* bare) {
  for (uintptr_t i = 1; i <= kSavedWords && at - 8 * i >= lowest && bare->unknown == 0; ++i) {
    if (!memory_.Read(at - 8 * i, &caller->fp) || caller->fp - caller->sp > kSavedFarthest) continue;
    if (LeadsOut(context, *caller, bare)) return true;
  }
  return false;
}

// Whether the walk from there comes to an address that is no code at all: neither loaded nor, as JIT code, behind a call.
bool Walker::GoesAstray(const ucontext_t& context, const FramePosition& caller, BareFrame* bare) {
  return !LeadsOut(context, caller, bare) && bare->unknown == 0 && !IsLoadedCode(bare->came_to - 1) &&
         !CallBefore(modules_, bare->came_to).is_call;
}

// What a frame pointer leads to may be the caller's caller, where the code has left its caller's frame in rbp. What stands on top of
// the stack may have been left there by an earlier call. Unless the call in front of it says that it went here.
bool Walker::IsDoubtful(const FramePosition& callee, const FramePosition& caller) {
  if (!IsLoadedCode(callee.pc)) return false;
  uintptr_t target = CallBefore(modules_, caller.pc).target;
  return target == 0 || !CanBegin(BehindStub(modules_, target), StartOfBareCode(callee.pc), callee.pc);
}

// `by_chain`: rbp leads to a caller. Only a frame in front of that one may have been left out, one of a function that keeps none.
void Walker::AddPlaces(const FramePosition& callee, uint32_t from, uint32_t reach, uint32_t by_pointer,
                       bool by_chain, CallPlaces* places) {
  const uintptr_t start = StartOfBareCode(callee.pc);
  if (stack_ != 0 && stack_ - callee.sp < reach) reach = static_cast<uint32_t>(stack_ - callee.sp);
  if (by_chain) {
    const uintptr_t below = callee.fp > callee.sp ? callee.fp - callee.sp : 0;
    if (below < reach) reach = static_cast<uint32_t>(below);
  }
  uint64_t word = 0;
  for (uint32_t offset = from; offset < reach && memory_.Read(callee.sp + offset, &word); offset += 8) {
    constexpr uint64_t kLowest = 4096, kHighest = uint64_t{1} << 47;  // most words are numbers
    if (word < kLowest || word >= kHighest) continue;
    CallSite site = IsLoadedCode(word - 1) ? CallBefore(modules_, word) : CallSite{};
    if (!site.is_call) continue;
    uintptr_t target = site.target != 0 ? BehindStub(modules_, site.target) : 0;
    uint32_t rank = target == 0 ? by_pointer : kElsewhere;
    if (rank == by_pointer && start == callee.pc && LeadsToMadeCode(word, callee.pc)) rank = 0;
    if (CanBegin(target, start, callee.pc) && callee.pc - target < kByPointerNear) {
      if (by_chain && MakesFrameRecord(modules_, target, callee.pc)) continue;
      rank = static_cast<uint32_t>(callee.pc - target);
    }
    places->Add({rank, offset});
  }
}

__attribute__((cold)) void Walker::AddPlacesAtRegisters(const ucontext_t& context,
                                                        const FramePosition& callee, bool by_chain,
                                                        CallPlaces* places) {
  for (uint8_t number : kCalleeSaved) {
    uint64_t saved;
    std::memcpy(&saved, reinterpret_cast<const char*>(&context) + SigcontextOffset(number), sizeof saved);
    if (saved % 8 != 0 || saved - callee.sp >= kSavedFarthest) continue;
    auto offset = static_cast<uint32_t>(saved - callee.sp);
    AddPlaces(callee, offset, offset + kSavedReach, kByPointerSaved, by_chain, places);
  }
}

// False with bare->unknown set: to be asked again, when that is in the cache.
bool Walker::Search(const ucontext_t& context, const FramePosition& callee, bool by_any_call,
                    BareFrame* bare) {
  FramePosition caller;
  CallPlaces places;
  AddPlaces(callee, 0, kFirstReach, kByPointerNear, !by_any_call, &places);
  for (bool all : {false, true}) {
    if (all) {
      AddPlacesAtRegisters(context, callee, !by_any_call, &places);
      AddPlaces(callee, kFirstReach, kReach, kByPointer, !by_any_call, &places);
    }
    for (const CallPlace& place : places) {
      bool comes_here = place.rank < kByPointerNear;
      if (!comes_here && !(all && by_any_call)) break;
      uintptr_t at = callee.sp + place.offset;
      caller = {0, at + 8, callee.fp};
      if (!memory_.Read(at, &caller.pc)) continue;
      bool leads_out =
          LeadsOut(context, caller, bare) || LeadsOutWithSaved(context, at, callee.sp, &caller, bare) ||
          (bare->called_at != 0 && LeadsOutWithSaved(context, bare->called_at, 0, &caller, bare));
      if (bare->unknown != 0) return false;
      if (!leads_out) {
        if (!comes_here || cache_->Find(caller.pc - 1).recipe.kind() != RecipeKind::kFramePointer) continue;
        // More code of this kind, which is searched in its turn.
        caller.fp = callee.fp;
        bare->called_at = at;
      }
      bare->caller = caller;
      return true;
    }
    if (!by_any_call) break;
  }
  return false;
}

// Moves `registers` from the interrupted instruction to the first frame with unwind information, or to one that steps by a signal's
// return. The frames in front of it are written; how many. ended_: there is none.
uint32_t Walker::LeaveBareCode(const ucontext_t& context, Registers* registers) {
  BareFrame bare;
  for (uint32_t depth = 0;;) {
    const bool interrupted = depth == 0;
    const FramePosition here = {registers->pc(), registers->sp(), registers->fp()};
    uintptr_t address = here.pc - (interrupted ? 0 : 1);
    auto [recipe, module] = Look(address);
    if (recipe.kind() != RecipeKind::kFramePointer || depth == frames_.size()) return depth;
    FramePointerStep step =
        interrupted ? StepByInstruction(modules_, &memory_, registers) : FramePointerStep::kNothing;
    bool sure = step == FramePointerStep::kCaller;
    if (!sure) step = StepByFramePointer(modules_, &memory_, known_calls_, interrupted, registers);
    if (step == FramePointerStep::kLeafCaller) {
      sure = true;
      step = FramePointerStep::kCaller;
    }
    if (step == FramePointerStep::kSignalReturn) return depth;
    frames_[depth++] = FrameOf(address, module);
    if (!interrupted && IsFunctionStart(here.pc)) {
      // Nobody returns to a function's first byte: makecontext and its like put it under a coroutine's first frame.
      frames_[depth - 1] = FrameOf(here.pc, module);
      step = FramePointerStep::kOutermost;
    } else if (step == FramePointerStep::kGoroutineEnd) {
      step = FramePointerStep::kOutermost;
    } else if (here.sp % 8 == 0) {
      bare.caller = {registers->pc(), registers->sp(), registers->fp()};
      const bool by_chain = step == FramePointerStep::kCaller && bare.caller.sp == here.fp + 16;
      bool doubtful = step != FramePointerStep::kCaller || (!sure && IsDoubtful(here, bare.caller));
      for (uint32_t tries = 0; doubtful && tries < kMostTries; ++tries) {
        bare.unknown = 0;
        const bool by_any_call = !by_chain || GoesAstray(context, bare.caller, &bare);
        if (bare.unknown == 0 && Search(context, here, by_any_call, &bare)) step = FramePointerStep::kCaller;
        if (bare.unknown == 0) break;
        Decode(bare.unknown);
      }
      Place(bare.caller, registers);
    }
    if (step == FramePointerStep::kCaller) continue;
    ended_ = true;
    end_ = step == FramePointerStep::kOutermost    ? WalkEnd::kOutermost
           : step == FramePointerStep::kUnreadable ? WalkEnd::kUnreadable
                                                   : WalkEnd::kNoUnwindInfo;
    return depth;
  }
}

}  // namespace profagent
