#include "agent/interpose/foreign_allocator.h"

#include <gnu/libc-version.h>
#include <link.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <cerrno>
#include <climits>
#include <iterator>
#include <string_view>

#include "agent/base/allocation_names.h"
#include "agent/base/log.h"
#include "agent/base/raw_syscall.h"
#include "agent/base/thread_state.h"
#include "agent/interpose/allocator.h"
#include "agent/interpose/foreign_hooks.h"
#include "agent/interpose/loaded_object.h"
#include "agent/interpose/slot_patch.h"

namespace profagent {
namespace {

constexpr size_t kAlignment = 64;      // bytes
constexpr size_t kProbe = kAlignment;  // aligned_alloc may insist on a multiple (Scudo ends the program)

std::string_view NameOf(const link_map* object) {
  std::string_view path = object->l_name != nullptr ? object->l_name : "";
  size_t slash = path.rfind('/');
  return slash == path.npos ? path : path.substr(slash + 1);
}

const link_map* Libc() { return ObjectAt(reinterpret_cast<void*>(&gnu_get_libc_version)); }
const link_map* OurObject() { return ObjectAt(&g_allocator); }

// Whether what `call` does comes by one of our hooks: with no gap left, each of them asks the sampler. It is told that the allocator
// itself asks: our blocks are no samples, and the thread's first gap is not drawn for them.
template <class Call>
bool ArrivesAtUs(Call call) {
  uint64_t countdown = t_state.heap_countdown;
  uintptr_t in_allocator = t_state.in_allocator;
  t_state.heap_countdown = 0;
  t_state.in_allocator = UINTPTR_MAX;
  t_state.asked_for_sample = false;
  call();
  t_state.heap_countdown = countdown;
  t_state.in_allocator = in_allocator;
  return t_state.asked_for_sample;
}

template <class Function>
Function* FunctionOf(const LoadedObject& object, const char* name) {
  return reinterpret_cast<Function*>(object.Function(name));
}

// A tracer hands on every call; an allocator that asks the next one for large chunks only some.
bool HandsOnToUs(const LoadedObject& object) {
  auto* allocate = FunctionOf<void*(size_t)>(object, "malloc");
  auto* give_back = FunctionOf<void(void*)>(object, "free");
  void* blocks[4];
  bool every_time = true;
  for (void*& block : blocks) every_time &= ArrivesAtUs([&] { block = allocate(kProbe); });
  for (void* block : blocks) {
    if (give_back != nullptr) give_back(block);
  }
  return every_time;
}

enum class Answer { kNo, kYes, kNotReady, kNoChild };

// The same of functions that may not be ready: the program's before main (GCL's heap is at the program's break, as it finds or moves
// that), a library's before its constructor (a tracer takes the address of the next malloc there). A child asks, whose memory is its
// own. It ends without a signal that the program could see, without a core, and what the allocator says there nobody hears.
Answer AskInAChild(const LoadedObject& object) {
  constexpr int kYes = 90, kNo = 91;  // no exit status of an allocator that gives up
  long child = RawSyscall(SYS_clone, 0, nullptr, nullptr, nullptr, 0);
  if (child == 0) {
    RawSyscall(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    RawSyscall(SYS_close_range, 0, UINT_MAX, 0);
    RawSyscall(SYS_exit_group, HandsOnToUs(object) ? kYes : kNo);
  }
  if (child < 0) return Answer::kNoChild;
  int status = 0;
  while (SyscallError(RawSyscall(SYS_wait4, child, &status, __WALL, nullptr)) == EINTR) {
  }
  if (!WIFEXITED(status)) return Answer::kNotReady;
  if (WEXITSTATUS(status) == kYes) return Answer::kYes;
  return WEXITSTATUS(status) == kNo ? Answer::kNo : Answer::kNotReady;
}

// What stands before us and hands on to the next one; of libraries also what is not ready yet: it waits for the next one's address.
bool IsTracer(const LoadedObject& object, bool is_program) {
  Answer answer = AskInAChild(object);
  if (is_program || answer == Answer::kYes) return answer == Answer::kYes;
  return answer == Answer::kNotReady || (answer == Answer::kNoChild && HandsOnToUs(object));
}

bool HasNewOfItsOwn(const LoadedObject& object) {
  auto* allocate = FunctionOf<void*(size_t)>(object, "_Znwm");
  auto* give_back = FunctionOf<void(void*)>(object, "_ZdlPv");
  if (allocate == nullptr || give_back == nullptr) return false;
  return !ArrivesAtUs([&] { give_back(allocate(kProbe)); });
}

// Whether the functions of an allocator behind us call each other by names, which are ours. A function that it lacks is another
// library's, whose block its free may end the program for (Electric Fence has no aligned_alloc).
bool CallsItsOwnNames(const LoadedObject& object) {
  auto has = [&](const char* name, auto* real) {
    return real != nullptr && object.Function(name) == reinterpret_cast<void*>(real);
  };
  if (!has("malloc", g_allocator.malloc) || !has("free", g_allocator.free)) return false;
  return ArrivesAtUs([&] {
    void* block = g_allocator.malloc(kProbe);
    if (has("realloc", g_allocator.realloc)) block = g_allocator.realloc(block, 2 * kProbe);
    if (has("reallocarray", g_allocator.reallocarray)) block = g_allocator.reallocarray(block, 3, kProbe);
    g_allocator.free(block);
    if (has("calloc", g_allocator.calloc)) g_allocator.free(g_allocator.calloc(1, kProbe));
    if (has("posix_memalign", g_allocator.posix_memalign) &&
        g_allocator.posix_memalign(&block, kAlignment, kProbe) == 0) {
      g_allocator.free(block);
    }
    if (has("aligned_alloc", g_allocator.aligned_alloc))
      g_allocator.free(g_allocator.aligned_alloc(kAlignment, kProbe));
    if (has("memalign", g_allocator.memalign)) g_allocator.free(g_allocator.memalign(kAlignment, kProbe));
  });
}

bool HasSanitizer(const LoadedObject& object) {
  for (const char* name : {"__asan_init", "__hwasan_init", "__lsan_init", "__msan_init", "__tsan_init"}) {
    if (object.Function(name) != nullptr) return true;
  }
  return false;
}

uint32_t NamesIn(const LoadedObject& object) {
  uint32_t names = 0;
  for (size_t name = 0; name < std::size(kAllocationNames); ++name) {
    if (object.Function(kAllocationNames[name].data()) != nullptr) names |= 1u << name;
  }
  return names;
}

constinit Redirection g_inner_calls[8]{};

// What the allocator calls by names goes to itself again, without us.
RedirectedPart InnerCalls() {
  size_t count = 0;
  auto add = [&](const char* name, auto* ours, auto* real) {
    if (real == nullptr) return;
    g_inner_calls[count++] = {name, reinterpret_cast<uintptr_t>(ours), reinterpret_cast<uintptr_t>(real),
                              false};
  };
  LoadedObject us(OurObject());
  add("malloc", us.Function("malloc"), g_allocator.malloc);
  add("free", us.Function("free"), g_allocator.free);
  add("calloc", us.Function("calloc"), g_allocator.calloc);
  add("realloc", us.Function("realloc"), g_allocator.realloc);
  add("posix_memalign", us.Function("posix_memalign"), g_allocator.posix_memalign);
  add("aligned_alloc", us.Function("aligned_alloc"), g_allocator.aligned_alloc);
  add("memalign", us.Function("memalign"), g_allocator.memalign);
  add("valloc", us.Function("valloc"), g_allocator.valloc);
  return {g_inner_calls, count};
}

// A block of one allocator in the hands of another is the program's own trouble, as it is without us.
void SayWhatIsLibcs(const LoadedObject& object) {
  if (g_verbosity < Verbosity::kDebug) return;
  FixedText<200> missing;
  for (const char* name : {"calloc", "realloc", "free", "reallocarray", "posix_memalign", "aligned_alloc",
                           "memalign", "valloc", "pvalloc", "cfree"}) {
    if (object.Function(name) == nullptr) missing.Add(missing.view().empty() ? "" : ", ", name);
  }
  Log(Verbosity::kDebug, "the heap is that of ", NameOf(object.map()),
      missing.view().empty() ? "" : ", but for what it lacks and the next library has: ", missing.view());
}

}  // namespace

FoundAllocator FindAllocator() {
  const link_map* ours = OurObject();
  const link_map* program = _r_debug.r_map;
  bool before_us = true;
  FoundAllocator found = {AllocatorPlace::kLibc, nullptr};
  for (const link_map* map = program; map != nullptr; map = map->l_next) {
    if (map == ours) before_us = false;
    LoadedObject object(map);
    if (!object.ok() || map == ours) continue;
    if (HasSanitizer(object)) return {AllocatorPlace::kSanitizer, map};
    if (found.object != nullptr || object.Function("malloc") == nullptr) continue;
    if (before_us && IsTracer(object, map == program)) continue;
    found = {before_us ? AllocatorPlace::kBeforeUs : AllocatorPlace::kBehindUs, map};
    if (map == program) found.place = AllocatorPlace::kProgram;
    if (map == Libc()) found.place = AllocatorPlace::kLibc;
  }
  return found;
}

void FollowAllocator(const FoundAllocator& allocator) {
  if (allocator.place == AllocatorPlace::kLibc || !allocator.can_be_followed()) return;
  LoadedObject object(allocator.object);
  SayWhatIsLibcs(object);
  EnsureAllocator();  // the hooks that found it out did so in a child
  RedirectedPart parts[3];
  size_t count = 0;
  if (allocator.place == AllocatorPlace::kBeforeUs) {
    g_uncounted_names.store(NamesIn(object), std::memory_order_relaxed);
    parts[count++] = RedirectionsTo(object, ForeignPart::kMallocFamily);
  } else {
    if (CallsItsOwnNames(object)) {
      RedirectedPart inner = InnerCalls();
      RedirectSlots(object, {&inner, 1});
    }
  }
  parts[count++] = RedirectionsTo(object, ForeignPart::kOtherNames);
  if (HasNewOfItsOwn(object)) parts[count++] = RedirectionsTo(object, ForeignPart::kOperators);
  RedirectSlotsEverywhere({parts, count}, allocator.object);
}

}  // namespace profagent
