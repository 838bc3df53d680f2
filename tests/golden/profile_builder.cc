#include "tests/golden/profile_builder.h"

namespace profagent {

ProfileBuilder::ProfileBuilder() { String(""); }

int64_t ProfileBuilder::String(std::string_view text) {
  const auto place = strings_.find(text);
  if (place != strings_.end()) return place->second;
  const int64_t index = profile_.string_table_size();
  profile_.add_string_table(std::string(text));
  strings_.emplace(text, index);
  return index;
}

ProfileBuilder& ProfileBuilder::Type(std::string_view type, std::string_view unit) {
  auto& added = *profile_.add_sample_type();
  added.set_type(String(type));
  added.set_unit(String(unit));
  return *this;
}

ProfileBuilder& ProfileBuilder::Period(std::string_view type, std::string_view unit, int64_t period) {
  profile_.mutable_period_type()->set_type(String(type));
  profile_.mutable_period_type()->set_unit(String(unit));
  profile_.set_period(period);
  return *this;
}

uint64_t ProfileBuilder::Mapping(uint64_t start, uint64_t limit, uint64_t offset, std::string_view file,
                                 std::string_view build_id, bool symbolized) {
  auto& mapping = *profile_.add_mapping();
  mapping.set_id(static_cast<uint64_t>(profile_.mapping_size()));
  mapping.set_memory_start(start);
  mapping.set_memory_limit(limit);
  mapping.set_file_offset(offset);
  mapping.set_filename(String(file));
  mapping.set_build_id(String(build_id));
  mapping.set_has_functions(symbolized);
  return mapping.id();
}

uint64_t ProfileBuilder::Location(uint64_t mapping, uint64_t address,
                                  const std::vector<FunctionAtLine>& lines) {
  std::string key = std::to_string(mapping) + "@" + std::to_string(address);
  for (const FunctionAtLine& line : lines) {
    key += ";" + line.function + "," + line.file + "," + std::to_string(line.line) + "," +
           std::to_string(line.start_line);
  }
  uint64_t& id = locations_[key];
  if (id != 0) return id;

  auto& location = *profile_.add_location();
  id = static_cast<uint64_t>(profile_.location_size());
  location.set_id(id);
  location.set_mapping_id(mapping);
  location.set_address(address);
  for (const FunctionAtLine& line : lines) {
    uint64_t& function_id =
        functions_[line.function + "," + line.file + "," + std::to_string(line.start_line)];
    if (function_id == 0) {
      auto& function = *profile_.add_function();
      function_id = static_cast<uint64_t>(profile_.function_size());
      const size_t bar = line.function.find('|');
      function.set_id(function_id);
      function.set_name(String(line.function.substr(0, bar)));
      function.set_system_name(
          String(bar == std::string::npos ? line.function : line.function.substr(bar + 1)));
      function.set_filename(String(line.file));
      function.set_start_line(line.start_line);
    }
    auto& added = *location.add_line();
    added.set_function_id(function_id);
    added.set_line(line.line);
  }
  return id;
}

ProfileBuilder& ProfileBuilder::Sample(std::vector<uint64_t> locations, std::vector<int64_t> values,
                                       const std::vector<Label>& labels) {
  auto& sample = *profile_.add_sample();
  for (const uint64_t location : locations) sample.add_location_id(location);
  for (const int64_t value : values) sample.add_value(value);
  for (const Label& label : labels) {
    auto& added = *sample.add_label();
    added.set_key(String(label.key));
    added.set_str(String(label.text));
    added.set_num(label.number);
    added.set_num_unit(String(label.unit));
  }
  return *this;
}

ProfileBuilder& ProfileBuilder::Comment(std::string_view text) {
  profile_.add_comment(String(text));
  return *this;
}

ProfileBuilder& ProfileBuilder::DefaultType(std::string_view type) {
  profile_.set_default_sample_type(String(type));
  return *this;
}

ProfileBuilder& ProfileBuilder::DropFrames(std::string_view expression, std::string_view keep) {
  profile_.set_drop_frames(String(expression));
  profile_.set_keep_frames(String(keep));
  return *this;
}

}  // namespace profagent
