// Text that may not be UTF-8 (names of files and symbols are any bytes), read as Go reads it.
//
// Context: `offline`.
#pragma once

#include <string>
#include <string_view>

namespace profagent::graph {

// Bytes of the character at the start of the text; 1 for a byte that starts none, as Go counts it.
size_t CharacterLength(std::string_view text);

// With U+FFFD for each byte that starts no character.
std::string ToValidUtf8(std::string_view text);

}  // namespace profagent::graph
