// What the agent keeps for each thread inside the thread itself.
//
// Context:   `hook` and `signal`, own thread only. Initial-exec: an access is one instruction on the thread
//            pointer and never a call (a first touch of dynamic TLS allocates, reference/peers-cpu-heap.md
//            hazard 14).
// Promises:  plain data, zero at birth, no constructor, no destructor. At most 1 KiB, because it is carved
//            out of every thread's stack (measurements.md 7: 64 KiB of it make pthread_create fail for small
//            stacks).
// Beware:    a thread made by raw clone without CLONE_SETTLS, and a vfork child, share their parent's block.
//            What stands here is therefore never the only guard of something that must not go wrong.
#pragma once

#include <signal.h>
#include <time.h>

#include <cstdint>
#include <type_traits>

namespace profagent {

// A wait that a dump signal ended and that was begun again (agent/lifecycle/continued_wait.h).
struct ContinuedWait {
  uint64_t deadline;     // nanoseconds of CLOCK_MONOTONIC
  struct timespec left;  // for the kernel to read
};

struct ThreadState {
  // Heap sampling (agent/capture/heap_sampler.h), first: every malloc looks at it.
  uint64_t heap_countdown;  // bytes until the next sample; 0 at birth: nothing was drawn yet
  uint64_t heap_random;     // state of the thread's draws; 0: not seeded
  uintptr_t in_allocator;   // where on the stack a sampled call of the real allocator is under way; 0: none
  bool heap_started;        // a gap was drawn
  bool asked_for_sample;    // a hook asked HeapSampler::Draws since this was cleared (foreign_allocator.cc)

  // What is known to be mapped of the thread's own stack; {0, 0}: nothing (agent/unwind/unwinder.h, StackBounds).
  uintptr_t stack_low, stack_high;

  // Index of the thread's slot (agent/capture/thread_slots.h) plus one. 0: none known.
  uint32_t slot_plus_one;

  // The application's view of the CPU signal in this thread (agent/capture/foreign_signals.h).
  uint64_t blocks_beside;  // others in that mask, as far as libc was told; not more than the kernel has
  bool asked_to_block;     // its mask holds the signal; the kernel's does not
  bool waits_for_signal;   // it is in sigwait or its kin
  bool reads_signal;       // a signalfd of this thread reads it: its masks are the kernel's
  bool holds_signal;       // `held` arrived meanwhile and waits for the signal to be unblocked
  uint32_t held_age;       // unless the application set SIG_IGN since then
  siginfo_t held;
  uint32_t real_mask_pid;  // of the vfork child, if any, whose masks are the kernel's

  // The alternate stack that the application set, while the kernel has a larger one of ours instead.
  stack_t replaced_stack;  // ss_sp nullptr: none

  // BeforeFork and PauseThisThreadForExec nest: only the outermost one restores `mask_before`.
  uint32_t hold_depth;
  uint64_t mask_before;

  // The dump signal around fork (agent/lifecycle/dump_signal.h), which nests in a handler that forks, too.
  uint32_t dump_hold_depth;
  bool dump_was_blocked;
  ContinuedWait continued_wait;
};
static_assert(sizeof(ThreadState) <= 1024 && std::is_trivially_destructible_v<ThreadState> &&
              std::is_trivially_default_constructible_v<ThreadState>);

extern __thread ThreadState t_state __attribute__((tls_model("initial-exec")));

}  // namespace profagent
