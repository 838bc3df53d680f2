// The stacks to which most of a value belongs, each short enough for a line.
//
// Context: `offline`.
// What is one: samples whose innermost kShownFrames functions are the same. More would tell apart what reads the same,
//          and split a leak by the loops that lead to it; -traces has every stack whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "symbolizer/profile/profile.h"

namespace profagent {

inline constexpr size_t kShownFrames = 6;

struct HeavyStack {
  int64_t weight = 0;
  int64_t count = 0;
  // Leaf first, demangled and without parameters; not the frames that start every program and thread, nor (where there are
  // others) those of C++'s and Rust's own libraries.
  std::vector<std::string> functions;
  bool goes_on = false;  // there are further callers

  // "a < b < c": `a` was called by `b`. At most `width` characters (but always a whole name), then " < ...".
  std::string Text(size_t width) const;
};

// At most `limit`, heaviest first; none whose weight is not above 0. `weight` and `count` are names of sample types.
std::vector<HeavyStack> HeaviestStacks(const Profile& profile, std::string_view weight,
                                       std::string_view count, size_t limit);

}  // namespace profagent
