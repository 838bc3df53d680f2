#include "symbolizer/cli/run_command.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "symbolizer/run/run.h"

namespace profagent {
namespace {

constexpr uint64_t kMaxHertz = 10000;
constexpr uint64_t kMaxRate = uint64_t{1} << 62;  // the agent's

constexpr const char* kFooter =
    "Everything behind -- (or from the first word that is no option) is the command. It runs with this "
    "terminal, gets the\n"
    "signals that are sent to profagent, and its exit status is that of profagent: 128 + n when it died of "
    "signal n, 127\n"
    "when it was not found, 126 when it cannot be executed.\n"
    "\n"
    "Without --cpu, --heap, --block and --mutex all four are taken; with some of them, only these. A profile "
    "is written for\n"
    "each process that has samples of its kind, also of processes that were killed: cpu.prof, heap.prof "
    "(what "
    "was live at the\n"
    "end, and what was allocated), heap-peak.prof (what was live when the heap was at its largest), "
    "block.prof "
    "(who waited)\n"
    "and mutex.prof (who made others wait) for the command itself, cpu.prof.PROGRAM.PID and so on for the "
    "others. With\n"
    "-o NAME the CPU profile, or the only kind that is taken, is called NAME; the others put their kind "
    "before "
    "its\n"
    "extension: x.prof, x.heap.prof. NAME may hold %p (pid), %e (program) and %n (the number "
    "after the\n"
    "last dump's: those that SIGUSR2 asked for).\n"
    "\n"
    "Examples:\n"
    "  profagent run -- ./app args\n"
    "  profagent run --cpu=1000 -o profiles/ -- make -j8\n"
    "  profagent run --heap=1 -o leaks.prof -- ./app                every allocation, not one in 512 KiB\n"
    "  profagent run --block --mutex -- ./server\n"
    "  profagent run --merge -o build.prof -- sh -c './one | ./two'\n";

bool IsNumber(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// The option of `word` that may take the next word: of `-qo` that is `-o`; of `-ofile`, which has its value, none.
const CLI::Option* FindLastOption(const CLI::App& run, std::string_view word) {
  if (word.starts_with("--")) return run.get_option_no_throw(std::string(word));
  const CLI::Option* option = nullptr;
  for (const char letter : word.substr(1)) {
    if (option != nullptr && option->get_expected_max() > 0) return nullptr;
    option = run.get_option_no_throw({'-', letter});
    if (option == nullptr) return nullptr;
  }
  return option;
}

// Words that belong to `run` itself. Which options take the next word as their value is asked of the options.
int CountOwnWords(const CLI::App& run, int argc, char** argv) {
  int i = 2;  // profagent run
  for (; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--" || word == "-" || !word.starts_with('-')) break;
    if (word.find('=') != std::string_view::npos || i + 1 == argc) continue;
    const CLI::Option* option = FindLastOption(run, word);
    if (option == nullptr || option->get_expected_max() == 0) continue;
    if (option->get_expected_min() > 0 || IsNumber(argv[i + 1])) ++i;
  }
  return i;
}

// "--cpu": of "--cpu=", which CLI11 takes for --cpu.
std::string FindEmptyValue(char** begin, char** end) {
  for (; begin != end; ++begin) {
    const std::string_view word = *begin;
    if (word.starts_with("--") && word.find('=') == word.size() - 1)
      return std::string(word.substr(0, word.size() - 1));
  }
  return {};
}

uint64_t Rate(const std::string& option, const std::string& text, uint64_t most) {
  const uint64_t rate = IsNumber(text) && text.size() <= 19 ? std::stoull(text) : 0;
  if (rate < 1 || rate > most)
    throw CLI::ValidationError(option, text + " is not a number of 1 to " + std::to_string(most));
  return rate;
}

// "--cpu[=HZ]": CLI11 would put a blank between an option and its value, which must not be typed here.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    const std::string value = CLI::Formatter::make_option_opts(option);
    return value.starts_with(" [=") ? value.substr(1) : value;
  }
};

// --KIND[=RATE]
void AddKind(CLI::App& run, const std::string& option, const std::string& type, KindRequest& request,
             uint64_t most, const std::string& help) {
  run.add_option_function<std::string>(
         option,
         [&request, option, most](const std::string& text) {
           request.asked = true;
           if (!text.empty()) request.rate = Rate(option, text, most);
         },
         help)
      ->expected(0, 1)
      ->type_name("[=" + type + "]");
}

// Whoever asks for some does not want the others.
void SettleKinds(WantedKinds& kinds) {
  KindRequest* const all[] = {&kinds.cpu, &kinds.heap, &kinds.block, &kinds.mutex};
  const bool any = std::ranges::any_of(all, [](const KindRequest* request) { return request->asked; });
  for (KindRequest* request : all) request->taken = request->asked || !any;
}

}  // namespace

void RegisterRunCommand(CLI::App& app, CommandOutcome& outcome, int* argc, char** argv) {
  auto options = std::make_shared<RunOptions>();
  auto no_symbolize = std::make_shared<bool>(false);
  CLI::App* run = app.add_subcommand("run", "run a command, and show where its time and memory went");
  run->formatter(std::make_shared<HelpFormatter>());
  run->footer(kFooter);

  WantedKinds& kinds = options->kinds;  // lives in the callback below
  AddKind(*run, "--cpu", "HZ", kinds.cpu, kMaxHertz,
          "CPU profile; HZ: samples a second of CPU time and thread, 1 to 10000 [100]");
  AddKind(*run, "--heap", "RATE", kinds.heap, kMaxRate,
          "heap profile; RATE: bytes per sample, 1: every allocation [524288]");
  AddKind(*run, "--block", "NS", kinds.block, kMaxRate,
          "block profile; NS: every wait of that many nanoseconds, and of shorter ones a share [10000]");
  AddKind(*run, "--mutex", "N", kinds.mutex, kMaxRate, "mutex profile; N: one of N contentions [10]");
  const CLI::Option* output = run->add_option("-o,--output", options->output,
                                              "name of the profile, -: standard output, or a directory for "
                                              "all of them [the current directory]")
                                  ->type_name("NAME");
  run->add_flag("--merge", options->merge, "one profile of each kind for all processes together");
  run->add_flag("--no-symbolize", *no_symbolize,
                "names of the symbol tables only: no files, lines, inlined functions");
  run->add_option("--top", options->top, "lines of a table at the end, 0 for none [10]")
      ->check(CLI::Range(0, 100000))
      ->type_name("N");
  run->add_flag("--wait", options->wait_for_all, "wait for all processes that the command leaves behind");
  run->add_flag("--keep-ledgers", options->keep_ledgers,
                "keep the raw records of the processes, and say where");
  run->add_flag("-q,--quiet", options->quiet, "say nothing but errors");

  std::string empty_value;
  if (*argc > 1 && std::string_view(argv[1]) == run->get_name()) {
    const int own = CountOwnWords(*run, *argc, argv);
    empty_value = FindEmptyValue(argv + 2, argv + own);
    const int begin = own < *argc && std::string_view(argv[own]) == "--" ? own + 1 : own;
    options->command.assign(argv + begin, argv + *argc);
    *argc = own;
  }
  run->callback([&outcome, options, no_symbolize, output, empty_value] {
    if (!empty_value.empty()) throw CLI::ValidationError(empty_value, "no value behind the =");
    if (output->count() > 0) {
      Result<std::string> file = OutputFile(options->output);
      if (!file) return outcome.Fail(file.error(), kExitUsage);
      options->output = *file;
    }
    options->symbolize = !*no_symbolize;
    SettleKinds(options->kinds);
    if (options->command.empty()) {
      outcome.Fail(Error::Of("no command to run: profagent run [options] -- COMMAND [ARGUMENTS]"),
                   kExitUsage);
      return;
    }
    outcome.exit_status = Run(*options);
  });
}

}  // namespace profagent
