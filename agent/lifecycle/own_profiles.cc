#include "agent/lifecycle/own_profiles.h"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <optional>

#include "agent/base/log.h"
#include "agent/base/raw_syscall.h"
#include "agent/base/short_wait.h"
#include "agent/encode/profile_file.h"
#include "agent/lifecycle/agent.h"
#include "agent/lifecycle/dump_signal.h"

namespace profagent {
namespace {

ProcessName NameOf(const ThisProcess& process) {
  return {.program = ProgramName(g_agent.ledger()), .pid = process.pid, .first = process.first};
}

}  // namespace

void OwnProfiles::WriteAll(const ThisProcess& process, WrittenAt when, Afterwards afterwards) {
  const Ledger& ledger = g_agent.ledger();
  const WantedProfiles wanted = WantedBy(g_agent.options());
  // The plain name may be an earlier run's; any other name that is taken already belongs to an earlier image of this
  // process.
  uint32_t dump_number = dumps_ + 1;
  ProcessName name = NameOf(process);
  if (std::ranges::any_of(wanted.profiles, [](const auto& profile) { return NamesTheDump(profile.file); })) {
    dump_number = NextDumpNumber(ledger, wanted, name, dumps_, WhoseDumps::kBeforeExec);
  }
  bool plain = when == WrittenAt::kEnd && name.first;
  std::optional<PlainNameTurn> turn;
  if (plain) turn.emplace(ledger, wanted);
  if (plain && AppearedMeanwhile(ledger, wanted, name, dump_number)) plain = name.first = false;
  uint32_t number = plain ? 1 : UnusedNumber(ledger, wanted, name, when, dump_number);
  for (size_t i = 0; i < kWantedProfiles; ++i) {
    const WantedProfile& profile = wanted.profiles[i];
    if (!profile.taken || profile.file.empty()) continue;
    PathText path = NumberedPath(ProfilePath(profile.file, name, when, dump_number), number);
    bool may_go_on = afterwards == Afterwards::kProcessGoesOn;
    bool written =
        WriteProfile(ledger, profile, path.view(), plain ? WhenEmpty::kWrite : WhenEmpty::kSkip, afterwards);
    // A dump that was asked for meanwhile comes after it.
    if (!may_go_on && NamesTheDump(profile.file)) dumps_ = dump_number;
    if (!written || !may_go_on) continue;
    left_behind_[i] = WrittenFile(AbsolutePath(ledger, path.view()));
    any_left_behind_ = true;
  }
}

void OwnProfiles::Write(const ThisProcess& process, WrittenAt when, Afterwards afterwards) {
  const WantedProfiles profiles = WantedBy(g_agent.options());
  bool writes_empty_ones = when == WrittenAt::kEnd && process.first;
  bool wanted =
      profiles.any_at_end() && (writes_empty_ones || MayHaveSamples(*g_agent.ledger().header(), profiles));
  auto write_all = [&] { WriteAll(process, when, afterwards); };
  for (int waited = 0; waited < kPatienceMillis; ++waited) {
    if (!wanted && !stack_.is_busy()) break;
    OwnStack::Outcome outcome =
        wanted ? stack_.Run([](void* work) { (*static_cast<decltype(write_all)*>(work))(); }, &write_all)
               : OwnStack::Outcome::kRefused;
    if (outcome == OwnStack::Outcome::kFaulted) return GiveUp();
    if (outcome == OwnStack::Outcome::kDone) break;
    SleepMillisecond();
  }
  AnswerDumpRequests();
}

void OwnProfiles::ForgetWhatWasLeft() {
  if (!any_left_behind_) return;
  for (PathText& path : left_behind_) path = {};
  any_left_behind_ = false;
}

void OwnProfiles::TakeBack() {
  if (!any_left_behind_) return;
  for (PathText& path : left_behind_) {
    if (!path.empty()) RawSyscall(SYS_unlink, path.c_str());
  }
  ForgetWhatWasLeft();
}

void OwnProfiles::WriteDump(const ThisProcess& process) {
  const WantedProfiles wanted = WantedBy(g_agent.options());
  std::optional<PlainNameTurn> turn;  // others with plain names may take a dump in this moment, too
  if (process.first) turn.emplace(g_agent.ledger(), wanted);
  const ProcessName name = NameOf(process);
  dumps_ = NextDumpNumber(g_agent.ledger(), wanted, name, dumps_, WhoseDumps::kAll);
  g_agent.SettleCpu();
  for (const WantedProfile& profile : wanted.profiles) {
    if (!profile.taken) continue;
    WriteProfile(g_agent.ledger(), profile, DumpPath(profile, name, dumps_).view(), WhenEmpty::kWrite,
                 Afterwards::kProcessGoesOn);
  }
}

void OwnProfiles::GiveUp() {
  const OwnStack::Fault& fault = stack_.fault();
  struct dl_find_object module = {};  // that of the agent, or libc below it
  bool found = _dl_find_object(reinterpret_cast<void*>(fault.instruction), &module) == 0;
  std::string_view path(found ? module.dlfo_link_map->l_name : "");
  uintptr_t start = reinterpret_cast<uintptr_t>(module.dlfo_map_start);
  Log(Verbosity::kErrors, "no profile written, its samples are lost: the agent failed (signal ", fault.signo,
      " at ", path.substr(path.rfind('/') + 1), "+", Hex{fault.instruction - start}, ", address ",
      Hex{fault.address}, ") and is off from here on");
  g_agent.TurnOff();
}

void OwnProfiles::BeginAnew() {
  ForgetWhatWasLeft();
  dumps_ = 0;
  stack_.Forget();
}

}  // namespace profagent
