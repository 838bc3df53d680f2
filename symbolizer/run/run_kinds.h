// The kinds of profiles that a run takes: what was asked for, and what each kind is called in names of files and
// variables.
//
// Context: `offline`.
// Words:   four kinds are asked for (cpu, heap, block, mutex), five are written: a heap comes as it was at the end and
//          as it was at its peak.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "agent/encode/profile_kind.h"

namespace profagent {

struct KindRequest {
  bool taken = true;
  bool asked = false;            // by its own option: then its file is written without samples, too
  std::optional<uint64_t> rate;  // empty: as the environment says, else the agent's default
};

// As it is made: all of them, at default rates.
struct WantedKinds {
  KindRequest cpu, heap, block, mutex;

  const KindRequest& Of(ProfileKind kind) const;
  // In the order of kRunKinds.
  std::vector<ProfileKind> Written() const;

  // A rate of 0 in the environment switches a kind off that was not asked for by its option.
  void HeedEnvironment(const char* const* environment);
};

struct RunKind {
  ProfileKind kind;
  std::string_view name;  // of its file: NAME.prof
  // Of the agent, that names its file; gperftools' two are not among them: it would start its profilers.
  std::string_view variable;
  std::string_view value;  // the sample type that tells how much of it there is
};

inline constexpr std::array<RunKind, 5> kRunKinds = {{
    {ProfileKind::kCpu, "cpu", "PROFAGENT_CPUPROFILE", "cpu"},
    {ProfileKind::kHeap, "heap", "PROFAGENT_HEAPPROFILE", "alloc_space"},
    {ProfileKind::kHeapPeak, "heap-peak", "PEAKPROFILE", "peak_space"},
    {ProfileKind::kBlock, "block", "BLOCKPROFILE", "delay"},
    {ProfileKind::kMutex, "mutex", "MUTEXPROFILE", "delay"},
}};

// One of kRunKinds.
const RunKind& RunKindOf(ProfileKind kind);

// The agent's variable for the rate of a kind, and whether the environment says that it is 0: off. A frequency of the
// CPU profile cannot be 0.
std::string_view RateVariable(ProfileKind kind);
bool IsSwitchedOff(const char* const* environment, ProfileKind kind);

}  // namespace profagent
