#include "agent/interpose/idle_hooks.h"

#include <link.h>

#include <algorithm>
#include <iterator>

#include "agent/interpose/loaded_object.h"
#include "agent/interpose/unprotected.h"

namespace profagent {
namespace {

const IdleHook* ByAddress(std::span<const IdleHook> hooks, uintptr_t address) {
  auto found =
      std::find_if(hooks.begin(), hooks.end(), [&](const IdleHook& idle) { return idle.hook == address; });
  return found == hooks.end() ? nullptr : &*found;
}

// And says what they were.
struct Names {
  const char* name[2 * IdleHooks::kMost];  // some hooks have several
  size_t count = 0;
};
void ForgetNames(const LoadedObject& us, std::span<const IdleHook> hooks, Names* names) {
  MemoryRange pages = us.symbol_pages();
  if (pages.empty()) return;
  Unprotected memory(pages);
  for (const Elf64_Sym& symbol : us.definitions()) {
    bool idle = ByAddress(hooks, us.map()->l_addr + symbol.st_value) != nullptr;
    if (!idle || names->count == std::size(names->name) || !memory.TryOpen(&symbol.st_value)) continue;
    __atomic_store_n(const_cast<Elf64_Addr*>(&symbol.st_value), 0, __ATOMIC_RELAXED);
    names->name[names->count++] = us.NameOf(symbol);
  }
}

void PassBy(const LoadedObject& us, const LoadedObject& object, std::span<const IdleHook> hooks,
            const Names& names) {
  // In its data, functions that it has itself are to be looked for only where such a one is behind a hook.
  bool is_behind = std::any_of(hooks.begin(), hooks.end(),
                               [&](const IdleHook& idle) { return object.range().Holds(idle.original, 1); });
  bool is_among_own =
      names.count == 0 || std::any_of(names.name, names.name + names.count,
                                      [&](const char* name) { return object.IsAmongOwn(name); });
  auto data = is_behind      ? LoadedObject::Data::kAll
              : is_among_own ? LoadedObject::Data::kOthersFunctions
                             : LoadedObject::Data::kOthersByNumber;
  Unprotected memory(object.relro());
  object.ForEachSlot(data, [&](const Slot& slot) {
    uintptr_t value = __atomic_load_n(slot.place, __ATOMIC_RELAXED);
    if (!us.range().Holds(value, 1)) return;
    const IdleHook* idle = ByAddress(hooks, value);
    if (idle == nullptr || idle->original == 0) return;
    if (!object.MayWrite(slot) || !memory.TryOpen(slot.place)) return;
    __atomic_compare_exchange_n(slot.place, &value, idle->original, false, __ATOMIC_RELAXED,
                                __ATOMIC_RELAXED);
  });
}

}  // namespace

void TakeOutOfTheWay(const IdleHooks& idle) {
  LoadedObject us(ObjectAt(reinterpret_cast<void*>(&TakeOutOfTheWay)));
  std::span<const IdleHook> hooks = idle.all();
  if (hooks.empty() || !us.ok()) return;
  // The names first, or another thread's first call is bound to us when its slot was looked at already.
  Names names;
  ForgetNames(us, hooks, &names);
  for (const link_map* map = _r_debug.r_map; map != nullptr; map = map->l_next) {
    LoadedObject object(map);
    if (object.ok() && map != us.map()) PassBy(us, object, hooks, names);
  }
}

}  // namespace profagent
