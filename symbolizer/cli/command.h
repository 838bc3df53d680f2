// What the subcommands of profagent share: how one is registered, what it leaves to the shell, how it names
// an error.
//
// A subcommand is two small files: NAME_command.h declares `void RegisterNameCommand(CLI::App&,
// CommandOutcome&)`, and NAME_command.cc adds the subcommand with its options and a callback that does the
// work and sets the outcome. main.cc calls each Register function once. CLI11 is included by those .cc files
// only: it costs seconds to compile.
//
// Context: `offline`.
#pragma once

#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace CLI {
class App;
}

namespace profagent {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;  // the command was understood but could not be done
inline constexpr int kExitUsage = 2;    // the command line itself is wrong

// The exit status of the process. `run` passes the status of its child on, so any value of 0..255 may appear.
struct CommandOutcome {
  int exit_status = kExitOk;

  void Fail(const Error& error, int status = kExitFailure);  // prints the error, remembers the status
};

// Before anything is opened. With a descriptor of 0 to 2 closed, the next file would take its number, and what is printed
// would go into it; so they are occupied, by what can be neither read nor written.
void PrepareStandardStreams();

// The file behind the name that a profile was given: "-" is standard output. Refused: an empty name (a script's variable that
// was not set), and a terminal.
Result<std::string> OutputFile(const std::string& name);

// Whether all that was printed arrived; if not, says so.
bool StandardOutputIsWritten();

// One line on stderr: "profagent: " and the sentence.
void PrintError(std::string_view sentence);
void PrintError(const Error& error);

}  // namespace profagent
