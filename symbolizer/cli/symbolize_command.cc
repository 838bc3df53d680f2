#include "symbolizer/cli/symbolize_command.h"

#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "symbolizer/cli/command.h"
#include "symbolizer/profile/read_profile.h"
#include "symbolizer/profile/write_profile.h"
#include "symbolizer/symbolize/symbolize.h"

namespace profagent {
namespace {

struct Arguments {
  std::string input;
  std::string output;
  std::vector<std::string> debug_path;
  std::string demangle = "full";
  std::string perf_map;
  bool quiet = false;
};

void PrintReport(const SymbolizeReport& report) {
  for (const ModuleReport& module : report.modules) PrintError(module.Text());
}

// A name that was typed wrong. PROFAGENT_DEBUG_PATH is like PATH: what is in it need not be there.
void WarnOfMissingDirectories(const std::vector<std::string>& debug_path) {
  for (const std::string& directory : debug_path) {
    struct stat status;
    const bool there = stat(directory.c_str(), &status) == 0;
    if (there && S_ISDIR(status.st_mode)) continue;
    PrintError(Error::OfKernel(there ? ENOTDIR : errno, "--debug-path: nothing is found in ", directory));
  }
}

Status RunSymbolize(const Arguments& arguments) {
  if (arguments.input.empty()) return Error::Of("the name of a file is empty");
  Result<std::string> output = OutputFile(arguments.output);
  if (!output) return output.error();
  Result<Profile> profile = ReadProfile(arguments.input);
  if (!profile) return profile.error();
  WarnOfMissingDirectories(arguments.debug_path);
  SymbolizeOptions options = SymbolizeOptions::FromEnvironment();
  // What is said on the command line comes before what the environment says.
  options.debug_path.insert(options.debug_path.begin(), arguments.debug_path.begin(),
                            arguments.debug_path.end());
  options.demangle = arguments.demangle == "full";
  SymbolizeReport report;
  if (Status symbolized = Symbolize(&*profile, options, &report); !symbolized) {
    return ErrorAbout(arguments.input, symbolized.error().text.view());
  }
  if (!arguments.perf_map.empty()) {
    if (Status named = NameByPerfMap(&*profile, arguments.perf_map, {}, &report); !named) return named;
  }
  if (Status written = WriteProfile(*profile, *output); !written) return written;
  if (!arguments.quiet) PrintReport(report);
  return Done{};
}

}  // namespace

void RegisterSymbolizeCommand(CLI::App& app, CommandOutcome& outcome) {
  CLI::App* command =
      app.add_subcommand("symbolize", "add functions, files, lines and inlined calls to a profile");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("PROFILE", arguments->input, "the profile to read, in pprof's format, gzip'd or not")
      ->required();
  command
      ->add_option("-o,--output", arguments->output,
                   "the file to write; may be PROFILE itself; -: standard output")
      ->required();
  command
      ->add_option("--debug-path", arguments->debug_path,
                   "a directory with binaries or separate debug files (DIR/.build-id/xx/yyyy.debug,\n"
                   "DIR/usr/bin/app, DIR/app); may be given several times")
      ->allow_extra_args(false);
  command->add_option("--perf-map", arguments->perf_map,
                      "names of code that was made at run time: what its maker wrote as /tmp/perf-PID.map\n"
                      "(node --perf-basic-prof, python3.12 -X perf); profagent run reads it by itself");
  command->add_option("--demangle", arguments->demangle, "names of C++ and Rust functions")
      ->check(CLI::IsMember({"full", "none"}))
      ->capture_default_str();
  command->add_flag("-q,--quiet", arguments->quiet, "say nothing about what was found where");
  command->footer(
      "Works where the profile was taken, or where files of the same build-id are: a file with another\n"
      "build-id is never used. One line a module tells what was found, why it is not more, and what would "
      "help.\n"
      "\n"
      "Separate debug files are looked for in --debug-path, PROFAGENT_DEBUG_PATH (colons between "
      "directories)\n"
      "and /usr/lib/debug, by build-id and by .gnu_debuglink; then, if DEBUGINFOD_URLS is set, at its "
      "servers.\n"
      "Of a stripped binary the symbols in .gnu_debugdata are taken (Fedora, RHEL).\n"
      "\n"
      "Example: profagent symbolize cpu.prof -o cpu.prof && profagent -top -lines cpu.prof");
  command->callback([arguments, &outcome] {
    if (Status done = RunSymbolize(*arguments); !done) outcome.Fail(done.error());
  });
}

}  // namespace profagent
