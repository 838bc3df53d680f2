// What a fuzzer's bytes mean to the reader of profiles and to the viewer, and what must hold for any of them. Shared by
// the fuzzer and by a test of the ordinary run.
#pragma once

#include <cstdlib>
#include <string>
#include <string_view>

#include "symbolizer/profile/merge_profiles.h"
#include "symbolizer/profile/read_profile.h"
#include "symbolizer/report/report.h"

namespace profagent {

// Whether the bytes are a profile. Aborts if a promise was broken, which a fuzzer takes for a finding.
inline bool TakeProfileInput(std::string_view bytes) {
  const auto require = [](bool kept) {
    if (!kept) std::abort();
  };
  constexpr ReadLimits kLimits{.file = 1 << 22, .uncompressed = 1 << 22, .in_memory = 1 << 26};
  const Result<Profile> profile = DecodeProfile(bytes, kLimits);
  if (!profile) {
    require(!profile.error().text.empty());
    return false;
  }

  const Profile compact = Compact(*profile);
  Profile checked = compact;
  require(static_cast<bool>(ValidateProfile(checked)));
  require(Compact(compact).SerializeAsString() == compact.SerializeAsString());
  const Profile* const twice[] = {&*profile, &compact};
  require(static_cast<bool>(MergeProfiles(twice)));

  for (const ReportKind kind : {ReportKind::kTop, ReportKind::kTraces, ReportKind::kRaw}) {
    ReportOptions plain, busy;
    plain.kind = busy.kind = kind;
    busy.sort = ReportSort::kCum;
    busy.granularity = Granularity::kLines;
    busy.node_count = 3;
    busy.mean = true;
    busy.divide_by = 3;
    busy.focus = "[a-m]";
    busy.hide = "z$";
    busy.tag_ignore = "1:10";
    busy.tag_root = "thread,bytes";
    for (const ReportOptions& options : {plain, busy}) {
      const Result<ReportText> report = MakeReport(*profile, options);
      require(report ? !report->text.empty() : !report.error().text.empty());
    }
  }
  return true;
}

}  // namespace profagent
