#include "symbolizer/cli/check_command.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "symbolizer/check/check_binary.h"
#include "symbolizer/cli/command.h"

namespace profagent {

void RegisterCheckCommand(CLI::App& app, CommandOutcome& outcome) {
  CLI::App* command =
      app.add_subcommand("check", "say whether a program can be profiled, and what would help");
  auto program = std::make_shared<std::string>();
  command
      ->add_option("BINARY", *program, "a program, a script or a shared library; without a slash, along PATH")
      ->required();
  command->footer(
      "Runs nothing. Prints one line a finding: `ok`, `limited` (profiles are made, but something in them "
      "is\n"
      "missing or less exact) or `blocked` (no profile is made), what it means, and what to do about it. "
      "The\n"
      "last line is the verdict.\n"
      "\n"
      "Exit status: 0 profiling works, perhaps with limits; 1 it does not; 2 there is no such program, or "
      "the\n"
      "command line is wrong.\n"
      "\n"
      "Example: profagent check python3");
  command->callback([program, &outcome] {
    Result<CheckReport> report = CheckBinary(*program);
    if (!report) return outcome.Fail(report.error(), kExitUsage);
    std::string text = report->path + "\n";
    for (const Finding& finding : report->findings) text += finding.Text() + "\n";
    text += report->VerdictText() + "\n";
    std::fwrite(text.data(), 1, text.size(), stdout);
    outcome.exit_status = report->verdict() == Verdict::kBlocked ? kExitFailure : kExitOk;
  });
}

}  // namespace profagent
