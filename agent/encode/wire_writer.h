// The protobuf wire format, as much of it as profile.proto needs, without the protobuf library.
//
// Context: `dump`, `offline`. Allocates nothing; holds back up to 4 KiB until Flush.
// How:     a message inside a message is preceded by its size, so its writer adds up the sizes of its fields
//          first (the *Size functions), then writes them. As in proto3, a field that is 0 or empty is not written.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "agent/encode/byte_sink.h"

namespace profagent {

// Field numbers here are below 16: every tag is one byte.
constexpr size_t VarintSize(uint64_t value) {
  return (static_cast<size_t>(std::bit_width(value | 1)) + 6) / 7;
}
// Where it ends.
inline std::byte* PutVarint(uint64_t value, std::byte* to) {
  for (; value >= 0x80; value >>= 7) *to++ = static_cast<std::byte>(value | 0x80);
  *to++ = static_cast<std::byte>(value);
  return to;
}
constexpr size_t IntegerSize(uint64_t value) { return value == 0 ? 0 : 1 + VarintSize(value); }
constexpr size_t BlockSize(size_t size) {
  return 1 + VarintSize(size) + size;
}  // a message, string or packed list

class WireWriter {
 public:
  explicit WireWriter(ByteSink sink) : sink_(sink) {}
  WireWriter(const WireWriter&) = delete;
  WireWriter& operator=(const WireWriter&) = delete;

  void Integer(uint32_t field, uint64_t value) {
    if (value == 0) return;
    Tag(field, 0);
    Varint(value);
  }
  // Opens a message or a packed list: exactly `size` bytes of fields, or of Varints, must follow.
  void Block(uint32_t field, size_t size) {
    Tag(field, 2);
    Varint(size);
  }
  // A packed list, or a message, that is ready.
  void Bytes(uint32_t field, std::span<const std::byte> bytes) {
    Block(field, bytes.size());
    Raw(bytes);
  }
  // Written even when empty: elements of a repeated field count.
  void String(uint32_t field, std::string_view text) { Bytes(field, std::as_bytes(std::span(text))); }
  void Varint(uint64_t value) {
    if (kBufferSize - used_ < 10) FlushBuffer();
    used_ = static_cast<size_t>(PutVarint(value, buffer_ + used_) - buffer_);
  }

  // False: the sink refused, now or before.
  bool Flush() {
    FlushBuffer();
    return !refused_;
  }
  bool refused() const { return refused_; }

 private:
  static constexpr size_t kBufferSize = 4096;

  void Tag(uint32_t field, uint32_t wire_type) { Varint(field << 3 | wire_type); }
  void Raw(std::span<const std::byte> bytes) {
    if (bytes.size() > kBufferSize - used_) FlushBuffer();
    if (bytes.size() > kBufferSize) return Send(bytes);
    if (!bytes.empty()) std::memcpy(buffer_ + used_, bytes.data(), bytes.size());
    used_ += bytes.size();
  }
  void FlushBuffer() {
    if (used_ > 0) Send({buffer_, used_});
    used_ = 0;
  }
  void Send(std::span<const std::byte> bytes) {
    if (!refused_ && !sink_(bytes)) refused_ = true;
  }

  ByteSink sink_;
  size_t used_ = 0;
  bool refused_ = false;
  std::byte buffer_[kBufferSize];
};

}  // namespace profagent
