#include "agent/lifecycle/wanted_profiles.h"

namespace profagent {
WantedProfiles WantedBy(const Options& options) {
  bool heap = options.heap_rate > 0;
  return {{
      {ProfileKind::kCpu, "CPU profile", "CPUPROFILE", options.cpu_wanted(), options.cpu_profile},
      {ProfileKind::kHeap, "heap profile", "HEAPPROFILE", heap, options.heap_profile},
      {ProfileKind::kHeapPeak, "heap profile of the peak", "PEAKPROFILE",
       heap && !options.peak_profile.empty(), options.peak_profile},
      {ProfileKind::kBlock, "block profile", "BLOCKPROFILE", options.block_wanted,
       options.block_wanted ? options.block_profile : std::string_view()},
      {ProfileKind::kMutex, "mutex profile", "MUTEXPROFILE", options.mutex_wanted,
       options.mutex_wanted ? options.mutex_profile : std::string_view()},
  }};
}

bool WantedProfiles::any_taken() const {
  for (const WantedProfile& profile : profiles) {
    if (profile.taken) return true;
  }
  return false;
}

bool WantedProfiles::any_at_end() const {
  for (const WantedProfile& profile : profiles) {
    if (profile.taken && !profile.file.empty()) return true;
  }
  return false;
}

PathText DumpPath(const WantedProfile& profile, const ProcessName& process, uint32_t number) {
  if (profile.file.empty()) return ProfilePath("heap.%e.%p.%n.prof", process, WrittenAt::kEnd, number);
  PathText path = ProfilePath(profile.file, process, WrittenAt::kEnd, number);
  if (path.empty() || NamesTheDump(profile.file)) return path;
  path.Add('.', number);
  return path.view().size() + 1 < kMaxPath ? path : PathText{};
}

}  // namespace profagent
