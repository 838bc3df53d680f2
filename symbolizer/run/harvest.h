// The ledgers of a run as profiles: of every process that recorded, however it ended.
//
// Context: `offline`. The ledgers may still be written to by processes that outlive the run: what they have so far is
//          taken.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/ledger/layout.h"
#include "symbolizer/profile/profile.h"
#include "symbolizer/run/ledger_directory.h"

namespace profagent {

// One process image: from its start, or an exec or fork, to its end or the next exec.
struct ProcessProfile {
  uint32_t pid = 0;
  uint32_t serial = 0;
  std::string program;  // last component of the executable's path
  ProcessEnd end = ProcessEnd::kRunning;
  bool still_records = false;
  uint64_t cpu_nanos = 0;  // what its samples stand for
  uint64_t lost_nanos =
      0;            // of samples that were taken and could not be kept; the profile's comments say why
  Profile profile;  // in the normal form; function names as far as the symbol tables have them

  bool has_samples() const { return cpu_nanos > 0; }
  // Killed, or gone by a raw system call: it could not note its end.
  bool ended_abruptly() const { return end == ProcessEnd::kRunning && !still_records; }
};

struct Harvest {
  std::vector<ProcessProfile> processes;  // by pid and serial
  std::vector<std::string> problems;      // ledgers that could not be read: one sentence each
};

Harvest HarvestLedgers(const std::vector<LedgerDirectory::LedgerFile>& ledgers);

}  // namespace profagent
