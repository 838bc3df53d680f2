// The profagent command. A first argument that names a subcommand selects it; everything else is the viewer's
// command line, which is pprof's: `profagent -top cpu.prof`.
//
// Context: `offline`.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "symbolizer/cli/check_command.h"
#include "symbolizer/cli/command.h"
#include "symbolizer/cli/run_command.h"
#include "symbolizer/cli/symbolize_command.h"
#include "symbolizer/cli/view_command.h"

namespace {

constexpr std::string_view kHeader =
    "profagent - profile any program, and look at profiles\n"
    "\n"
    "Usage:\n"
    "  profagent COMMAND [options] ...                 one of the commands below\n"
    "  profagent [options] [binary] PROFILE...         a report of one profile, or of several added up\n"
    "\n"
    "The viewer takes the options of `go tool pprof`, with one dash or two, and prints the same bytes.\n"
    "PROFILE is a file in pprof's format, gzip'd or not. With a binary before it, that file is the main "
    "program.\n"
    "A file whose name is that of a command is written with its directory: ./run.\n";

constexpr std::string_view kFooter =
    "Examples:\n"
    "  profagent run -- ./app args                     profile a program: where its time and memory went, "
    "who waited\n"
    "  profagent -top -alloc_space heap.prof           who allocated, freed since or not\n"
    "  profagent -top -cum -nodecount=20 cpu.prof      the 20 functions with most time in them and below "
    "them\n"
    "  profagent -traces cpu.prof                      every distinct stack with its weight\n"
    "  profagent -top -focus='^main' -lines cpu.prof   lines, of stacks that pass through main\n"
    "  profagent -top monday.prof tuesday.prof         both days together\n"
    "\n"
    "Exit status: 0 done; 1 it could not be done, stderr says why; 2 the command line is wrong.\n"
    "`profagent run` exits with the status of the program that it ran.\n";

void PrintHelp(const CLI::App& app) {
  std::string text(kHeader);
  text += "\nCommands:\n";
  for (const CLI::App* command : app.get_subcommands({})) {
    std::string name = command->get_name();
    name.resize(std::max<size_t>(name.size() + 1, 12), ' ');
    text += "  " + name + command->get_description() + "\n";
  }
  text += "  (profagent COMMAND --help says more)\n\n";
  text += profagent::ViewerOptionsHelp();
  text += "\n";
  text += kFooter;
  std::fwrite(text.data(), 1, text.size(), stdout);
}

int RunSubcommand(CLI::App& app, int argc, char** argv, const profagent::CommandOutcome& outcome) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& request) {
    return app.exit(request);
  } catch (const CLI::ParseError& error) {
    profagent::PrintError(std::string_view(error.what()));
    profagent::PrintError(std::string("`profagent ") + argv[1] + " --help` lists what is accepted");
    return profagent::kExitUsage;
  }
  return outcome.exit_status;
}

int Main(int argc, char** argv) {
  CLI::App app("profile any program, and look at profiles", "profagent");
  app.require_subcommand(1);
  profagent::CommandOutcome outcome;
  // Each subcommand registers itself here: one line, in the order of the help text.
  profagent::RegisterRunCommand(app, outcome, &argc, argv);
  profagent::RegisterSymbolizeCommand(app, outcome);
  profagent::RegisterCheckCommand(app, outcome);

  const std::string_view first = argc > 1 ? argv[1] : "";
  // A file that reaches RLIMIT_FSIZE is an error as any other. `run` does it itself: its command must not inherit that.
  if (first != "run") std::signal(SIGXFSZ, SIG_IGN);
  if (first == "--version" || first == "-version") {
    std::puts("profagent " PROFAGENT_VERSION);
    return profagent::kExitOk;
  }
  if (first == "--help" || first == "-help" || first == "-h" || first == "help") {
    PrintHelp(app);
    return profagent::kExitOk;
  }
  if (first.empty()) {
    profagent::PrintError(
        std::string_view("no command and no profile given; `profagent --help` lists what there is"));
    return profagent::kExitUsage;
  }
  const auto is_named = [&](const CLI::App* command) { return command->get_name() == first; };
  if (!app.get_subcommands(is_named).empty()) return RunSubcommand(app, argc, argv, outcome);
  return profagent::RunViewer(std::vector<std::string>(argv + 1, argv + argc));
}

}  // namespace

int main(int argc, char** argv) {
  profagent::PrepareStandardStreams();
  int status = profagent::kExitFailure;
  try {
    status = Main(argc, argv);
  } catch (const std::bad_alloc&) {
    profagent::PrintError(std::string_view("out of memory"));
  } catch (const std::exception& error) {
    profagent::PrintError(std::string_view(error.what()));
  }
  const bool written = profagent::StandardOutputIsWritten();
  return status == profagent::kExitOk && !written ? profagent::kExitFailure : status;
}
