#include "symbolizer/graph/utf8.h"

namespace profagent::graph {

size_t CharacterLength(std::string_view text) {
  const auto byte = [&](size_t i) -> unsigned {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  };
  const auto continues = [&](size_t i) { return (byte(i) & 0xc0) == 0x80; };
  const unsigned first = byte(0), second = byte(1);
  if (first >= 0xc2 && first <= 0xdf && continues(1)) return 2;
  if (first >= 0xe0 && first <= 0xef && continues(1) && continues(2)) {
    const bool overlong = first == 0xe0 && second < 0xa0;
    const bool surrogate = first == 0xed && second >= 0xa0;
    if (!overlong && !surrogate) return 3;
  }
  if (first >= 0xf0 && first <= 0xf4 && continues(1) && continues(2) && continues(3)) {
    const bool overlong = first == 0xf0 && second < 0x90;
    const bool beyond = first == 0xf4 && second >= 0x90;
    if (!overlong && !beyond) return 4;
  }
  return 1;
}

std::string ToValidUtf8(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  while (!text.empty()) {
    const size_t length = CharacterLength(text);
    const bool starts_none = length == 1 && static_cast<unsigned char>(text.front()) >= 0x80;
    valid += starts_none ? "\xef\xbf\xbd" : text.substr(0, length);
    text.remove_prefix(length);
  }
  return valid;
}

}  // namespace profagent::graph
