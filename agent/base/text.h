// Text of bounded length, put together without allocation, locale or stdio.
//
// Context:   every one.
// When full: the text is cut and says so through truncated(); nothing is written past the end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

namespace profagent {

struct Hex {  // prints as 0x1f
  uint64_t value;
};

// Appends to memory of the caller. Keeps the text null-terminated (one byte of the capacity is for that).
class TextWriter {
 public:
  TextWriter(char* memory, size_t capacity) : data_(memory), capacity_(capacity) {
    if (capacity_ > 0) data_[0] = '\0';
  }

  template <class... Parts>
  TextWriter& Add(const Parts&... parts) {
    (AddOne(parts), ...);
    return *this;
  }

  size_t size() const { return size_; }
  bool truncated() const { return truncated_; }
  const char* c_str() const { return data_; }
  std::string_view view() const { return {data_, size_}; }

 private:
  // Out of line, as AddNumber is: inlined they are 8 KB of the library.
  __attribute__((noinline)) void AddOne(std::string_view part) {
    size_t room = capacity_ > size_ + 1 ? capacity_ - size_ - 1 : 0;
    size_t n = part.size() < room ? part.size() : room;
    truncated_ |= n < part.size();
    if (n == 0) return;
    std::memcpy(data_ + size_, part.data(), n);
    size_ += n;
    data_[size_] = '\0';
  }
  void AddOne(const char* part) { AddOne(std::string_view(part != nullptr ? part : "")); }
  void AddOne(char part) { AddOne(std::string_view(&part, 1)); }
  void AddOne(Hex part) {
    char digits[18];
    size_t at = sizeof digits;
    uint64_t rest = part.value;
    do {
      digits[--at] = "0123456789abcdef"[rest & 15];
      rest >>= 4;
    } while (rest != 0);
    AddOne("0x");
    AddOne(std::string_view(digits + at, sizeof digits - at));
  }
  template <class T>
  std::enable_if_t<std::is_integral_v<T>> AddOne(T part) {
    bool negative = false;
    if constexpr (std::is_signed_v<T>) negative = part < 0;
    auto size = static_cast<uint64_t>(part);
    AddNumber(negative ? 0 - size : size, negative);
  }
  __attribute__((noinline)) void AddNumber(uint64_t size, bool negative) {
    char digits[21];
    size_t at = sizeof digits;
    do {
      digits[--at] = static_cast<char>('0' + size % 10);
      size /= 10;
    } while (size != 0);
    if (negative) digits[--at] = '-';
    AddOne(std::string_view(digits + at, sizeof digits - at));
  }

  char* data_;
  size_t capacity_;
  size_t size_ = 0;
  bool truncated_ = false;
};

// A TextWriter that owns its memory; copies by value.
template <size_t kCapacity>
class FixedText {
 public:
  // constexpr, so that a static object may own one; the whole of it is written only then.
  constexpr FixedText() {
    if (std::is_constant_evaluated()) {
      for (char& c : data_) c = '\0';
    } else {
      data_[0] = '\0';
    }
  }

  template <class... Parts>
  FixedText& Add(const Parts&... parts) {
    TextWriter writer(data_ + size_, kCapacity - size_);
    writer.Add(parts...);
    size_ += writer.size();
    truncated_ |= writer.truncated();
    return *this;
  }

  bool truncated() const { return truncated_; }
  const char* c_str() const { return data_; }
  std::string_view view() const { return {data_, size_}; }
  bool empty() const { return size_ == 0; }

 private:
  size_t size_ = 0;
  bool truncated_ = false;
  char data_[kCapacity];
};

// A path with its null byte: the kernel's PATH_MAX.
inline constexpr size_t kMaxPath = 4096;
using PathText = FixedText<kMaxPath>;

}  // namespace profagent
