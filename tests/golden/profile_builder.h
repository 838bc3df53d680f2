// Puts a profile together by hand, a line of text for each thing.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "proto/profile.pb.h"

namespace profagent {

class ProfileBuilder {
 public:
  struct FunctionAtLine {
    std::string function;  // "name" or "name|system name"; name == system name if there is no bar
    std::string file;
    int64_t line = 0;
    int64_t start_line = 0;
  };
  struct Label {
    std::string key, text;
    int64_t number = 0;
    std::string unit;
  };

  ProfileBuilder();

  ProfileBuilder& Type(std::string_view type, std::string_view unit);
  ProfileBuilder& Period(std::string_view type, std::string_view unit, int64_t period);
  // The id of a new mapping.
  uint64_t Mapping(uint64_t start, uint64_t limit, uint64_t offset, std::string_view file,
                   std::string_view build_id, bool symbolized = true);
  // The id of a location; the same arguments give the same id. Innermost function first.
  uint64_t Location(uint64_t mapping, uint64_t address, const std::vector<FunctionAtLine>& lines = {});
  ProfileBuilder& Sample(std::vector<uint64_t> locations, std::vector<int64_t> values,
                         const std::vector<Label>& labels = {});
  ProfileBuilder& Comment(std::string_view text);
  ProfileBuilder& DefaultType(std::string_view type);
  ProfileBuilder& DropFrames(std::string_view expression, std::string_view keep = {});

  perftools::profiles::Profile& profile() { return profile_; }
  int64_t String(std::string_view text);

 private:
  perftools::profiles::Profile profile_;
  std::map<std::string, int64_t, std::less<>> strings_;
  std::map<std::string, uint64_t> functions_, locations_;
};

}  // namespace profagent
