#include "symbolizer/run/agent_library.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <vector>

namespace profagent {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kLibrary = "libprofagent.so";

bool IsReadableFile(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error) && access(path.c_str(), R_OK) == 0;
}

}  // namespace

Result<std::string> FindAgentLibrary() {
  std::error_code error;
  if (const char* told = getenv("PROFAGENT_LIBRARY"); told != nullptr && *told != '\0') {
    fs::path path = fs::absolute(told, error);
    if (IsReadableFile(path)) return path.string();
    return Error::Of("PROFAGENT_LIBRARY=", told, " is not a file that can be read");
  }
  const fs::path command = fs::read_symlink("/proc/self/exe", error);
  std::vector<fs::path> candidates;
  if (!command.empty()) {
    candidates.push_back(command.parent_path() / "../agent" / kLibrary);
    candidates.push_back(command.parent_path() / PROFAGENT_LIBDIR_FROM_BINDIR / kLibrary);
  }
  candidates.push_back(fs::path(PROFAGENT_LIBDIR) / kLibrary);
  for (const fs::path& candidate : candidates) {
    if (IsReadableFile(candidate)) return fs::canonical(candidate, error).string();
  }
  Error missing = Error::Of("cannot find ", kLibrary, "; looked at");
  for (const fs::path& candidate : candidates) missing.text.Add(" ", candidate.lexically_normal().string());
  missing.text.Add("; PROFAGENT_LIBRARY=FILE names another");
  return missing;
}

}  // namespace profagent
