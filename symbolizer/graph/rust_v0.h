// Names of Rust's second scheme ("v0", RFC 2603): "_RNvC6_123foo3bar" to "123foo::bar".
//
// libiberty reads them too, but prints 1.5 % of the 305 000 names in rustc's own libraries otherwise than pprof does:
// constructors without a name ("Option::Some::"), lifetimes, constants of 128 bits. The scheme is small enough to have
// once more, with pprof's text; of those names all agree.
//
// Context: `offline`.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace profagent::graph {

// `mangled` begins with _R. What follows a '.' (".llvm.123") is left out. Nothing if it is no such name, or if it would be
// nested deeper or printed longer than any real one.
std::optional<std::string> RustV0Name(std::string_view mangled);

}  // namespace profagent::graph
