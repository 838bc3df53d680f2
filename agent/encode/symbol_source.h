// Where the encoder asks for function names.
//
// Context: `dump`, `offline`.
#pragma once

#include <span>
#include <string_view>

#include "agent/base/function_ref.h"
#include "agent/ledger/ledger_view.h"

namespace profagent {

struct SymbolRequest {
  const LedgerView::Module& module;
  std::string_view working_directory;   // of the process: a relative module.path refers to it
  std::span<const uint64_t> addresses;  // in the module's own numbering; ascending, each once
};

// Puts the name of the function that addresses[i] belongs to (as the linker knows it: mangled) into names[i], and
// leaves the names that it does not know empty. Called once for each module that has samples. Names must live
// until the profile is written: the same Arena is the place for them.
using SymbolSource = FunctionRef<void(const SymbolRequest& request, std::span<std::string_view> names)>;

inline void NoSymbols(const SymbolRequest&, std::span<std::string_view>) {}

}  // namespace profagent
