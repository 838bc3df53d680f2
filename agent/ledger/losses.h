// Every way in which something can be missing from a profile, each with a counter of its own.
//
// Context: counted in `hook` and `signal`, read in `dump` and `offline`. The counters stand in the ledger's
//          header and appear in the profile's comments when they are not 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace profagent {

enum class Loss : uint32_t {
  kLedgerFull,       // samples: PROFAGENT_MEMORY is used up
  kNoSpace,          // samples: the file system of the ledger is full
  kNoScratch,        // samples: more handlers at work at once than there are scratch buffers
  kReentered,        // samples: the signal arrived inside the agent itself
  kStackDepthLimit,  // stacks cut at PROFAGENT_MAXDEPTH (the sample counts, its root side is missing)
  kStackUnreadable,  // stacks cut at unreadable memory
  kStackNoInfo,      // stacks cut at code without unwind information
  kStackNoProgress,  // stacks cut at broken unwind information
  kModuleTableFull,  // modules: frames shown with absolute addresses
  kThreadNotTimed,   // threads without a CPU timer
  kHandlerReplaced,  // the CPU signal's handler was replaced behind the agent's back
  kTimerLimit,       // thread timers refused by RLIMIT_SIGPENDING: one process timer serves them all
  kForeignTick,      // CPU signals that were neither ours nor had an application handler to go to
  kLibraryUnloaded,  // walks that met a library while it was being closed
  kLiveTableFull,    // heap samples: no room to remember where the block was allocated
  kMissedFree,       // blocks whose free went past the agent: noticed when their address was given out again
  kWaitersFull,      // waits: no room to remember who waits
  kChildHidden,      // forked children that a chroot keeps from the directory of `profagent run`
  kTimeNotSeen,      // sampling periods of CPU time that no timer measured
  kHeapNotFollowed,  // 1: the program has an allocator of its own, or a sanitizer's
  kCount,
};
inline constexpr uint32_t kLossSlots = 32;  // room in the header; a new reason does not move anything
static_assert(static_cast<uint32_t>(Loss::kCount) <= kLossSlots);

// The name used in comments, errors and documentation.
constexpr std::string_view LossName(Loss loss) {
  constexpr std::string_view kNames[] = {
      "samples_ledger_full", "samples_no_space",       "samples_no_scratch",    "samples_reentered",
      "stacks_depth_limit",  "stacks_unreadable",      "stacks_no_unwind_info", "stacks_no_progress",
      "modules_table_full",  "threads_without_timer",  "handler_replaced",      "timers_refused",
      "foreign_ticks",       "walks_library_unloaded", "heap_live_table_full",  "heap_missed_frees",
      "waits_table_full",    "children_hidden",        "periods_not_seen",      "heap_not_followed",
  };
  static_assert(sizeof kNames / sizeof kNames[0] == static_cast<size_t>(Loss::kCount));
  return kNames[static_cast<uint32_t>(loss)];
}

// What is missing and why, in words for whoever reads the profile. Follows the name and the number in comments.
constexpr std::string_view LossMeaning(Loss loss) {
  constexpr std::string_view kMeanings[] = {
      "samples dropped: PROFAGENT_MEMORY is used up",
      "samples dropped: the file system of the ledger is full",
      "samples dropped: too many handlers ran at once",
      "samples dropped: the signal arrived inside the agent",
      "stacks cut at PROFAGENT_MAXDEPTH: the sample counts, its root side is missing",
      "stacks cut at memory that could not be read",
      "stacks cut at code without unwind information",
      "stacks cut at unwind information that leads nowhere",
      "modules beyond the table: their frames are shown as addresses",
      "threads that could not be given a timer",
      "times that the handler of the CPU signal was replaced behind the agent's back",
      "thread timers refused (RLIMIT_SIGPENDING): one process timer serves them all, less exactly",
      "CPU signals that came from somewhere else",
      "stacks that met a library while it was being unloaded",
      "heap samples dropped: no room in PROFAGENT_MEMORY for the index of live blocks",
      "blocks freed behind the agent's back, noticed when their address was used again",
      "waits not considered: no room to remember who waits",
      "forked children in no profile: a chroot hides the directory of profagent run from them",
      "sampling periods of CPU time in threads not found: raw clones, pthread_create from dlsym, io_uring",
      "the program has an allocator of its own, or a sanitizer's: its heap is in no profile",
  };
  static_assert(sizeof kMeanings / sizeof kMeanings[0] == static_cast<size_t>(Loss::kCount));
  return kMeanings[static_cast<uint32_t>(loss)];
}

}  // namespace profagent
