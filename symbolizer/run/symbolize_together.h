// Symbolizes the profiles of many processes at once.
//
// A build runs a compiler a thousand times. One by one, its symbols and lines would be read a thousand times; here every
// file is opened once, and its addresses of all profiles are looked up together.
//
// Context: `offline`.
#pragma once

#include <span>

#include "agent/base/result.h"
#include "symbolizer/profile/profile.h"
#include "symbolizer/symbolize/symbolize.h"

namespace profagent {

// Profiles in the normal form of profile.h, before and after. On an error they are as they were.
Status SymbolizeTogether(std::span<Profile* const> profiles, const SymbolizeOptions& options,
                         SymbolizeReport* report);

}  // namespace profagent
