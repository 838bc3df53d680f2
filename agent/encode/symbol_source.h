// Where the encoder asks for function names.
//
// Context: `dump`, `offline`.
#pragma once

#include <span>
#include <string_view>

#include "agent/base/function_ref.h"
#include "agent/ledger/ledger_view.h"

namespace profagent {

enum class SymbolKind : uint8_t { kFunctions, kVariables };

struct SymbolRequest {
  const LedgerView::Module& module;
  std::string_view working_directory;   // of the process: a relative module.path refers to it
  std::span<const uint64_t> addresses;  // in the module's own numbering; ascending, each once
  SymbolKind kind = SymbolKind::kFunctions;
};

struct FunctionSymbol {
  std::string_view name;  // as the linker knows it: mangled; empty: not known
  uint64_t start = 0;     // of the function, in the module's own numbering
  bool is_label = false;  // its symbol has no size: how far it reaches is a guess
};

// Puts the function (or variable) that addresses[i] belongs to into names[i], and leaves those that it does not know empty.
// Called once for each module that has samples, of a large heap profile a second time for what is no leaf (no address comes twice),
// and once for each that has variables to be named. Names must live until the profile is written: the same Arena is the place.
using SymbolSource = FunctionRef<void(const SymbolRequest& request, std::span<FunctionSymbol> names)>;

inline void NoSymbols(const SymbolRequest&, std::span<FunctionSymbol>) {}

}  // namespace profagent
