// A cursor over unwind tables that cannot leave them.
//
// Context:   `signal`. Reads memory of the application's own objects: whatever the bytes say, only
//            [at, limit) is touched.
// On error:  a read that would pass the end returns 0, moves to the end and makes ok() false for good, so
//            callers check once a record and loops over at_end() always finish.
#pragma once

#include <cstdint>
#include <cstring>

#include "agent/base/signal_safe.h"
#include "agent/unwind/memory_range.h"

namespace profagent {

// How .eh_frame writes an address (DW_EH_PE_*): low 4 bits the format, next 3 what it is relative to.
enum PointerEncoding : uint8_t {
  kPointerAbsolute = 0x00,
  kPointerUleb128 = 0x01,
  kPointerUdata2 = 0x02,
  kPointerUdata4 = 0x03,
  kPointerUdata8 = 0x04,
  kPointerSleb128 = 0x09,
  kPointerSdata2 = 0x0a,
  kPointerSdata4 = 0x0b,
  kPointerSdata8 = 0x0c,
  kPointerFormatMask = 0x0f,
  kPointerPcRelative = 0x10,
  kPointerTextRelative = 0x20,
  kPointerDataRelative = 0x30,
  kPointerFunctionRelative = 0x40,
  kPointerAligned = 0x50,
  kPointerBaseMask = 0x70,
  kPointerIndirect = 0x80,
  kPointerOmitted = 0xff,
};

// What relative pointers are relative to. 0: not known here, such a pointer is an error.
struct PointerBases {
  uintptr_t text = 0;
  uintptr_t data = 0;
  uintptr_t function = 0;
};

class ByteReader {
 public:
  ByteReader() = default;
  PROF_ALWAYS_INLINE ByteReader(uintptr_t at, uintptr_t limit) : at_(at), limit_(limit) {
    if (at_ > limit_) Fail();
  }
  // The bytes from `at` to the end of `range`; failed from the start when `at` lies outside.
  PROF_ALWAYS_INLINE ByteReader(const MemoryRange& range, uintptr_t at) : at_(at), limit_(range.limit) {
    if (!range.Holds(at, 0)) Fail();
  }

  PROF_ALWAYS_INLINE bool ok() const { return !failed_; }
  PROF_ALWAYS_INLINE bool at_end() const { return at_ >= limit_; }
  PROF_ALWAYS_INLINE uintptr_t at() const { return at_; }
  PROF_ALWAYS_INLINE uintptr_t limit() const { return limit_; }
  PROF_ALWAYS_INLINE uintptr_t left() const { return limit_ - at_; }

  PROF_ALWAYS_INLINE uint8_t U8() { return Fixed<uint8_t>(); }
  PROF_ALWAYS_INLINE uint16_t U16() { return Fixed<uint16_t>(); }
  PROF_ALWAYS_INLINE uint32_t U32() { return Fixed<uint32_t>(); }
  PROF_ALWAYS_INLINE uint64_t U64() { return Fixed<uint64_t>(); }

  PROF_ALWAYS_INLINE void Skip(uint64_t size) {
    if (size > left()) {
      Fail();
    } else {
      at_ += size;
    }
  }
  // A reader of the next `size` bytes, which this one skips.
  PROF_ALWAYS_INLINE ByteReader Take(uint64_t size) {
    uintptr_t from = at_;
    Skip(size);
    ByteReader part(from, failed_ ? from : from + size);
    part.failed_ = failed_;
    return part;
  }
  PROF_ALWAYS_INLINE void Fail() {
    failed_ = true;
    at_ = limit_;
  }

  // Bits above the 64th are dropped, as every consumer does.
  PROF_SIGNAL_SAFE uint64_t Uleb();
  PROF_SIGNAL_SAFE int64_t Sleb();
  // An encoded pointer. An indirect one is followed only inside `readable`. kPointerOmitted reads nothing.
  PROF_SIGNAL_SAFE uintptr_t Pointer(uint8_t encoding, const PointerBases& bases,
                                     const MemoryRange& readable);
  // The same without following or rebasing: for fields that are of no interest.
  PROF_SIGNAL_SAFE void SkipPointer(uint8_t encoding);

 private:
  template <class T>
  PROF_ALWAYS_INLINE T Fixed() {
    T value = 0;
    if (left() < sizeof(T)) {
      Fail();
      return 0;
    }
    std::memcpy(&value, reinterpret_cast<const void*>(at_), sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  PROF_SIGNAL_SAFE uint64_t PointerBits(uint8_t format);

  uintptr_t at_ = 0;
  uintptr_t limit_ = 0;
  bool failed_ = false;
};

}  // namespace profagent
