#include "symbolizer/run/jit_names.h"

#include <errno.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/units.h"
#include "symbolizer/profile/sample_values.h"
#include "symbolizer/symbolize/symbolize.h"

namespace profagent {
namespace {

using perftools::profiles::Location;
using perftools::profiles::Sample;

// A file's time may be that of the clock's last tick, and a process's that of a moment later.
constexpr int64_t kSlackSeconds = 1;
// So much of the CPU time, in percent, is worth a hint.
constexpr int64_t kMuch = 10;

std::optional<pid_t> PidOf(const Profile& profile) {
  constexpr std::string_view kPid = "# pid: ";
  for (int64_t comment : profile.comment()) {
    std::string_view text = profile.string_table(static_cast<int>(comment));
    if (!text.starts_with(kPid)) continue;
    text.remove_prefix(kPid.size());
    pid_t pid = 0;
    if (std::from_chars(text.data(), text.data() + text.size(), pid).ec == std::errc()) return pid;
  }
  return std::nullopt;
}

std::vector<CodeOrigin> OriginsOf(const Output& output) {
  if (!output.origins.empty()) return output.origins;
  // A process wrote it. Only a CPU profile says when it was begun, and not when it was taken.
  std::optional<pid_t> pid = PidOf(output.profile);
  if (!pid || output.kind != ProfileKind::kCpu) return {};
  return {{*pid, static_cast<uint64_t>(output.profile.time_nanos())}};
}

// Code of no file that is called by its address.
bool IsUnnamed(const Profile& profile, const Location& location) {
  if (location.mapping_id() != 0 || location.address() == 0) return false;
  if (location.line_size() == 0) return true;
  // The normal form's ids are positions.
  const auto& function = profile.function(static_cast<int>(location.line(0).function_id()) - 1);
  return profile.string_table(static_cast<int>(function.name())).starts_with("0x");
}

bool HasUnnamed(const Profile& profile) {
  return std::ranges::any_of(profile.location(),
                             [&](const Location& location) { return IsUnnamed(profile, location); });
}

// What of the samples' values is in such code itself.
int64_t UnnamedValue(const Profile& profile, int value) {
  int64_t sum = 0;
  for (const Sample& sample : profile.sample()) {
    if (sample.location_id_size() == 0) continue;
    const Location& leaf = profile.location(static_cast<int>(sample.location_id(0)) - 1);
    if (IsUnnamed(profile, leaf)) sum += sample.value(value);
  }
  return sum;
}

}  // namespace

void NameJitCode(std::deque<Output>& outputs, RunReport& report) {
  std::set<std::string> problems;  // a process has up to five profiles
  int64_t all = 0, unnamed = 0;
  for (Output& output : outputs) {
    Profile& profile = output.profile;
    for (const CodeOrigin& origin : OriginsOf(output)) {
      if (!HasUnnamed(profile)) break;
      PerfMapRules rules{
          .only_trusted = true,
          .not_before = static_cast<int64_t>(origin.began_nanos / kNanosPerSecond) - kSlackSeconds};
      Status named = NameByPerfMap(&profile, PerfMapPath(origin.pid), rules, nullptr);
      if (!named && named.error().code != ENOENT) problems.emplace(named.error().text.view());
    }
    if (output.kind != ProfileKind::kCpu) continue;
    int value = IndexOfValue(profile, RunKindOf(output.kind).value);
    if (value < 0) continue;
    all += output.weight;
    unnamed += UnnamedValue(profile, value);
  }
  for (const std::string& problem : problems) report.Line(problem);
  int64_t percent = all > 0 ? 100 * unnamed / all : 0;
  if (percent < kMuch) return;
  report.Line(
      std::to_string(percent) +
      "% of the CPU time is in code without a name that was made at run time; a runtime that describes it in "
      "/tmp/perf-PID.map gives it one: node --perf-basic-prof, python3.12 -X perf, java (see FILES of "
      "profagent(1))");
}

}  // namespace profagent
