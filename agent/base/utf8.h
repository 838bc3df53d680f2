// Text that may not be UTF-8: arguments, names of files, threads and functions are any bytes.
//
// Context: any.
#pragma once

#include <span>
#include <string_view>

namespace profagent {

// The length of the valid UTF-8 that `text` starts with.
size_t ValidUtf8Prefix(std::string_view text);
// Puts `?` for every byte that is none.
void MakeValidUtf8(std::span<char> text);

}  // namespace profagent
