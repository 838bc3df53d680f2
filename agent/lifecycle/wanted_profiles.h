// Which profiles this process takes, and what their files are called.
//
// Context: `dump`, `bootstrap`: no allocation.
// Names:   a kind has a file at the end when its variable names one (block and mutex profiles: also when their rate was
//          set). A dump, on a signal, is made of every kind that is being taken: beside that file, or, for a heap profile
//          without one, as heap.PROGRAM.PID.N.prof.
#pragma once

#include <string_view>

#include "agent/base/options.h"
#include "agent/base/profile_names.h"
#include "agent/encode/profile_kind.h"

namespace profagent {

struct WantedProfile {
  ProfileKind kind;
  std::string_view what;      // "CPU profile": for messages
  std::string_view variable;  // that names its file
  bool taken;                 // this process records what it takes
  std::string_view file;      // pattern; empty: no file at the end
};

inline constexpr size_t kWantedProfiles = 5;
struct WantedProfiles {
  WantedProfile profiles[kWantedProfiles];

  bool any_taken() const;
  bool any_at_end() const;  // something is written at the end
};

WantedProfiles WantedBy(const Options& options);

// Of the dump with this number, from 1. Empty when the name would be longer than a path can be.
PathText DumpPath(const WantedProfile& profile, const ProcessName& process, uint32_t number);

}  // namespace profagent
