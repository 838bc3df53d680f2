// Names of descriptors that are open already: /dev/stdout, /dev/stderr, /dev/fd/3, /proc/self/fd/3. To open such a name anew would
// be to write over what was written there before.
#pragma once

#include <initializer_list>
#include <string_view>

namespace profagent {

// The descriptor's number; -1: it is the name of something else.
inline int DescriptorNamedBy(std::string_view path) {
  if (path == "/dev/stdout") return 1;
  if (path == "/dev/stderr") return 2;
  for (std::string_view start : {"/dev/fd/", "/proc/self/fd/"}) {
    if (!path.starts_with(start) || path.size() == start.size()) continue;
    int number = 0;
    for (char c : path.substr(start.size())) {
      if (c < '0' || c > '9' || number > 100'000'000) return -1;
      number = number * 10 + (c - '0');
    }
    return number;
  }
  return -1;
}

}  // namespace profagent
