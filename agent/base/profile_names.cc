#include "agent/base/profile_names.h"

namespace profagent {

bool NamesTheDump(std::string_view pattern) {
  for (size_t i = 0; i + 1 < pattern.size(); ++i) {
    if (pattern[i] == '%' && pattern[++i] == 'n') return true;
  }
  return false;
}

std::string_view ExtensionOf(std::string_view path) {
  constexpr std::string_view kDouble = ".pb.gz";
  std::string_view name = path.substr(path.rfind('/') + 1);
  size_t dot = name.ends_with(kDouble) ? name.size() - kDouble.size() : name.rfind('.');
  return dot == name.npos || dot == 0 ? std::string_view() : name.substr(dot);
}

PathText ProfilePath(std::string_view pattern, const ProcessName& process, WrittenAt when,
                     uint32_t dump_number) {
  PathText path;
  AddProfilePath(pattern, process, when, dump_number, &path);
  // A cut name would be somebody else's file.
  return path.view().size() + 1 < kMaxPath ? path : PathText{};
}

PathText NumberedPath(const PathText& path, uint32_t number) {
  if (number == 1 || path.empty()) return path;
  PathText numbered = path;
  numbered.Add('.', number);
  return numbered.view().size() + 1 < kMaxPath ? numbered : PathText{};
}

}  // namespace profagent
