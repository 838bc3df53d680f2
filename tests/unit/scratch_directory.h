// A directory of this test's own: two runs of the tests at once, or those of two users, do not meet in it.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace profagent::testing {

class ScratchDirectory {
 public:
  ScratchDirectory() : path_("/tmp/profagent_test.XXXXXX") { path_ = mkdtemp(path_.data()); }
  ~ScratchDirectory() { std::filesystem::remove_all(path_); }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace profagent::testing
