#include "symbolizer/report/tag_filter.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "symbolizer/profile/measurement.h"

namespace profagent {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// "+12kb": a number and the letters behind it.
struct Quantity {
  std::string_view text;
  std::string_view number, unit;
};

std::optional<Quantity> FindQuantity(std::string_view text, size_t from) {
  for (size_t at = from; at < text.size(); ++at) {
    const size_t digits = at + (text[at] == '+' || text[at] == '-' ? 1 : 0);
    size_t end = digits;
    while (end < text.size() && IsDigit(text[end])) ++end;
    if (end == digits) continue;
    size_t unit_end = end;
    while (unit_end < text.size() && IsLetter(text[unit_end])) ++unit_end;
    return Quantity{text.substr(at, unit_end - at), text.substr(at, end - at),
                    text.substr(end, unit_end - end)};
  }
  return std::nullopt;
}

std::optional<int64_t> ToInteger(std::string_view number) {
  if (number.starts_with('+')) number.remove_prefix(1);
  int64_t value = 0;
  const auto [end, failure] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (failure != std::errc() || end != number.data() + number.size()) return std::nullopt;
  return value;
}

// Bounds in a unit of their own; a value of another kind of unit is outside.
struct Range {
  std::optional<double> least, most;
  std::string unit;

  bool Contains(int64_t value, std::string_view value_unit) const {
    const Measurement scaled = Scale(value, value_unit, unit);
    return scaled.unit == unit && (!least || scaled.value >= *least) && (!most || scaled.value <= *most);
  }
};

// No range at all is no error: the text is an expression then.
Result<std::optional<Range>> ParseRange(std::string_view filter) {
  const std::optional<Quantity> first = FindQuantity(filter, 0);
  if (!first) return std::optional<Range>();
  const auto too_large = [](std::string_view number) {
    return Error::Of("number too large in tag filter: ", number);
  };
  const std::optional<int64_t> first_value = ToInteger(first->number);
  if (!first_value) return too_large(first->number);
  const Measurement start = Scale(*first_value, first->unit, first->unit);
  Range range{.least = start.value, .most = start.value, .unit = std::string(start.unit)};

  const size_t after_first = static_cast<size_t>(first->text.data() - filter.data()) + first->text.size();
  const std::optional<Quantity> second = FindQuantity(filter, after_first);
  if (!second) {
    if (filter == std::string(first->text) + ":")
      range.most.reset();
    else if (filter == ":" + std::string(first->text))
      range.least.reset();
    else if (filter != first->text)
      return std::optional<Range>();
    return std::optional<Range>(range);
  }
  if (filter != std::string(first->text) + ":" + std::string(second->text)) return std::optional<Range>();
  const std::optional<int64_t> second_value = ToInteger(second->number);
  if (!second_value) return too_large(second->number);
  const Measurement end = Scale(*second_value, second->unit, range.unit);
  if (end.unit != range.unit) return std::optional<Range>();
  range.most = end.value;
  return std::optional<Range>(range);
}

}  // namespace

Result<graph::SampleTest> CompileTagFilter(const graph::View& view, const LabelUnits& units,
                                           const std::string& name, const std::string& filter,
                                           std::vector<std::string>& warnings) {
  if (filter.empty()) return graph::SampleTest();
  const size_t equals = filter.find('=');
  std::optional<graph::StringId> key;
  if (equals != std::string::npos) key = view.strings->Intern(std::string_view(filter).substr(0, equals));
  if (key == graph::kEmpty) key.reset();  // "=value" is for any key
  const std::string value = equals == std::string::npos ? filter : filter.substr(equals + 1);

  const Result<std::optional<Range>> range = ParseRange(value);
  if (!range) return range.error();
  if (*range) {
    warnings.push_back(name + ":Interpreted '" + value + "' as range, not regexp");
    return graph::SampleTest([&view, &units, key, range = **range](const graph::Sample& sample) {
      return std::ranges::any_of(sample.num_labels, [&](const graph::NumLabel& label) {
        return (!key || label.key == *key) && range.Contains(label.value, view.Text(units.at(label.key)));
      });
    });
  }

  std::vector<graph::PatternPtr> patterns;
  for (size_t at = 0; at <= value.size();) {
    const size_t end = std::min(value.find(',', at), value.size());
    const std::string text = value.substr(at, end - at);
    // An empty expression matches everything; Compile takes it for none.
    Result<graph::PatternPtr> pattern = graph::Pattern::Compile(name, text.empty() ? "()" : text);
    if (!pattern) return pattern.error();
    patterns.push_back(*pattern);
    at = end + 1;
  }
  if (!key) {
    // Every expression must match some label, written as key:value.
    return graph::SampleTest([&view, patterns](const graph::Sample& sample) {
      return std::ranges::all_of(patterns, [&](const graph::PatternPtr& pattern) {
        return std::ranges::any_of(sample.text_labels, [&](const graph::TextLabel& label) {
          return pattern->Matches(view.Text(label.key) + ":" + view.Text(label.value));
        });
      });
    });
  }
  // One expression must match one value of the key.
  return graph::SampleTest([&view, key = *key, patterns](const graph::Sample& sample) {
    return std::ranges::any_of(sample.text_labels, [&](const graph::TextLabel& label) {
      return label.key == key && std::ranges::any_of(patterns, [&](const graph::PatternPtr& pattern) {
               return pattern->Matches(view.Text(label.value));
             });
    });
  });
}

}  // namespace profagent
