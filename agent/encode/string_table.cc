#include "agent/encode/string_table.h"

#include <cstring>

#include "agent/base/utf8.h"

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
