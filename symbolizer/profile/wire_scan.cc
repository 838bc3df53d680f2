#include "symbolizer/profile/wire_scan.h"

#include <cstdint>
#include <optional>

#include "proto/profile.pb.h"

namespace profagent {
namespace {

namespace proto = perftools::profiles;

enum WireType : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

// Top-level fields of the message Profile that are looked into.
enum : uint32_t { kSample = 2, kLocation = 4, kStringTable = 6, kTimeNanos = 9 };

struct Field {
  uint32_t number = 0;
  WireType type = kVarint;
  uint64_t value = 0;
  std::string_view bytes;
};

// Fields of one message, in order. Ends at the end of the bytes or at the first thing that is no field.
class FieldReader {
 public:
  explicit FieldReader(std::string_view bytes) : rest_(bytes) {}

  bool Next(Field& field) {
    if (rest_.empty()) return false;
    uint64_t tag = 0;
    if (!ReadVarint(tag)) return Fail();
    field.number = static_cast<uint32_t>(tag >> 3);
    field.type = static_cast<WireType>(tag & 7);
    field.bytes = {};
    field.value = 0;
    switch (field.type) {
      case kVarint:
        return ReadVarint(field.value) || Fail();
      case kFixed64:
        return Take(8, field.bytes) || Fail();
      case kFixed32:
        return Take(4, field.bytes) || Fail();
      case kBytes: {
        uint64_t length = 0;
        return (ReadVarint(length) && Take(length, field.bytes)) || Fail();
      }
    }
    return Fail();
  }
  bool failed() const { return failed_; }

 private:
  bool Fail() {
    failed_ = true;
    return false;
  }
  bool Take(uint64_t length, std::string_view& bytes) {
    if (length > rest_.size()) return false;
    bytes = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return true;
  }
  bool ReadVarint(uint64_t& value) {
    value = 0;
    for (size_t i = 0; i < 10 && i < rest_.size(); ++i) {
      const auto byte = static_cast<uint8_t>(rest_[i]);
      value |= uint64_t{byte & 0x7fu} << (7 * i);
      if (byte < 0x80) {
        rest_.remove_prefix(i + 1);
        return true;
      }
    }
    return false;
  }

  std::string_view rest_;
  bool failed_ = false;
};

// The wire type that each known field must have; packed numbers may come as bytes or one by one.
enum class Shape : uint8_t { kUnknown, kNumber, kMessage, kText, kNumbers };

constexpr Shape kProfileShape[] = {Shape::kUnknown, Shape::kMessage, Shape::kMessage, Shape::kMessage,
                                   Shape::kMessage, Shape::kMessage, Shape::kText,    Shape::kNumber,
                                   Shape::kNumber,  Shape::kNumber,  Shape::kNumber,  Shape::kMessage,
                                   Shape::kNumber,  Shape::kNumbers, Shape::kNumber,  Shape::kNumber};

bool Fits(const Field& field) {
  if (field.number >= std::size(kProfileShape)) return true;
  switch (kProfileShape[field.number]) {
    case Shape::kUnknown:
      return true;
    case Shape::kNumber:
      return field.type == kVarint;
    case Shape::kNumbers:
      return field.type == kVarint || field.type == kBytes;
    case Shape::kMessage:
    case Shape::kText:
      return field.type == kBytes;
  }
  return false;
}

// A heap block of its own (malloc's header and rounding) and the pointer that leads to it.
constexpr size_t kPerObject = 16 + 2 * sizeof(void*);

// Bytes that the parts inside a message take: its sub-messages, and numbers that grow from one byte to eight.
std::optional<size_t> MemoryInside(std::string_view message, uint32_t submessage, size_t submessage_size) {
  size_t memory = 0;
  FieldReader reader(message);
  for (Field field; reader.Next(field);) {
    if (field.type != kBytes)
      memory += sizeof(uint64_t) * 2;  // a repeated number may leave half of its array unused
    else if (field.number == submessage)
      memory += submessage_size + kPerObject;
    else
      memory += field.bytes.size() * sizeof(uint64_t) * 2;
  }
  if (reader.failed()) return std::nullopt;
  return memory;
}

}  // namespace

Result<WireScan> ScanEncodedProfile(std::string_view bytes) {
  if (bytes.empty()) return Error::Of("parsing profile: empty input file");
  const Error unrecognized = Error::Of("parsing profile: unrecognized profile format");

  constexpr uint32_t kLabelInSample = 3;
  constexpr uint32_t kLineInLocation = 4;
  constexpr size_t kLargestSmallMessage = sizeof(proto::Mapping);  // of the tables that are not looked into

  WireScan scan;
  bool has_strings = false;
  bool has_time = false;
  FieldReader reader(bytes);
  for (Field field; reader.Next(field);) {
    if (!Fits(field)) return unrecognized;
    std::optional<size_t> inside = 0;
    switch (field.number) {
      case kSample:
        inside = MemoryInside(field.bytes, kLabelInSample, sizeof(proto::Label));
        scan.memory += sizeof(proto::Sample) + kPerObject;
        break;
      case kLocation:
        inside = MemoryInside(field.bytes, kLineInLocation, sizeof(proto::Line));
        scan.memory += sizeof(proto::Location) + kPerObject;
        break;
      case kStringTable:
        if (!has_strings && !field.bytes.empty()) return unrecognized;  // string_table[0] must be ""
        has_strings = true;
        scan.memory += sizeof(std::string) + kPerObject + field.bytes.size() + 16;
        break;
      case kTimeNanos:
        if (has_time) return Error::Of("parsing profile: concatenated profiles detected");
        has_time = field.value != 0;
        break;
      default:
        scan.memory += kLargestSmallMessage + kPerObject + field.bytes.size() * sizeof(uint64_t);
        break;
    }
    if (!inside) return unrecognized;
    scan.memory += *inside;
  }
  if (reader.failed() || !has_strings) return unrecognized;
  return scan;
}

}  // namespace profagent
