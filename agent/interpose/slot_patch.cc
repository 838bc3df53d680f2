#include "agent/interpose/slot_patch.h"

#include <gnu/libc-version.h>
#include <link.h>

#include <algorithm>
#include <cstring>

#include "agent/base/raw_syscall.h"
#include "agent/base/safe_read.h"
#include "agent/base/short_wait.h"
#include "agent/capture/virtual_signals.h"
#include "agent/interpose/loaded_object.h"
#include "agent/interpose/unprotected.h"

// The stub that stands for dlsym. It keeps its caller's return address, by which dlsym knows what RTLD_NEXT means.
// Registers that hold dlsym's two arguments are kept; nothing else of a caller's is alive here.
asm(R"(
  .pushsection .text
  .type profagent_dlsym_stub, @function
profagent_dlsym_stub:
  .cfi_startproc
  pushq %rdi
  .cfi_adjust_cfa_offset 8
  pushq %rsi
  .cfi_adjust_cfa_offset 8
  subq $8, %rsp
  .cfi_adjust_cfa_offset 8
  call profagent_before_dlsym
  addq $8, %rsp
  .cfi_adjust_cfa_offset -8
  popq %rsi
  .cfi_adjust_cfa_offset -8
  popq %rdi
  .cfi_adjust_cfa_offset -8
  jmp *g_profagent_real_dlsym(%rip)
  .cfi_endproc
  .size profagent_dlsym_stub, . - profagent_dlsym_stub
  .popsection
)");

extern "C" {
__attribute__((visibility("hidden"))) void profagent_dlsym_stub();
__attribute__((visibility("hidden"))) uintptr_t g_profagent_real_dlsym = 0;
__attribute__((visibility("hidden"), used)) void profagent_before_dlsym() { profagent::LookForNewObjects(); }
}

namespace profagent {

constinit std::atomic<bool> g_redirects_slots{false};

namespace {

constexpr size_t kMaxParts = 4;
constexpr size_t kMaxKnown = 1024;  // what goes beyond is looked into every time that something is new
constexpr int kLooking = -1;
constexpr int kYields = 100;
constexpr int kMaxWaits = kYields + 1000;  // a second

// Written by RedirectSlotsEverywhere before g_redirects_slots, then by whoever is looking.
struct State {
  RedirectedPart parts[kMaxParts];
  size_t part_count;
  Redirection dlsym;
  const link_map* allocator;
  const link_map* ours;
  const link_map* last_permanent;       // of the objects that were there then; they stay for ever
  std::atomic<const link_map*> newest;  // nobody came after it when we looked last; nullptr: look
  std::atomic<int> users;               // kLooking, or how many dlclose are under way
  std::atomic<bool> closed;             // since we looked last: what is in `known` may be something else
  const link_map* known[kMaxKnown];     // of those that came later: their slots were redirected
  size_t known_count;
};
constinit State g_state{};

uintptr_t ValueOf(const Slot& slot) { return __atomic_load_n(slot.place, __ATOMIC_RELAXED); }

// Most names are told apart from an allocator's by their first letters.
bool MayBeName(const char* name) {
  if (name[0] == '_') return name[1] == 'Z' && (name[2] == 'n' || name[2] == 'd');
  return std::strchr("mfcrpavds", name[0]) != nullptr && name[0] != '\0';
}

using Parts = std::span<const RedirectedPart>;

const Redirection* ByName(const RedirectedPart& part, const char* name) {
  for (const Redirection& redirection : part) {
    if (std::strcmp(redirection.name, name) == 0) return &redirection;
  }
  return nullptr;
}

// An allocator may have one function under several names (mimalloc: free and operator delete); that of the slot comes first.
const Redirection* ByValue(Parts parts, const char* name, uintptr_t value) {
  const Redirection* found = nullptr;
  for (const RedirectedPart& part : parts) {
    for (const Redirection& redirection : part) {
      if (redirection.original != value) continue;
      if (std::strcmp(redirection.name, name) == 0) return &redirection;
      found = &redirection;
    }
  }
  return found;
}

bool IsKnownFunction(Parts parts, uintptr_t value) {
  return std::any_of(parts.begin(), parts.end(), [&](const RedirectedPart& part) {
    return std::any_of(part.begin(), part.end(), [&](const Redirection& redirection) {
      return value == redirection.original || value == redirection.hook;
    });
  });
}

// Where a program has fixed addresses, that of a function is its own PLT entry there, for everybody. What it calls, the entry's
// slot says.
bool IsEntryInProgram(const char* name, uintptr_t value) {
  const link_map* program = _r_debug.r_map;
  return ObjectAt(reinterpret_cast<void*>(value)) == program &&
         LoadedObject(program).Function(name) == nullptr;
}

// Which parts the object got from somebody else: bit n for parts[n].
uint32_t BoundElsewhere(const LoadedObject& object, Parts parts) {
  uint32_t elsewhere = 0;
  object.ForEachSlot(LoadedObject::Data::kAll, [&](const Slot& slot) {
    const char* name = object.NameOf(slot);
    uintptr_t value = ValueOf(slot);
    if (value == 0 || !MayBeName(name) || object.IsUnbound(slot, value) || IsKnownFunction(parts, value))
      return;
    for (size_t i = 0; i < parts.size(); ++i) {
      if (ByName(parts[i], name) != nullptr && !IsEntryInProgram(name, value)) elsewhere |= 1u << i;
    }
  });
  return elsewhere;
}

const Redirection* ForUnbound(Parts parts, uint32_t elsewhere, const char* name) {
  for (size_t i = 0; i < parts.size(); ++i) {
    const Redirection* found = (elsewhere >> i & 1) == 0 ? ByName(parts[i], name) : nullptr;
    if (found != nullptr && !found->shadowed) return found;
  }
  return nullptr;
}

void Write(const Slot& slot, uintptr_t value, const Redirection& redirection) {
  auto replace = [&] {
    return __atomic_compare_exchange_n(slot.place, &value, redirection.hook, false, __ATOMIC_RELEASE,
                                       __ATOMIC_RELAXED);
  };
  // The loader may bind it just now, for a call of another thread.
  if (!replace() && value == redirection.original) replace();
}

bool IsKnown(const link_map* map) {
  const link_map** end = g_state.known + g_state.known_count;
  return std::find(const_cast<const link_map**>(g_state.known), end, map) != end;
}

void RedirectIn(const link_map* map) {
  if (map == g_state.allocator || map == g_state.ours) return;
  LoadedObject object(map);
  if (object.ok()) RedirectSlots(object, {g_state.parts, g_state.part_count});
}

// The object after `map`, which may be freed at any time when it is not permanent. False: it cannot be read.
bool ReadNext(const link_map* map, const link_map** next) {
  if (map == g_state.last_permanent) {
    *next = __atomic_load_n(&map->l_next, __ATOMIC_ACQUIRE);
    return true;
  }
  return SafeRead(reinterpret_cast<uintptr_t>(&map->l_next), next, sizeof(void*)) == sizeof(void*);
}

// Whether the loader still has, and is done with, what the list says.
bool IsLoaded(const link_map* map) {
  link_map copy;
  if (SafeRead(reinterpret_cast<uintptr_t>(map), &copy, sizeof copy) != sizeof copy) return false;
  return ObjectAt(copy.l_ld) == map;
}

void Look() {
  if (g_state.closed.exchange(false, std::memory_order_acquire)) g_state.known_count = 0;
  const link_map* last = g_state.last_permanent;
  bool complete = true;
  while (complete) {
    const link_map* next = nullptr;
    complete = ReadNext(last, &next);
    if (next == nullptr) break;
    last = next;
    if (IsKnown(next)) continue;
    complete = IsLoaded(next);
    if (!complete) break;  // gone, or being loaded, as are those behind it
    RedirectIn(next);
    if (g_state.known_count < kMaxKnown) g_state.known[g_state.known_count++] = next;
  }
  g_state.newest.store(complete ? last : nullptr, std::memory_order_relaxed);
}

}  // namespace

void RedirectSlots(const LoadedObject& object, std::span<const RedirectedPart> parts) {
  Unprotected memory(object.relro());
  uint32_t elsewhere = BoundElsewhere(object, parts);
  object.ForEachSlot(LoadedObject::Data::kAll, [&](const Slot& slot) {
    uintptr_t value = ValueOf(slot);
    const char* name = object.NameOf(slot);
    const Redirection* redirection = ByValue(parts, name, value);
    if (redirection == nullptr && object.IsUnbound(slot, value) && MayBeName(name)) {
      redirection = ForUnbound(parts, elsewhere, name);
    }
    if (redirection != nullptr && object.MayWrite(slot) && memory.TryOpen(slot.place)) {
      Write(slot, value, *redirection);
    }
  });
}

void RedirectSlotsEverywhere(std::span<const RedirectedPart> parts, const link_map* allocator) {
  for (const RedirectedPart& part : parts) {
    if (!part.empty() && g_state.part_count < kMaxParts - 1) g_state.parts[g_state.part_count++] = part;
  }
  if (g_state.part_count == 0) return;
  const link_map* libc = ObjectAt(reinterpret_cast<void*>(&gnu_get_libc_version));
  g_profagent_real_dlsym = reinterpret_cast<uintptr_t>(LoadedObject(libc).Function("dlsym"));
  if (g_profagent_real_dlsym != 0) {
    bool shadowed = FirstFunction(_r_debug.r_map, "dlsym") != reinterpret_cast<void*>(g_profagent_real_dlsym);
    g_state.dlsym = {"dlsym", g_profagent_real_dlsym, reinterpret_cast<uintptr_t>(&profagent_dlsym_stub),
                     shadowed};
    g_state.parts[g_state.part_count++] = {&g_state.dlsym, 1};
  }
  g_state.allocator = allocator;
  g_state.ours = ObjectAt(&g_state);
  for (const link_map* map = _r_debug.r_map; map != nullptr; map = map->l_next) {
    RedirectIn(map);
    g_state.last_permanent = map;
  }
  g_state.newest.store(g_state.last_permanent, std::memory_order_relaxed);
  g_redirects_slots.store(true, std::memory_order_release);
}

void LookForNewObjectsNow() {
  const link_map* newest = g_state.newest.load(std::memory_order_relaxed);
  const link_map* next = nullptr;
  if (newest != nullptr && ReadNext(newest, &next) && next == nullptr) return;
  // A handler of the application's that jumps away must not leave us looking for ever.
  uint64_t mask = SetSignalMask(kAllSignals);
  int nobody = 0;
  if (g_state.users.compare_exchange_strong(nobody, kLooking, std::memory_order_acquire)) {
    Look();
    g_state.users.store(0, std::memory_order_release);
  }
  SetSignalMask(mask);
}

void WantNewObjects(bool wanted) {
  if (g_state.part_count != 0) g_redirects_slots.store(wanted, std::memory_order_release);
}

// A look takes milliseconds at most, and no signal stops it. One that does not end was begun by a thread that is not in this
// process (a fork by raw system call).
void BeforeObjectsClose() {
  int users = g_state.users.load(std::memory_order_relaxed);
  for (int waits = 0; waits < kMaxWaits;) {
    if (users == kLooking) {
      if (++waits < kYields) {
        RawSyscall(SYS_sched_yield);
      } else {
        SleepMillisecond();  // should it be of lower priority
      }
      users = g_state.users.load(std::memory_order_relaxed);
    } else if (g_state.users.compare_exchange_weak(users, users + 1, std::memory_order_acquire)) {
      return;
    }
  }
  g_state.users.store(1, std::memory_order_relaxed);
}

void AfterObjectsClose() {
  g_state.closed.store(true, std::memory_order_release);
  g_state.newest.store(nullptr, std::memory_order_relaxed);
  // 0: a destructor forked, and this is the child, which comes out of a dlclose that it never entered.
  int users = g_state.users.load(std::memory_order_relaxed);
  while (users > 0 && !g_state.users.compare_exchange_weak(users, users - 1, std::memory_order_release,
                                                           std::memory_order_relaxed)) {
  }
}

void ForgetWhoLooksAtObjects() {
  g_state.newest.store(nullptr, std::memory_order_relaxed);
  g_state.users.store(0, std::memory_order_relaxed);
}

}  // namespace profagent
