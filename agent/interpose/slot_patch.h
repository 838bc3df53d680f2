// Leads calls of an allocator that never come by our names to our hooks: the words in which loaded objects keep the
// addresses of its functions (GOT and PLT slots, pointers in data) get the hooks' addresses.
//
// Context:   RedirectSlots and RedirectSlotsEverywhere in `bootstrap`; LookForNewObjects and the two brackets of a dlclose in
//            `hook`.
// When:      only with an allocator that is not libc's (foreign_allocator.h). Otherwise nothing here does anything.
// By value:  a slot is changed when it holds the very function that the hook forwards to, so the call ends where it would
//            have ended. An object that was bound to somebody else (RTLD_DEEPBIND, a function of its own) keeps what it has.
//            A call that the loader has not bound yet has no value to go by: its slot is changed too, unless the loader will
//            find another definition first (a program's own operator new), or another of the object's slots shows that the
//            object is bound elsewhere.
// Later:     no dlopen hook (by its caller the loader finds RUNPATH and $ORIGIN). The loader's list of objects is looked at
//            when something comes by anyway: a sample, a new thread, and dlsym, without which a loaded plugin is hardly
//            ever called: its slots lead to a stub that looks and then jumps on (dlsym, too, goes by its caller).
// Relocated: _dl_find_object knows an object only after the loader has relocated and protected it (tests/preload shows it).
// Unmapped:  not while we look: a dlclose waits for that, and nobody looks while a dlclose is under way. What libc itself
//            closes (conversions between character sets) does not come by; links are read by SafeRead for its sake.
// Not seen:  pointers that were copied before; a dlsym of malloc; what a library's constructors allocate while dlopen
//            runs; what the loader itself allocates, when the other allocator stands before us.
// For ever:  slots are not changed back. Nobody could say when the last call has left.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

struct link_map;

namespace profagent {

class LoadedObject;

// `original` becomes `hook`.
struct Redirection {
  const char* name;
  uintptr_t original;
  uintptr_t hook;
  bool shadowed;  // the loader binds the name to another definition, which comes first
};

// Functions that objects use together: bound elsewhere is an object with all of a part, or with nothing of it.
using RedirectedPart = std::span<const Redirection>;

// In this one object.
void RedirectSlots(const LoadedObject& object, std::span<const RedirectedPart> parts);

// In all objects but the allocator's and our own, now and later. What `parts` refers to stays. Once.
void RedirectSlotsEverywhere(std::span<const RedirectedPart> parts, const link_map* allocator);

extern constinit std::atomic<bool> g_redirects_slots;
void LookForNewObjectsNow();

inline void LookForNewObjects() {
  if (g_redirects_slots.load(std::memory_order_relaxed)) [[unlikely]]
    LookForNewObjectsNow();
}

// Not `wanted`: new objects are left alone until they are wanted again.
void WantNewObjects(bool wanted);

void BeforeObjectsClose();
void AfterObjectsClose();
// In a forked child: threads that were looking or closing are not in it.
void ForgetWhoLooksAtObjects();

}  // namespace profagent
