#include "agent/lifecycle/profile_names.h"

#include "agent/base/program_name.h"

namespace profagent {

bool NamesTheDump(std::string_view pattern) {
  for (size_t i = 0; i + 1 < pattern.size(); ++i) {
    if (pattern[i] == '%' && pattern[++i] == 'n') return true;
  }
  return false;
}

PathText ProfilePath(std::string_view pattern, const ProcessName& process, WrittenAt when,
                     uint32_t dump_number) {
  const std::string_view program = ShortenedName(process.program);
  PathText path;
  bool names_pid = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    char next = pattern[i] == '%' && i + 1 < pattern.size() ? pattern[i + 1] : '\0';
    if (next == 'p') {
      path.Add(process.pid);
      names_pid = true;
    } else if (next == 'e') {
      path.Add(program);
    } else if (next == 'n') {
      path.Add(dump_number);
    } else if (next == '%') {
      path.Add('%');
    } else {
      path.Add(pattern[i]);
      continue;
    }
    ++i;
  }
  if (when == WrittenAt::kExec || (!names_pid && !process.first)) {
    path.Add('.', program, '.', process.pid);
  }
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
