// Takes samples, frames and labels out of a view: what pprof's -focus, -ignore, -hide, ... and drop_frames
// do.
//
// A frame matches by the name of its function, its file, or the file of its mapping. The expressions are
// RE2's, searched for anywhere in the text.
//
// Context: `offline`.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "symbolizer/graph/view.h"

namespace re2 {
class RE2;
}

namespace profagent::graph {

// A compiled expression, or none (then Matches must not be asked).
class Pattern {
 public:
  Pattern();
  ~Pattern();
  Pattern(Pattern&&) noexcept;
  Pattern& operator=(Pattern&&) noexcept;

  // `name` is for the error: "parsing focus regexp: missing closing )". An empty text is no expression.
  static Result<std::shared_ptr<Pattern>> Compile(std::string_view name, std::string_view text);

  bool Matches(std::string_view text) const;

 private:
  std::unique_ptr<re2::RE2> expression_;
};
using PatternPtr = std::shared_ptr<Pattern>;  // null: none

struct NameFilter {
  PatternPtr focus = {}, ignore = {}, hide = {}, show = {};
};
struct NameMatches {
  bool focus = false, ignore = false, hide = false, show = false;
};

// Keeps samples that pass through a frame of `focus` and none of `ignore`; of those, drops frames of `hide`
// and frames not of `show`. Samples without any location go in any case.
NameMatches FilterByName(View& view, const NameFilter& filter);

// Drops the frames above (towards the root) the outermost match; samples without one go.
bool ShowFrom(View& view, const Pattern& pattern);

using SampleTest = std::function<bool(const Sample&)>;
struct TagMatches {
  bool focus = false, ignore = false;
};
TagMatches FilterByTag(View& view, const SampleTest& focus, const SampleTest& ignore);

struct LabelMatches {
  bool show = false, hide = false;
};
LabelMatches FilterLabels(View& view, const PatternPtr& show, const PatternPtr& hide);

// Drops the frames below (towards the leaf) the innermost match, which stays.
void PruneFrom(View& view, const Pattern& pattern);

// What the profile itself asks for by drop_frames and keep_frames: frames whose whole name matches, and all
// below them. Expressions that do not compile drop nothing, as in pprof.
void DropUninteresting(View& view);

}  // namespace profagent::graph
