// A profile laid out for reports: tables by index, every string once and known by its number.
//
// Reports rewrite a profile freely (demangle names, drop frames, forget lines), so each works on a View of
// its own. A copy shares the strings, which are only ever added to.
//
// Context: `offline`, one thread.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "symbolizer/profile/profile.h"

namespace profagent::graph {

using StringId = uint32_t;
inline constexpr StringId kEmpty = 0;  // ""
inline constexpr uint32_t kNone = ~uint32_t{0};

class StringPool {
 public:
  StringPool() { Intern(""); }
  StringPool(const StringPool&) = delete;
  StringPool& operator=(const StringPool&) = delete;

  StringId Intern(std::string_view text);
  const std::string& operator[](StringId id) const { return texts_[id]; }
  size_t size() const { return texts_.size(); }

 private:
  std::deque<std::string> texts_;  // does not move what it holds
  std::unordered_map<std::string_view, StringId> ids_;
};

struct ValueType {
  StringId type = kEmpty;
  StringId unit = kEmpty;
};

struct Mapping {
  uint64_t id = 0;
  uint64_t start = 0, limit = 0, offset = 0;
  StringId file = kEmpty, build_id = kEmpty;
  bool has_functions = false, has_filenames = false, has_line_numbers = false, has_inline_frames = false;
};

struct Function {
  StringId name = kEmpty, system_name = kEmpty, file = kEmpty;
  int64_t start_line = 0;
};

struct Line {
  uint32_t function = 0;  // index
  int64_t line = 0;
};

struct Location {
  uint64_t id = 0;
  uint32_t mapping = kNone;  // index
  uint64_t address = 0;
  bool is_folded = false;
  std::vector<Line> lines;  // innermost inlined function first
};

struct TextLabel {
  StringId key, value;
};
struct NumLabel {
  StringId key;
  int64_t value;
  StringId unit;
};

struct Sample {
  std::vector<uint32_t> locations;     // indices, leaf first
  std::vector<int64_t> values;         // one a sample type
  std::vector<TextLabel> text_labels;  // sorted by the text of the key
  std::vector<NumLabel> num_labels;    // likewise
};

struct View {
  std::shared_ptr<StringPool> strings = std::make_shared<StringPool>();
  std::vector<ValueType> sample_types;
  StringId default_sample_type = kEmpty;
  std::vector<Sample> samples;
  std::vector<Mapping> mappings;  // [0] is the program
  std::vector<Location> locations;
  std::vector<Function> functions;
  std::vector<StringId> comments;
  StringId drop_frames = kEmpty, keep_frames = kEmpty;
  int64_t time_nanos = 0, duration_nanos = 0;
  ValueType period_type;
  int64_t period = 0;

  const std::string& Text(StringId id) const { return (*strings)[id]; }
};

// From a profile in the normal form of profile.h (MergeProfiles, Compact).
View MakeView(const Profile& profile);

}  // namespace profagent::graph
