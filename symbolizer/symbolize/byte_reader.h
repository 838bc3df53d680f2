// A cursor over bytes of a stranger's file that cannot leave them.
//
// Context:    `offline`.
// Invariant:  a read past the end yields 0 and sets failed(), which stays set; loops must end on it.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace profagent {

class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  bool failed() const { return failed_; }
  bool done() const { return at_ >= end_; }
  size_t left() const { return static_cast<size_t>(end_ - at_); }

  // A number of one to eight bytes, little-endian. The widths of DWARF include three (DW_FORM_strx3).
  uint64_t Fixed(size_t width) {
    uint64_t value = 0;
    if (width > sizeof value || !Has(width)) return 0;
    std::memcpy(&value, at_, width);
    at_ += width;
    return value;
  }
  uint8_t U8() {
    if (at_ == end_) [[unlikely]] {
      Fail();
      return 0;
    }
    return static_cast<uint8_t>(*at_++);
  }
  uint64_t Uleb() {
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      uint8_t byte = U8();
      if (shift < 64) value |= uint64_t{byte & 0x7fu} << shift;
      if ((byte & 0x80) == 0) return value;
    }
  }
  int64_t Sleb() {
    uint64_t value = 0;
    unsigned shift = 0;
    uint8_t byte;
    do {
      byte = U8();
      if (shift < 64) value |= uint64_t{byte & 0x7fu} << shift;
      shift += 7;
    } while ((byte & 0x80) != 0);
    if (shift < 64 && (byte & 0x40) != 0) value |= ~uint64_t{0} << shift;
    return static_cast<int64_t>(value);
  }
  std::string_view String() {  // up to and without its null byte
    const void* null = std::memchr(at_, 0, left());
    if (null == nullptr) {
      Fail();
      return {};
    }
    std::string_view text(at_, static_cast<size_t>(static_cast<const char*>(null) - at_));
    at_ += text.size() + 1;
    return text;
  }
  std::string_view Bytes(uint64_t count) {
    if (!Has(count)) return {};
    std::string_view bytes(at_, count);
    at_ += count;
    return bytes;
  }
  void Skip(uint64_t count) {
    if (Has(count)) at_ += count;
  }

 private:
  bool Has(uint64_t count) {
    if (count <= left()) return true;
    Fail();
    return false;
  }
  void Fail() {
    failed_ = true;
    at_ = end_;
  }

  const char* at_;
  const char* end_;
  bool failed_ = false;
};

}  // namespace profagent
