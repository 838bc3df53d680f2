#include "symbolizer/graph/demangle.h"

#include <cxxabi.h>

#include <cstdlib>
#include <memory>

namespace profagent::graph {
namespace {

bool LooksLikeCPlusPlus(std::string_view name) {
  if (name.find(".<") != std::string_view::npos) return false;   // Java: class.<init>
  if (name.find("]).") != std::string_view::npos) return false;  // Go: foo.(*Bar[...]).Method
  return name.find_first_of("<>[]") != std::string_view::npos || name.find("::") != std::string_view::npos;
}

// Takes out what stands between matching brackets, brackets included. Brackets that do not match stop it.
void RemoveBracketed(std::string& name, char open, char close) {
  int nesting = 0;
  size_t first = 0;
  for (size_t at = 0; at < name.size(); ++at) {
    if (name[at] == open) {
      if (++nesting == 1) first = at;
    } else if (name[at] == close) {
      if (--nesting < 0) return;
      if (nesting == 0) {
        name.erase(first, at + 1 - first);
        at = first - 1;
      }
    }
  }
}

}  // namespace

std::string ShortName(std::string_view system_name) {
  std::string name(system_name);
  if (name.starts_with("_Z")) {
    int status = 0;
    const std::unique_ptr<char, decltype(&std::free)> full(
        abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), &std::free);
    if (full != nullptr) name = full.get();
  }
  if (LooksLikeCPlusPlus(name)) {
    RemoveBracketed(name, '(', ')');
    RemoveBracketed(name, '<', '>');
  }
  return name;
}

void DemangleNames(View& view) {
  for (Function& function : view.functions) {
    if (function.name != kEmpty && function.name != function.system_name) continue;
    function.name = view.strings->Intern(ShortName(view.Text(function.system_name)));
  }
}

}  // namespace profagent::graph
