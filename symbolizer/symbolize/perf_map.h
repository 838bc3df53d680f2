// Names of code that was made at run time, by what its maker writes for perf: /tmp/perf-PID.map, a line `START SIZE NAME` for each
// function, both numbers hexadecimal.
//
// Context:    `offline`.
// Writers:    node --perf-basic-prof, java -XX:+DumpPerfMapAtExit, python3.12 -X perf, DOTNET_PerfMapEnabled=1, Julia, LuaJIT...
// Reuse:      memory is used again; of several lines that cover an address the last one counts, as in perf.
// Limits:     names are cut after 64 KiB. The file may be of any size: what covers no address is not kept.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "agent/base/result.h"

namespace profagent {

std::string PerfMapPath(pid_t pid);

// Which files are believed.
struct PerfMapRules {
  bool only_trusted = false;  // root's and the caller's, not through a link: everybody can write to /tmp
  int64_t not_before = 0;  // seconds since 1970: what is older was another process's, which had the same pid
};

// names[i]: of addresses[i], which ascend, each once; "" where no line covers it. Errors name the path; ENOENT is the code of that
// which says that there is no such file.
Result<std::vector<std::string>> ReadPerfMap(const std::string& path, std::span<const uint64_t> addresses,
                                             PerfMapRules rules);

}  // namespace profagent
