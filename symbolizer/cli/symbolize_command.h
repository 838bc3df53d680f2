// `profagent symbolize IN -o OUT`: adds functions, files, lines and inlined calls to a profile.
//
// Context: `offline`.
#pragma once

namespace CLI {
class App;
}

namespace profagent {

struct CommandOutcome;
void RegisterSymbolizeCommand(CLI::App& app, CommandOutcome& outcome);

}  // namespace profagent
