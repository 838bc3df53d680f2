// A value or one sentence that says what failed.
//
// Context: every one but `signal`. Nothing allocates: the sentence lives in the error itself,
//          so the same type serves the agent and the profagent command.
#pragma once

#include <cstring>
#include <optional>
#include <utility>

#include "agent/base/text.h"

namespace profagent {

struct Error {
  FixedText<240> text;  // names the thing: a path, an offset, a build-id. No full stop, no newline.
  int code = 0;         // the kernel's errno behind it, or 0

  template <class... Parts>
  static Error Of(const Parts&... parts) {
    Error error;
    error.text.Add(parts...);
    return error;
  }

  // For a failed system call: the parts, then the kernel's reason in words, `: No such file or directory`.
  // strerrordesc_np looks into a constant table (no locale, no memory: safe in a handler), unlike strerror.
  template <class... Parts>
  static Error OfKernel(int code, const Parts&... parts) {
    Error error = Of(parts...);
    const char* reason = strerrordesc_np(code);
    if (reason != nullptr) {
      error.text.Add(": ", reason);
    } else {
      error.text.Add(": error ", code);
    }
    error.code = code;
    return error;
  }
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Result(Error error) : error_(error) {}         // NOLINT(google-explicit-constructor)
  explicit operator bool() const { return value_.has_value(); }
  T& operator*() { return *value_; }
  const T& operator*() const { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }
  const Error& error() const { return error_; }

 private:
  std::optional<T> value_;
  Error error_;
};

struct Done {};
using Status = Result<Done>;

}  // namespace profagent
