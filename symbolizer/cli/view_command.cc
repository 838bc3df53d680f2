#include "symbolizer/cli/view_command.h"

#include "symbolizer/cli/command.h"

namespace profagent {

int RunViewer(const std::vector<std::string>& arguments) {
  PrintError(std::string("cannot show ") + arguments.front() + ": this build has no viewer");
  return kExitUsage;
}

std::string ViewerOptionsHelp() { return {}; }

}  // namespace profagent
