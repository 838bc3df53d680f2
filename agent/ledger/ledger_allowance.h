// How much memory a ledger may take here: what was asked for, or less where the process or the machine is limited.
//
// Context:  wherever a ledger is created.
#pragma once

#include <cstdint>
#include <string_view>

#include "agent/base/units.h"

namespace profagent {

// Of a limit on address space or data, the ledger takes this share.
inline constexpr uint64_t kShareOfLimit = 16;

// A resource's soft limit; UINT64_MAX: none, or a filter forbids to ask.
uint64_t ResourceLimit(int resource);

// Whole pages, and never less than kLedgerMinSize.
struct Allowance {
  uint64_t size;
  std::string_view reason;  // why it is less than was asked for; empty: it is not

  void CutTo(uint64_t most, std::string_view why);
  // By what does not count for a file.
  void CutForPrivateMemory();
};

Allowance AllowanceFor(Bytes wanted);

}  // namespace profagent
