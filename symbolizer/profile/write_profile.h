// Writes a profile to a file, so that it appears whole or not at all.
//
// Context: `offline`.
#pragma once

#include <string>
#include <string_view>

#include "symbolizer/profile/profile.h"

namespace profagent {

// gzip'd, mode 0600, written under a temporary name beside `path` and renamed. A symbolic link stays one:
// what it points to is replaced. What is no regular file (a pipe, /dev/stdout) is written to as it is.
Status WriteProfile(const Profile& profile, const std::string& path);

// The bytes that WriteProfile writes.
std::string EncodeProfile(const Profile& profile);

// All of them to an open descriptor, also to one that somebody else has made non-blocking. 0, or an errno.
int WriteBytes(int fd, std::string_view bytes);

// The same care for any other file, a report for instance.
Status WriteWholeFile(std::string_view bytes, const std::string& path, unsigned mode);

}  // namespace profagent
