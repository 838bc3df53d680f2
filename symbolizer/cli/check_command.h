// `profagent check BINARY`: would profiling it work?
//
// Context: `offline`.
#pragma once

namespace CLI {
class App;
}

namespace profagent {

struct CommandOutcome;
void RegisterCheckCommand(CLI::App& app, CommandOutcome& outcome);

}  // namespace profagent
