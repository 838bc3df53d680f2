// Linkers' names to people's names, in the form that pprof shows: without parameters, without template
// arguments.
//
// Context: `offline`.
#pragma once

#include <string>
#include <string_view>

#include "symbolizer/graph/view.h"

namespace profagent::graph {

// "_ZN3app3BoxIiE4workEi" to "app::Box::work"; a name that is not mangled loses "(...)" and "<...>" if it
// looks like C++.
std::string ShortName(std::string_view system_name);

// Of every function whose name is its system name (or empty). A name that differs was chosen by the profile's
// author.
void DemangleNames(View& view);

}  // namespace profagent::graph
