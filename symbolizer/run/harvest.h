// The ledgers of a run as profiles: of every process that recorded, however it ended.
//
// Context: `offline`. The ledgers may still be written to by processes that outlive the run: what they have so far is
//          taken.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "agent/ledger/layout.h"
#include "symbolizer/profile/profile.h"
#include "symbolizer/run/ledger_directory.h"
#include "symbolizer/run/ledger_watch.h"
#include "symbolizer/run/run_kinds.h"

namespace profagent {

struct KindProfile {
  ProfileKind kind;
  Profile profile;  // in the normal form; function names as far as the symbol tables have them
};

// One process image: from its start, or an exec or fork, to its end or the next exec.
struct ProcessProfiles {
  uint32_t pid = 0;
  uint32_t serial = 0;
  std::string program;       // last component of the executable's path
  uint32_t parent_pid = 0;   // when it began
  uint64_t began_nanos = 0;  // since 1970
  ProcessEnd end = ProcessEnd::kRunning;
  bool became_another = false;  // by exec
  bool still_records = false;
  // CPU time of samples that were taken and could not be kept; the profile's comments say why.
  uint64_t lost_nanos = 0;
  uint64_t unseen_nanos = 0;          // CPU time of threads that the agent did not find
  uint64_t hidden_children = 0;       // forked where they could not reach the records
  bool has_own_allocator = false;     // whose blocks the agent does not see
  bool has_samples = false;           // of any kind
  std::vector<KindProfile> profiles;  // of each wanted kind, those without samples too

  // Killed, or gone by a raw system call: it could not note its end.
  bool ended_abruptly() const { return end == ProcessEnd::kRunning && !still_records; }
};

struct Harvest {
  std::vector<ProcessProfiles> processes;  // by pid and serial
  std::vector<std::string> problems;       // ledgers that could not be read: one sentence each
};

Harvest HarvestLedgers(const std::vector<LedgerDirectory::LedgerFile>& ledgers, const LedgerWatch& watch,
                       std::span<const ProfileKind> kinds);

}  // namespace profagent
