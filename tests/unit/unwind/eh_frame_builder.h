// Writes .eh_frame and .eh_frame_hdr by hand, for tests.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "agent/unwind/eh_frame.h"

namespace profagent {

class EhFrameBuilder {
 public:
  // Code that the entries cover: addresses only, nothing is there.
  static constexpr uintptr_t kCode = 0x10000;

  enum class Lengths { k32Bits, k64Bits };

  explicit EhFrameBuilder(Lengths lengths = Lengths::k32Bits) : lengths_(lengths) { bytes_.reserve(kSize); }

  EhFrameBuilder& U8(uint64_t value) { return Raw(&value, 1); }
  EhFrameBuilder& U16(uint64_t value) { return Raw(&value, 2); }
  EhFrameBuilder& U32(uint64_t value) { return Raw(&value, 4); }
  EhFrameBuilder& U64(uint64_t value) { return Raw(&value, 8); }
  EhFrameBuilder& Bytes(std::vector<uint8_t> bytes) { return Raw(bytes.data(), bytes.size()); }
  EhFrameBuilder& Text(const char* text) { return Raw(text, strlen(text) + 1); }
  EhFrameBuilder& Raw(const void* data, size_t size) {
    auto* from = static_cast<const uint8_t*>(data);
    bytes_.insert(bytes_.end(), from, from + size);
    return *this;
  }

  // A CIE: data alignment -8, return address in column 16. `data`: augmentation data behind 'z'.
  void Cie(const std::string& augmentation, std::vector<uint8_t> data, std::vector<uint8_t> program,
           int code_alignment = 1, int version = 1) {
    Begin();
    cie_ = length_at_;
    U32(0).U8(static_cast<uint64_t>(version)).Text(augmentation.c_str());
    if (augmentation == "eh") U64(0);
    if (version == 4) U8(8).U8(0);
    U8(static_cast<uint64_t>(code_alignment)).U8(0x78).U8(16);
    if (!augmentation.empty() && augmentation[0] == 'z') U8(data.size()).Bytes(data);
    Bytes(program);
    End();
  }

  // An FDE of the last CIE with absolute 8-byte addresses, or with what `address` holds.
  void Fde(uintptr_t start, uintptr_t size, std::vector<uint8_t> program, bool augmented = false,
           std::vector<uint8_t> address = {}) {
    Begin();
    fdes_.push_back({start, length_at_});
    U32(bytes_.size() - cie_);
    if (address.empty()) {
      U64(start).U64(size);
    } else {
      Bytes(address);
    }
    if (augmented) U8(0);
    Bytes(program);
    End();
  }
  void End32() { U32(0); }

  size_t size() const { return bytes_.size(); }
  uint8_t* data() { return bytes_.data(); }
  uintptr_t here() const { return reinterpret_cast<uintptr_t>(bytes_.data()) + bytes_.size(); }

  // The tables without a sorted table: searched from front to back.
  EhFrameTables Linear() {
    EhFrameTables tables;
    tables.segment = Range();
    tables.eh_frame = tables.segment.start;
    tables.header = tables.segment.start;
    return tables;
  }

  // Appends .eh_frame_hdr and reads it.
  EhFrameTables WithHeader(bool wide = false) {
    End32();
    while (bytes_.size() % 8 != 0) U8(0);
    size_t header = bytes_.size();
    auto base = reinterpret_cast<uintptr_t>(bytes_.data());
    U8(1)
        .U8(kPointerAbsolute)
        .U8(kPointerUdata4)
        .U8(kPointerDataRelative | (wide ? kPointerSdata8 : kPointerSdata4));
    U64(base).U32(fdes_.size());
    for (auto& [start, at] : fdes_) {
      uint64_t start_offset = start - (base + header), entry_offset = at - header;
      if (wide) {
        U64(start_offset).U64(entry_offset);
      } else {
        U32(start_offset).U32(entry_offset);
      }
    }
    MemoryRange range = Range();
    return ReadEhFrameHeader(base + header, &range, 1, 0);
  }

  MemoryRange Range() {
    auto start = reinterpret_cast<uintptr_t>(bytes_.data());
    return {start, start + bytes_.size()};
  }
  // Addresses that fit into 4 bytes from the header: inside the builder's own memory.
  uintptr_t near_code() const { return reinterpret_cast<uintptr_t>(bytes_.data()) + kSize; }

 private:
  static constexpr size_t kSize = 1 << 16;  // never reallocated: entries hold addresses
  void Begin() {
    length_at_ = bytes_.size();
    if (lengths_ == Lengths::k64Bits) U32(0xffffffff).U32(0);
    U32(0);
  }
  void End() {
    while (bytes_.size() % 4 != 0) U8(0);  // DW_CFA_nop
    bool wide = lengths_ == Lengths::k64Bits;
    uint64_t length = bytes_.size() - length_at_ - (wide ? 12 : 4);
    memcpy(bytes_.data() + length_at_ + (wide ? 4 : 0), &length, wide ? 8 : 4);
  }

  struct Placed {
    uintptr_t start;
    size_t at;
  };
  Lengths lengths_;
  std::vector<uint8_t> bytes_;
  std::vector<Placed> fdes_;
  size_t cie_ = 0;
  size_t length_at_ = 0;
};

}  // namespace profagent
