#include "agent/encode/string_table.h"

#include <cstring>

namespace profagent {
namespace {

uint64_t Hash(std::string_view text) {
  uint64_t hash = text.size();
  for (; text.size() >= 8; text.remove_prefix(8)) {
    uint64_t word;
    std::memcpy(&word, text.data(), 8);
    hash = (hash ^ word) * 0x9fb21c651e98df25;
    hash ^= hash >> 32;
  }
  for (char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return hash ^ hash >> 29;
}

}  // namespace

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

StringTable::StringTable(Arena& arena) : arena_(arena), texts_(arena), index_(arena) { AddValid({}, false); }

uint32_t StringTable::Add(std::string_view text) {
  if (ValidUtf8Prefix(text) != text.size()) return AddCopy(text);
  return AddValid(text, false);
}

uint32_t StringTable::AddCopy(std::string_view text) {
  if (ValidUtf8Prefix(text) == text.size()) return AddValid(text, true);
  char* copy = arena_.AllocateArray<char>(text.size());
  if (copy == nullptr) {
    out_of_memory_ = true;
    return 0;
  }
  std::memcpy(copy, text.data(), text.size());
  MakeValidUtf8({copy, text.size()});
  return AddValid({copy, text.size()}, false);
}

uint32_t StringTable::AddValid(std::string_view text, bool copy) {
  uint64_t hash = Hash(text);
  uint32_t found = index_.Find(hash, [&](uint32_t i) { return texts_[i] == text; });
  if (found != HashIndex::kNone) return found;
  if (copy && !text.empty()) text = arena_.Copy(text);
  if (text.data() == nullptr && texts_.size() > 0) {
    out_of_memory_ = true;
    return 0;
  }
  if (!texts_.Add(text)) {
    out_of_memory_ = true;
    return 0;
  }
  if (!index_.Add(hash, texts_.size() - 1)) {
    texts_.RemoveLast();
    out_of_memory_ = true;
    return 0;
  }
  return texts_.size() - 1;
}

}  // namespace profagent
