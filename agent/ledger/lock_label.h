// How a lock is written down in the ledger: as a text, because equal texts are one record and most runs want none.
//
// Context: every one. `static 0x...`: data of a loaded object, as a Frame (module and offset in one number, so it means
//          the same after the process is gone). `stack 0x...` and `heap 0x...`: shown as they are.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "agent/base/text.h"
#include "agent/ledger/frame.h"

namespace profagent {

using LockLabel = FixedText<64>;

inline constexpr std::string_view kStaticLock = "static ";

inline LockLabel LabelOfStatic(Frame place) {
  LockLabel label;
  label.Add(kStaticLock, Hex{place.value});
  return label;
}

// Empty: not the label of static data.
inline std::optional<Frame> StaticPlace(std::string_view label) {
  if (!label.starts_with(kStaticLock)) return {};
  label.remove_prefix(kStaticLock.size());
  if (!label.starts_with("0x") || label.size() == 2 || label.size() > 18) return {};
  Frame place;
  for (char c : label.substr(2)) {
    bool digit = c >= '0' && c <= '9';
    if (!digit && (c < 'a' || c > 'f')) return {};
    place.value = place.value << 4 | static_cast<uint64_t>(digit ? c - '0' : c - 'a' + 10);
  }
  return place;
}

}  // namespace profagent
