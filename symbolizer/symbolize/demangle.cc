#include "symbolizer/symbolize/demangle.h"

#define HAVE_DECL_BASENAME 1  // or libiberty declares its own
#include <libiberty/demangle.h>

#include <csetjmp>
#include <optional>
#include <utility>

namespace profagent {
namespace {

// Longer ones exist (expression templates), but a name that long helps nobody.
constexpr size_t kLongestMangledName = 32 << 10;
constexpr size_t kLongestName = 1 << 20;

// What a demangler writes, but not without end: a hundred characters of substitutions can stand for gigabytes of text.
class BoundedText {
 public:
  using Demangler = int (*)(const char* mangled, int options, demangle_callbackref, void*);

  // Nothing: the name is not of that kind, or too long.
  std::optional<std::string> Write(Demangler demangler, const char* mangled) {
    // The demangler cannot be told to stop. It is C without anything to release, so it can be jumped out of.
    if (setjmp(too_long_) != 0) return std::nullopt;
    if (demangler(mangled, DMGL_PARAMS | DMGL_ANSI, &BoundedText::Take, this) == 0) return std::nullopt;
    return std::move(text_);
  }

 private:
  static void Take(const char* part, size_t size, void* self) {
    auto& text = *static_cast<BoundedText*>(self);
    if (text.text_.size() + size > kLongestName) std::longjmp(text.too_long_, 1);
    text.text_.append(part, size);
  }

  std::jmp_buf too_long_;
  std::string text_;
};

// LLVM appends `.llvm.1234567` to names that it made unique across modules: no clone, and nothing to tell
// apart.
std::string_view WithoutLlvmSuffix(std::string_view name) {
  size_t at = name.rfind(".llvm.");
  if (at == std::string_view::npos) return name;
  std::string_view number = name.substr(at + 6);
  bool is_number = !number.empty() && number.find_first_not_of("0123456789") == std::string_view::npos;
  return is_number ? name.substr(0, at) : name;
}

}  // namespace

std::string Demangle(const std::string& name) {
  // Only these prefixes can be mangled; C names such as `read` must never be taken for types.
  bool mangled = name.starts_with("_Z") || name.starts_with("_R") || name.starts_with("___Z");
  if (!mangled || name.size() > kLongestMangledName) return name;
  std::string base(WithoutLlvmSuffix(name));
  // Rust first: its legacy names are Itanium names, too, with a hash as the last part, which only this one
  // drops.
  std::optional<std::string> text = BoundedText().Write(rust_demangle_callback, base.c_str());
  if (!text) text = BoundedText().Write(cplus_demangle_v3_callback, base.c_str());
  return text.value_or(name);
}

}  // namespace profagent
