#include "symbolizer/graph/filter.h"

#include <re2/re2.h>

#include <algorithm>
#include <optional>
#include <string>

#include "symbolizer/graph/utf8.h"

namespace profagent::graph {
namespace {

// Asks the expression once for each string, however many frames have it.
class CachedPattern {
 public:
  CachedPattern(const View& view, const Pattern& pattern) : view_(view), pattern_(pattern) {}

  bool Matches(StringId id) {
    if (id >= known_.size()) known_.resize(std::max<size_t>(view_.strings->size(), id + 1));
    std::optional<bool>& known = known_[id];
    if (!known) known = pattern_.Matches(view_.Text(id));
    return *known;
  }
  bool MatchesFunction(const Line& line) {
    const Function& function = view_.functions[line.function];
    return Matches(function.name) || Matches(function.file);
  }
  bool MatchesMapping(const Location& location) {
    return location.mapping != kNone && Matches(view_.mappings[location.mapping].file);
  }
  bool MatchesLocation(const Location& location) {
    return std::ranges::any_of(location.lines, [this](const Line& line) { return MatchesFunction(line); }) ||
           MatchesMapping(location);
  }

 private:
  const View& view_;
  const Pattern& pattern_;
  std::vector<std::optional<bool>> known_;
};

std::optional<CachedPattern> Cached(const View& view, const PatternPtr& pattern) {
  if (pattern == nullptr) return std::nullopt;
  return CachedPattern(view, *pattern);
}

// The name that drop_frames and -prune_from are about: without arguments, which begin at the first '(' that
// is not part of "(anonymous namespace)" or "operator()".
std::string_view NameWithoutArguments(std::string_view name) {
  if (name.starts_with('.')) name.remove_prefix(1);  // PowerPC's ELFv1
  constexpr std::string_view kAnonymous = "(anonymous namespace)", kCall = "operator()";
  for (size_t at = 0; at < name.size();) {
    const std::string_view rest = name.substr(at);
    if (rest.starts_with(kAnonymous))
      at += kAnonymous.size();
    else if (rest.starts_with(kCall))
      at += kCall.size();
    else if (rest.front() == '(')
      return name.substr(0, at);
    else
      ++at;
  }
  return name;
}

}  // namespace

Pattern::Pattern() = default;
Pattern::~Pattern() = default;
Pattern::Pattern(Pattern&&) noexcept = default;
Pattern& Pattern::operator=(Pattern&&) noexcept = default;

Result<std::shared_ptr<Pattern>> Pattern::Compile(std::string_view name, std::string_view text) {
  if (text.empty()) return std::shared_ptr<Pattern>();
  re2::RE2::Options options;
  options.set_log_errors(false);
  auto pattern = std::make_shared<Pattern>();
  pattern->expression_ = std::make_unique<re2::RE2>(re2::StringPiece(text.data(), text.size()), options);
  if (!pattern->expression_->ok())
    return Error::Of("parsing ", name, " regexp: ", std::string_view(pattern->expression_->error()));
  return pattern;
}

bool Pattern::Matches(std::string_view text) const {
  // At a byte that is no UTF-8 nothing of RE2's matches, not even `.`; to Go it is U+FFFD.
  std::string valid;
  if (!std::ranges::all_of(text, [](char byte) { return static_cast<unsigned char>(byte) < 0x80; })) {
    valid = ToValidUtf8(text);
    text = valid;
  }
  return re2::RE2::PartialMatch(re2::StringPiece(text.data(), text.size()), *expression_);
}

NameMatches FilterByName(View& view, const NameFilter& filter) {
  auto focus = Cached(view, filter.focus), ignore = Cached(view, filter.ignore),
       hide = Cached(view, filter.hide), show = Cached(view, filter.show);
  NameMatches matches;
  enum class Fate : uint8_t { kNeither, kFocused, kIgnored };
  std::vector<Fate> fates(view.locations.size(), Fate::kNeither);
  std::vector<bool> hidden(view.locations.size());
  bool any_hidden = false;
  for (size_t i = 0; i < view.locations.size(); ++i) {
    Location& location = view.locations[i];
    if (ignore && ignore->MatchesLocation(location)) {
      matches.ignore = true;
      fates[i] = Fate::kIgnored;
    } else if (!focus || focus->MatchesLocation(location)) {
      matches.focus = true;
      fates[i] = Fate::kFocused;
    }
    if (hide && hide->MatchesLocation(location)) {
      matches.hide = true;
      if (hide->MatchesMapping(location))
        location.lines.clear();
      else
        std::erase_if(location.lines, [&](const Line& line) { return hide->MatchesFunction(line); });
      if (location.lines.empty()) hidden[i] = any_hidden = true;
    }
    if (show) {
      if (!show->MatchesMapping(location))
        std::erase_if(location.lines, [&](const Line& line) { return !show->MatchesFunction(line); });
      if (location.lines.empty())
        hidden[i] = any_hidden = true;
      else
        matches.show = true;
    }
  }

  std::erase_if(view.samples, [&](Sample& sample) {
    const auto has = [&](Fate fate) {
      return std::ranges::any_of(sample.locations,
                                 [&](uint32_t location) { return fates[location] == fate; });
    };
    if (has(Fate::kIgnored) || !has(Fate::kFocused)) return true;
    if (!any_hidden) return false;
    std::erase_if(sample.locations, [&](uint32_t location) { return hidden[location]; });
    return sample.locations.empty();
  });
  return matches;
}

bool ShowFrom(View& view, const Pattern& pattern) {
  CachedPattern cached(view, pattern);
  std::vector<bool> matched(view.locations.size());
  bool any = false;
  for (size_t i = 0; i < view.locations.size(); ++i) {
    Location& location = view.locations[i];
    if (cached.MatchesMapping(location)) {
      matched[i] = any = true;
      continue;
    }
    for (size_t line = location.lines.size(); line-- > 0;) {
      if (!cached.MatchesFunction(location.lines[line])) continue;
      location.lines.resize(line + 1);
      matched[i] = any = true;
      break;
    }
  }
  std::erase_if(view.samples, [&](Sample& sample) {
    while (!sample.locations.empty() && !matched[sample.locations.back()]) sample.locations.pop_back();
    return sample.locations.empty();
  });
  return any;
}

TagMatches FilterByTag(View& view, const SampleTest& focus, const SampleTest& ignore) {
  TagMatches matches;
  std::erase_if(view.samples, [&](const Sample& sample) {
    const bool focused = !focus || focus(sample);
    const bool ignored = ignore && ignore(sample);
    matches.focus |= focused;
    matches.ignore |= ignored;
    return !focused || ignored;
  });
  return matches;
}

LabelMatches FilterLabels(View& view, const PatternPtr& show, const PatternPtr& hide) {
  LabelMatches matches;
  auto show_cached = Cached(view, show), hide_cached = Cached(view, hide);
  const auto unwanted = [&](const auto& label) {
    const bool shown = !show_cached || show_cached->Matches(label.key);
    const bool hidden = hide_cached && hide_cached->Matches(label.key);
    matches.show |= shown;
    matches.hide |= hidden;
    return !shown || hidden;
  };
  for (Sample& sample : view.samples) {
    std::erase_if(sample.text_labels, unwanted);
    std::erase_if(sample.num_labels, unwanted);
  }
  return matches;
}

void PruneFrom(View& view, const Pattern& pattern) {
  std::vector<bool> matched(view.locations.size());
  for (size_t i = 0; i < view.locations.size(); ++i) {
    std::vector<Line>& lines = view.locations[i].lines;
    const auto first = std::ranges::find_if(lines, [&](const Line& line) {
      const std::string& name = view.Text(view.functions[line.function].name);
      return !name.empty() && pattern.Matches(NameWithoutArguments(name));
    });
    if (first == lines.end()) continue;
    lines.erase(lines.begin(), first);
    matched[i] = true;
  }
  for (Sample& sample : view.samples) {
    const auto first =
        std::ranges::find_if(sample.locations, [&](uint32_t location) { return matched[location]; });
    if (first != sample.locations.end()) sample.locations.erase(sample.locations.begin(), first);
  }
}

void DropUninteresting(View& view) {
  if (view.drop_frames == kEmpty) return;
  const auto whole = [&](StringId id) { return id == kEmpty ? "" : "^(" + view.Text(id) + ")$"; };
  const Result<PatternPtr> drop = Pattern::Compile("drop_frames", whole(view.drop_frames));
  const Result<PatternPtr> keep = Pattern::Compile("keep_frames", whole(view.keep_frames));
  if (!drop || !keep) return;

  enum class Cut : uint8_t { kNot, kBelow, kHereAndBelow };
  std::vector<Cut> cuts(view.locations.size(), Cut::kNot);
  for (size_t i = 0; i < view.locations.size(); ++i) {
    std::vector<Line>& lines = view.locations[i].lines;
    for (size_t line = lines.size(); line-- > 0;) {
      const std::string& full = view.Text(view.functions[lines[line].function].name);
      const std::string_view name = NameWithoutArguments(full);
      if (full.empty() || !(*drop)->Matches(name) || (*keep != nullptr && (*keep)->Matches(name))) continue;
      cuts[i] = line + 1 == lines.size() ? Cut::kHereAndBelow : Cut::kBelow;
      if (cuts[i] == Cut::kBelow)
        lines.erase(lines.begin(), lines.begin() + static_cast<ptrdiff_t>(line) + 1);
      break;
    }
  }
  for (Sample& sample : view.samples) {
    // From the root: what lies above the first frame of the user's own is not cut, or everything might go.
    bool user_frame = false;
    for (size_t i = sample.locations.size(); i-- > 0;) {
      const Cut cut = cuts[sample.locations[i]];
      if (cut == Cut::kNot) user_frame = true;
      if (cut == Cut::kNot || !user_frame) continue;
      const size_t end = i + (cut == Cut::kHereAndBelow ? 1 : 0);
      sample.locations.erase(sample.locations.begin(),
                             sample.locations.begin() + static_cast<ptrdiff_t>(end));
      break;
    }
  }
}

}  // namespace profagent::graph
