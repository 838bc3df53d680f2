// File names as Go's path/filepath treats them: pprof prints what these return.
//
// Context: `offline`. Nothing here looks at the file system.
#pragma once

#include <string>
#include <string_view>

namespace profagent::graph {

std::string_view BaseName(std::string_view path);  // "." for "", "/" for slashes only

std::string CleanPath(std::string_view path);  // the shortest name of the same file: no //, no /./, no x/..

// A source file without the directory it was built in: the first of `trim_path` (separated by ':') that it
// begins with, or, if there is none, what follows the last component of a directory of `search_path`.
std::string_view TrimSourcePath(std::string_view path, std::string_view trim_path,
                                std::string_view search_path);

}  // namespace profagent::graph
