#include "symbolizer/cli/run_command.h"

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <string_view>

#include "symbolizer/run/run.h"

namespace profagent {
namespace {

constexpr unsigned long kMaxHertz = 10000;

constexpr const char* kFooter =
    "Everything behind -- (or from the first word that is no option) is the command. It runs with this "
    "terminal, gets the\n"
    "signals that are sent to profagent, and its exit status is that of profagent: 128 + n when it died of "
    "signal n, 127\n"
    "when it was not found, 126 when it cannot be executed.\n"
    "\n"
    "One profile is written for each process that used the CPU: NAME for the command itself, "
    "NAME.PROGRAM.PID for the\n"
    "others. Also of processes that were killed. NAME may hold %p (pid) and %e (program).\n"
    "\n"
    "Examples:\n"
    "  profagent run -- ./app args\n"
    "  profagent run --cpu=1000 -o profiles/ -- make -j8\n"
    "  profagent run --merge -o build.prof -- sh -c './one | ./two'\n";

bool IsNumber(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// Words that belong to `run` itself. Which options take the next word as their value is asked of the options.
int CountOwnWords(const CLI::App& run, int argc, char** argv) {
  int i = 2;  // profagent run
  for (; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--" || word == "-" || !word.starts_with('-')) break;
    if (word.find('=') != std::string_view::npos || i + 1 == argc) continue;
    const CLI::Option* option = run.get_option_no_throw(std::string(word));
    if (option == nullptr || option->get_expected_max() == 0) continue;
    if (option->get_expected_min() > 0 || IsNumber(argv[i + 1])) ++i;
  }
  return i;
}

uint32_t Frequency(const std::string& text) {
  const unsigned long hertz = IsNumber(text) && text.size() <= 5 ? std::stoul(text) : 0;
  if (hertz < 1 || hertz > kMaxHertz)
    throw CLI::ValidationError("--cpu", text + " is not a number of 1 to 10000");
  return static_cast<uint32_t>(hertz);
}

}  // namespace

void RegisterRunCommand(CLI::App& app, CommandOutcome& outcome, int* argc, char** argv) {
  auto options = std::make_shared<RunOptions>();
  auto no_symbolize = std::make_shared<bool>(false);
  CLI::App* run = app.add_subcommand("run", "run a command, and show where its time went");
  run->footer(kFooter);

  run->add_option_function<std::string>(
         "--cpu",
         [options](const std::string& text) { options->cpu_hz = text.empty() ? 0 : Frequency(text); },
         "CPU profile (the default); HZ: samples a second of CPU time and thread, 1 to 10000 [100]")
      ->expected(0, 1)
      ->type_name("[=HZ]");
  run->add_option("-o,--output", options->output, "name of the profile, or a directory for it [cpu.prof]")
      ->type_name("NAME");
  run->add_flag("--merge", options->merge, "one profile for all processes together");
  run->add_flag("--no-symbolize", *no_symbolize,
                "names of the symbol tables only: no files, lines, inlined functions");
  run->add_option("--top", options->top, "lines of the table at the end, 0 for none [10]")
      ->check(CLI::Range(0, 100000))
      ->type_name("N");
  run->add_flag("--wait", options->wait_for_all, "wait for all processes that the command leaves behind");
  run->add_flag("--keep-ledgers", options->keep_ledgers,
                "keep the raw records of the processes, and say where");
  run->add_flag("-q,--quiet", options->quiet, "say nothing but errors");

  if (*argc > 1 && std::string_view(argv[1]) == run->get_name()) {
    const int own = CountOwnWords(*run, *argc, argv);
    const int begin = own < *argc && std::string_view(argv[own]) == "--" ? own + 1 : own;
    options->command.assign(argv + begin, argv + *argc);
    *argc = own;
  }
  run->callback([&outcome, options, no_symbolize] {
    options->symbolize = !*no_symbolize;
    if (options->command.empty()) {
      outcome.Fail(Error::Of("no command to run: profagent run [options] -- COMMAND [ARGUMENTS]"),
                   kExitUsage);
      return;
    }
    outcome.exit_status = Run(*options);
  });
}

}  // namespace profagent
