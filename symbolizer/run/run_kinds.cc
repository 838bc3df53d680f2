#include "symbolizer/run/run_kinds.h"

#include <algorithm>

namespace profagent {
namespace {

// Empty: not set.
std::string_view ValueIn(const char* const* environment, std::string_view name) {
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    const std::string_view variable = *environment;
    if (variable.size() > name.size() && variable.starts_with(name) && variable[name.size()] == '=')
      return variable.substr(name.size() + 1);
  }
  return {};
}

}  // namespace

const KindRequest& WantedKinds::Of(ProfileKind kind) const {
  switch (kind) {
    case ProfileKind::kCpu:
      return cpu;
    case ProfileKind::kHeap:
    case ProfileKind::kAllocs:
    case ProfileKind::kHeapPeak:
      return heap;
    case ProfileKind::kBlock:
      return block;
    case ProfileKind::kMutex:
      return mutex;
  }
  return cpu;
}

std::vector<ProfileKind> WantedKinds::Written() const {
  std::vector<ProfileKind> kinds;
  for (const RunKind& kind : kRunKinds) {
    if (Of(kind.kind).taken) kinds.push_back(kind.kind);
  }
  return kinds;
}

void WantedKinds::HeedEnvironment(const char* const* environment) {
  auto heed = [&](KindRequest& request, ProfileKind kind) {
    if (!request.asked && IsSwitchedOff(environment, kind)) request.taken = false;
  };
  heed(heap, ProfileKind::kHeap);
  heed(block, ProfileKind::kBlock);
  heed(mutex, ProfileKind::kMutex);
}

const RunKind& RunKindOf(ProfileKind kind) {
  return *std::ranges::find_if(kRunKinds, [kind](const RunKind& known) { return known.kind == kind; });
}

std::string_view RateVariable(ProfileKind kind) {
  switch (kind) {
    case ProfileKind::kCpu:
      return "CPUPROFILE_FREQUENCY";
    case ProfileKind::kHeap:
    case ProfileKind::kAllocs:
    case ProfileKind::kHeapPeak:
      return "MEMPROFILERATE";
    case ProfileKind::kBlock:
      return "BLOCKRATE";
    case ProfileKind::kMutex:
      return "MUTEXFRACTION";
  }
  return {};
}

bool IsSwitchedOff(const char* const* environment, ProfileKind kind) {
  const std::string_view rate = ValueIn(environment, RateVariable(kind));
  return kind != ProfileKind::kCpu && !rate.empty() && rate.find_first_not_of('0') == std::string_view::npos;
}

}  // namespace profagent
