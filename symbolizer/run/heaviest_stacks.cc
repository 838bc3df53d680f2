#include "symbolizer/run/heaviest_stacks.h"

#include <algorithm>
#include <map>

#include "symbolizer/graph/demangle.h"
#include "symbolizer/graph/filter.h"
#include "symbolizer/graph/view.h"
#include "symbolizer/profile/measurement.h"
#include "symbolizer/profile/sample_values.h"

namespace profagent {
namespace {

// What starts every program and every thread, as glibc calls it with and without debug information.
bool StartsPrograms(std::string_view function) {
  static constexpr std::string_view kNames[] = {"_start",  "__libc_start_call_main", "__libc_start_main_impl",
                                                "clone",   "__libc_start_main",      "clone3",
                                                "__clone", "start_thread",           "__clone3"};
  return std::ranges::find(kNames, function) != std::end(kNames) ||
         function.starts_with("__libc_start_main@");
}
// How many frames that makes at most: _start (or what a stripped program has in its place), two of libc.
constexpr size_t kStartFrames = 3;

// A function of C++'s or Rust's own library: it says how something was done, and a short line has only room for who did it.
// Also "void std::f<int>", "<std::x as y>::f", "<&dyn core::f>".
bool IsOfLanguage(std::string_view function) {
  while (function.starts_with('<') || function.starts_with('&')) function.remove_prefix(1);
  const std::string_view head = function.substr(0, function.find_first_of("<("));
  const size_t blank = head.rfind(' ');
  const std::string_view name = blank == head.npos ? head : head.substr(blank + 1);
  static constexpr std::string_view kLibraries[] = {"std::", "__gnu_cxx::", "core::", "alloc::"};
  return std::ranges::any_of(kLibraries, [&](std::string_view library) { return name.starts_with(library); });
}

// The functions of a profile, shown short.
class ShortFunctions {
 public:
  explicit ShortFunctions(graph::View& view) : view_(view) {
    for (graph::Function& function : view.functions) {
      of_language_.push_back(IsOfLanguage(view.Text(function.name)));
      // The symbolizer's names have their parameters; demangled here they are as short as pprof shows them. Not Rust's new
      // ones, which have none, and of which pprof would leave the end: of "<app::Queue as Sink>::push" the "::push".
      const bool is_rust = view.Text(function.system_name).starts_with("_R");
      if (function.system_name != graph::kEmpty && !is_rust) function.name = function.system_name;
    }
    graph::DemangleNames(view);
    graph::DropUninteresting(view);
  }

  // Leaf first. What has no name in the symbol tables is called after its module already.
  std::vector<graph::StringId> Of(const graph::Sample& sample) const {
    std::vector<uint32_t> functions;
    for (const uint32_t location : sample.locations) {
      for (const graph::Line& line : view_.locations[location].lines) functions.push_back(line.function);
    }
    const size_t outermost = functions.size() > kStartFrames ? functions.size() - kStartFrames : 1;
    for (size_t i = outermost; i < functions.size(); ++i) {
      if (StartsPrograms(view_.Text(view_.functions[functions[i]].name))) functions.resize(i);
    }
    std::vector<graph::StringId> all, of_program;
    for (const uint32_t function : functions) {
      all.push_back(view_.functions[function].name);
      if (!of_language_[function]) of_program.push_back(all.back());
    }
    return of_program.empty() ? all : of_program;
  }

 private:
  graph::View& view_;
  std::vector<bool> of_language_;  // by function
};

struct Sum {
  int64_t weight = 0;
  int64_t count = 0;
  bool goes_on = false;
};

}  // namespace

std::string HeavyStack::Text(size_t width) const {
  static constexpr std::string_view kCalledBy = " < ", kMore = " < ...";
  std::string text;
  for (size_t i = 0; i < functions.size(); ++i) {
    const bool last = i + 1 == functions.size() && !goes_on;
    const size_t length = text.size() + kCalledBy.size() + functions[i].size() + (last ? 0 : kMore.size());
    if (i > 0 && length > width) return text.append(kMore);
    text.append(i > 0 ? kCalledBy : "").append(functions[i]);
  }
  return goes_on ? text.append(kMore) : text;
}

std::vector<HeavyStack> HeaviestStacks(const Profile& profile, std::string_view weight,
                                       std::string_view count, size_t limit) {
  const int weight_index = IndexOfValue(profile, weight), count_index = IndexOfValue(profile, count);
  if (weight_index < 0 || count_index < 0) return {};
  graph::View view = graph::MakeView(profile);
  const ShortFunctions shortened(view);

  std::map<std::vector<graph::StringId>, Sum> sums;
  for (const graph::Sample& sample : view.samples) {
    std::vector<graph::StringId> functions = shortened.Of(sample);
    const bool cut = functions.size() > kShownFrames;
    if (cut) functions.resize(kShownFrames);
    Sum& sum = sums[std::move(functions)];
    sum.weight = WrappingAdd(sum.weight, sample.values[static_cast<size_t>(weight_index)]);
    sum.count = WrappingAdd(sum.count, sample.values[static_cast<size_t>(count_index)]);
    sum.goes_on |= cut;
  }
  std::vector<HeavyStack> stacks;
  for (const auto& [functions, sum] : sums) {
    if (sum.weight <= 0) continue;
    HeavyStack& stack = stacks.emplace_back(HeavyStack{sum.weight, sum.count, {}, sum.goes_on});
    for (const graph::StringId function : functions) stack.functions.push_back(view.Text(function));
  }
  std::ranges::sort(stacks, [](const HeavyStack& a, const HeavyStack& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.functions < b.functions;
  });
  if (stacks.size() > limit) stacks.resize(limit);
  return stacks;
}

}  // namespace profagent
