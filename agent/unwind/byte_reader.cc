#include "agent/unwind/byte_reader.h"

namespace profagent {

uint64_t ByteReader::Uleb() {
  uint64_t value = 0;
  for (unsigned shift = 0;; shift += 7) {
    uint8_t byte = U8();
    if (shift < 64) value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) return value;  // also the 0 of a failed read
  }
}

int64_t ByteReader::Sleb() {
  uint64_t value = 0;
  for (unsigned shift = 0;; shift += 7) {
    uint8_t byte = U8();
    if (shift < 64) value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) != 0) continue;
    if ((byte & 0x40) != 0 && shift + 7 < 64) value |= ~uint64_t{0} << (shift + 7);
    return static_cast<int64_t>(value);
  }
}

uint64_t ByteReader::PointerBits(uint8_t format) {
  switch (format) {
    case kPointerAbsolute:
    case kPointerUdata8:
    case kPointerSdata8:
      return U64();
    case kPointerUleb128:
      return Uleb();
    case kPointerSleb128:
      return static_cast<uint64_t>(Sleb());
    case kPointerUdata2:
      return U16();
    case kPointerUdata4:
      return U32();
    case kPointerSdata2:
      return static_cast<uint64_t>(static_cast<int64_t>(static_cast<int16_t>(U16())));
    case kPointerSdata4:
      return static_cast<uint64_t>(static_cast<int64_t>(static_cast<int32_t>(U32())));
    default:
      Fail();
      return 0;
  }
}

uintptr_t ByteReader::Pointer(uint8_t encoding, const PointerBases& bases, const MemoryRange& readable) {
  if (encoding == kPointerOmitted) return 0;
  if ((encoding & kPointerBaseMask) == kPointerAligned) Skip((0 - at_) & 7);
  uintptr_t here = at_;
  uint64_t value = PointerBits(encoding & kPointerFormatMask);
  if (failed_ || value == 0) return 0;  // 0 stands for "none", whatever it would be relative to
  uintptr_t base = 0;
  switch (encoding & kPointerBaseMask) {
    case kPointerAbsolute:
    case kPointerAligned:
      break;
    case kPointerPcRelative:
      base = here;
      break;
    case kPointerTextRelative:
      base = bases.text;
      break;
    case kPointerDataRelative:
      base = bases.data;
      break;
    case kPointerFunctionRelative:
      base = bases.function;
      break;
    default:
      Fail();
      return 0;
  }
  bool relative = (encoding & kPointerBaseMask) != 0 && (encoding & kPointerBaseMask) != kPointerAligned;
  if (relative && base == 0) {
    Fail();
    return 0;
  }
  value += base;
  if ((encoding & kPointerIndirect) == 0) return value;
  ByteReader target(readable, value);
  value = target.U64();
  if (!target.ok()) Fail();
  return value;
}

void ByteReader::SkipPointer(uint8_t encoding) {
  if (encoding == kPointerOmitted) return;
  if ((encoding & kPointerBaseMask) == kPointerAligned) Skip((0 - at_) & 7);
  PointerBits(encoding & kPointerFormatMask);
}

}  // namespace profagent
