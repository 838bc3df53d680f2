#include "agent/base/utf8.h"

#include <cstdint>
#include <cstring>

namespace profagent {

// Shortest forms only, no surrogates, nothing above U+10FFFF (RFC 3629).
size_t ValidUtf8Prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    // Eight of ASCII at once: nearly all names are nothing else.
    uint64_t word;
    if (text.size() - at >= sizeof word) {
      std::memcpy(&word, text.data() + at, sizeof word);
      if ((word & 0x8080808080808080) == 0) {
        at += sizeof word;
        continue;
      }
    }
    auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : uint8_t{0}; };
    uint8_t first = byte(at);
    if (first < 0x80) {
      ++at;
      continue;
    }
    size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    uint8_t second = byte(at + 1);
    uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (first < 0xc2 || first > 0xf4 || second < low || second > high) return at;
    for (size_t i = 2; i < size; ++i) {
      if ((byte(at + i) & 0xc0) != 0x80) return at;
    }
    at += size;
  }
  return at;
}

void MakeValidUtf8(std::span<char> text) {
  std::string_view view(text.data(), text.size());
  size_t at = ValidUtf8Prefix(view);
  while (at < text.size()) {
    text[at++] = '?';
    at += ValidUtf8Prefix(view.substr(at));
  }
}

}  // namespace profagent
