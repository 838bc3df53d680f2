#include "symbolizer/graph/view.h"

namespace profagent::graph {

StringId StringPool::Intern(std::string_view text) {
  const auto place = ids_.find(text);
  if (place != ids_.end()) return place->second;
  const auto id = static_cast<StringId>(texts_.size());
  ids_.emplace(texts_.emplace_back(text), id);
  return id;
}

View MakeView(const Profile& profile) {
  View view;
  // In the normal form no string is there twice and the first is "", so the indices stay what they were.
  for (const std::string& text : profile.string_table()) view.strings->Intern(text);
  const auto string_id = [](int64_t index) { return static_cast<StringId>(index); };
  const auto value_type = [&](const auto& type) {
    return ValueType{string_id(type.type()), string_id(type.unit())};
  };

  for (const auto& type : profile.sample_type()) view.sample_types.push_back(value_type(type));
  view.default_sample_type = string_id(profile.default_sample_type());
  view.period_type = value_type(profile.period_type());
  view.period = profile.period();
  view.time_nanos = profile.time_nanos();
  view.duration_nanos = profile.duration_nanos();
  view.drop_frames = string_id(profile.drop_frames());
  view.keep_frames = string_id(profile.keep_frames());
  for (const int64_t comment : profile.comment()) view.comments.push_back(string_id(comment));

  for (const auto& from : profile.mapping()) {
    view.mappings.push_back({.id = from.id(),
                             .start = from.memory_start(),
                             .limit = from.memory_limit(),
                             .offset = from.file_offset(),
                             .file = string_id(from.filename()),
                             .build_id = string_id(from.build_id()),
                             .has_functions = from.has_functions(),
                             .has_filenames = from.has_filenames(),
                             .has_line_numbers = from.has_line_numbers(),
                             .has_inline_frames = from.has_inline_frames()});
  }
  for (const auto& from : profile.function()) {
    view.functions.push_back({.name = string_id(from.name()),
                              .system_name = string_id(from.system_name()),
                              .file = string_id(from.filename()),
                              .start_line = from.start_line()});
  }
  view.locations.reserve(static_cast<size_t>(profile.location_size()));
  for (const auto& from : profile.location()) {
    Location& to = view.locations.emplace_back();
    to.id = from.id();
    to.mapping = static_cast<uint32_t>(from.mapping_id() - 1);  // 0 becomes kNone
    to.address = from.address();
    to.is_folded = from.is_folded();
    to.lines.reserve(static_cast<size_t>(from.line_size()));
    for (const auto& line : from.line())
      to.lines.push_back({.function = static_cast<uint32_t>(line.function_id() - 1), .line = line.line()});
  }
  view.samples.reserve(static_cast<size_t>(profile.sample_size()));
  for (const auto& from : profile.sample()) {
    Sample& to = view.samples.emplace_back();
    to.locations.reserve(static_cast<size_t>(from.location_id_size()));
    for (const uint64_t id : from.location_id()) to.locations.push_back(static_cast<uint32_t>(id - 1));
    to.values.assign(from.value().begin(), from.value().end());
    for (const auto& label : from.label()) {
      if (label.str() != 0)
        to.text_labels.push_back({string_id(label.key()), string_id(label.str())});
      else
        to.num_labels.push_back({string_id(label.key()), label.num(), string_id(label.num_unit())});
    }
  }
  return view;
}

}  // namespace profagent::graph
