// What `profagent run` says, all of it on standard error: the command's own output stays as it is.
//
// Context: `offline`. Every line starts with "profagent: ", but for tables. Control characters are shown as \xNN.
#pragma once

#include <string>
#include <string_view>

namespace profagent {

class RunReport {
 public:
  explicit RunReport(bool quiet);

  // One line. Problems are said with --quiet too.
  void Problem(const std::string& sentence);
  void Line(const std::string& sentence);
  // Lines of a table.
  void Table(std::string_view text);

  // A line that goes away again; only on a terminal.
  void Progress(const std::string& sentence);
  void ClearProgress();

  bool quiet() const { return quiet_; }

 private:
  bool quiet_;
  bool progress_shown_ = false;
};

}  // namespace profagent
