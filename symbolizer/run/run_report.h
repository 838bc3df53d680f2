// What `profagent run` says, all of it on standard error: the command's own output stays as it is.
//
// Context: `offline`. Every line starts with "profagent: ", but for the table.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "symbolizer/profile/profile.h"

namespace profagent {

class RunReport {
 public:
  explicit RunReport(bool quiet);

  // One line. Problems are said with --quiet too.
  void Problem(const std::string& sentence);
  void Line(const std::string& sentence);

  // A line that goes away again; only on a terminal.
  void Progress(const std::string& sentence);
  void ClearProgress();

  struct File {
    std::string path;
    std::string what;  // whose profile it is
    uint64_t cpu_nanos;
    const Profile* profile;
  };
  // Which profiles there are, the top of the heaviest in at most `lines` lines, and how to look further.
  void Profiles(std::vector<File> files, int lines);

 private:
  bool quiet_;
  bool progress_shown_ = false;
};

// "3.21s", "12ms"
std::string SecondsText(uint64_t nanos);

}  // namespace profagent
