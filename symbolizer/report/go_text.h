// Text as Go's fmt and time packages make it, where that differs from C's.
//
// Context: `offline`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace profagent {

// Right-aligned in `width` characters (not bytes). Longer text stays whole.
void AppendPadded(std::string& text, std::string_view part, size_t width);

// The first `count` characters.
std::string_view FirstCharacters(std::string_view text, size_t count);

// Without white space at either end.
std::string_view TrimSpace(std::string_view text);

// Times in the local zone: "Nov 23, 2026 at 4:12am (UTC)" and "2026-11-23 04:12:09.25 +0000 UTC".
std::string HeaderTime(int64_t unix_nanos);
std::string RawTime(int64_t unix_nanos);

// time.Duration's: "1m30.5s", "1.5ms", "250ns".
std::string DurationText(int64_t nanos);

}  // namespace profagent
