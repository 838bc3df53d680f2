#include "symbolizer/symbolize/demangle.h"

#define HAVE_DECL_BASENAME 1  // or libiberty declares its own
#include <libiberty/demangle.h>

#include <cstdlib>
#include <memory>

namespace profagent {
namespace {

// Longer ones exist (expression templates), but a name that long helps nobody, and the text behind a hostile
// one grows exponentially with it.
constexpr size_t kLongestMangledName = 32 << 10;

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
  constexpr int kOptions = DMGL_PARAMS | DMGL_ANSI;
  auto owned = [](char* text) { return std::unique_ptr<char, decltype(&std::free)>(text, &std::free); };
  // Rust first: its legacy names are Itanium names, too, with a hash as the last part, which only this one
  // drops.
  auto text = owned(rust_demangle(base.c_str(), kOptions));
  if (text == nullptr) text = owned(cplus_demangle_v3(base.c_str(), kOptions));
  return text != nullptr ? std::string(text.get()) : name;
}

}  // namespace profagent
