// What a person calls a function: C++ (Itanium) and Rust (legacy and v0) names as their authors wrote them.
//
// Context:    `offline`.
#pragma once

#include <string>
#include <string_view>

namespace profagent {

// Parameters and template arguments included, clones marked as GNU tools do: `f(int) [clone .cold]`. A name
// that is not mangled, or that the demangler gives up on, comes back as it is.
std::string Demangle(const std::string& name);

}  // namespace profagent
