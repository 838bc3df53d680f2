// The tables of the result are made anew, entry by entry as samples ask for them. Each source has small
// arrays that remember which entry of the result its entries became; entries of different sources that mean
// the same meet in a table of keys. A key is a short run of numbers: strings are interned first, so they
// compare as numbers too.
#include "symbolizer/profile/merge_profiles.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "symbolizer/profile/measurement.h"

namespace profagent {
namespace {

namespace proto = perftools::profiles;

// Numbers 0, 1, 2... for distinct runs of numbers.
class KeyTable {
 public:
  struct Found {
    size_t index;
    bool added;
  };

  KeyTable() = default;
  KeyTable(const KeyTable&) = delete;  // the hash functions point back at the table

  Found FindOrAdd(std::span<const uint64_t> key) {
    const size_t start = words_.size();
    words_.insert(words_.end(), key.begin(), key.end());
    starts_.push_back(start);
    const size_t index = starts_.size() - 1;
    const auto [place, added] = seen_.insert(index);
    if (!added) {
      starts_.pop_back();
      words_.resize(start);
    }
    return {*place, added};
  }

 private:
  std::span<const uint64_t> Key(size_t index) const {
    const size_t end = index + 1 < starts_.size() ? starts_[index + 1] : words_.size();
    return {words_.data() + starts_[index], end - starts_[index]};
  }
  struct Hash {
    const KeyTable* table;
    size_t operator()(size_t index) const {
      uint64_t hash = 0x9e3779b97f4a7c15;
      for (const uint64_t word : table->Key(index)) {
        hash = (hash ^ word) * 0xff51afd7ed558ccd;
        hash ^= hash >> 32;
      }
      return hash;
    }
  };
  struct Equal {
    const KeyTable* table;
    bool operator()(size_t one, size_t other) const {
      return std::ranges::equal(table->Key(one), table->Key(other));
    }
  };

  std::vector<uint64_t> words_;
  std::vector<size_t> starts_;
  std::unordered_set<size_t, Hash, Equal> seen_{16, Hash{this}, Equal{this}};
};

// Positions by id. Ids are nearly always 1, 2, 3...
class PositionOfId {
 public:
  template <class Table>
  explicit PositionOfId(const Table& table) : small_(static_cast<size_t>(table.size()) + 1, -1) {
    for (int i = 0; i < table.size(); ++i) {
      const uint64_t id = table[i].id();
      if (id < small_.size())
        small_[id] = i;
      else
        large_.emplace(id, i);
    }
  }
  int operator()(uint64_t id) const {  // -1: there is none
    if (id < small_.size()) return small_[id];
    const auto place = large_.find(id);
    return place == large_.end() ? -1 : place->second;
  }

 private:
  std::vector<int> small_;
  std::unordered_map<uint64_t, int> large_;
};

bool AllZero(const proto::Sample& sample) {
  return std::ranges::all_of(sample.value(), [](int64_t value) { return value == 0; });
}

class Merger {
 public:
  Merger() { Intern(""); }

  void Add(const Profile& source, std::span<const double> ratios);
  int64_t Intern(std::string_view text) {
    const auto place = strings_.find(std::string(text));
    if (place != strings_.end()) return place->second;
    const auto index = static_cast<int64_t>(strings_.size());
    strings_.emplace(text, index);
    result_.add_string_table(std::string(text));
    return index;
  }
  Profile& result() { return result_; }

 private:
  struct Mapped {
    uint64_t id = 0;
    uint64_t moved_by = 0;  // added to addresses: where the mapping lies in the result, minus where it lay
  };
  // What entries of the source that is being added have become.
  struct Source {
    explicit Source(const Profile& profile)
        : profile(profile),
          mapping_at(profile.mapping()),
          function_at(profile.function()),
          location_at(profile.location()),
          strings(static_cast<size_t>(profile.string_table_size()), -1),
          mappings(static_cast<size_t>(profile.mapping_size())),
          functions(static_cast<size_t>(profile.function_size())),
          locations(static_cast<size_t>(profile.location_size())) {}
    const Profile& profile;
    PositionOfId mapping_at, function_at, location_at;
    std::vector<int64_t> strings;
    std::vector<std::optional<Mapped>> mappings;
    std::vector<uint64_t> functions, locations;  // 0: not met yet
  };

  int64_t String(Source& source, int64_t index) {
    int64_t& known = source.strings[static_cast<size_t>(index)];
    if (known < 0) known = Intern(source.profile.string_table(static_cast<int>(index)));
    return known;
  }
  Mapped MapMapping(Source& source, int position);
  uint64_t MapFunction(Source& source, int position);
  uint64_t MapLocation(Source& source, int position);
  void MapSample(Source& source, const proto::Sample& sample, std::span<const int64_t> values);
  void SortLabels(Source& source, const proto::Sample& sample);

  Profile result_;
  std::unordered_map<std::string, int64_t> strings_;
  KeyTable mapping_keys_, function_keys_, location_keys_, sample_keys_;
  std::vector<uint64_t> key_;                           // scratch
  std::vector<const proto::Label*> sorted_labels_;      // scratch
  std::vector<proto::Label> text_labels_, num_labels_;  // scratch
};

Merger::Mapped Merger::MapMapping(Source& source, int position) {
  if (position < 0) return {};
  std::optional<Mapped>& known = source.mappings[static_cast<size_t>(position)];
  if (known) return *known;

  const proto::Mapping& from = source.profile.mapping(position);
  constexpr uint64_t kPage = 0x1000;
  uint64_t size = from.memory_limit() - from.memory_start() + kPage - 1;
  size -= size % kPage;
  const int64_t build_id = String(source, from.build_id());
  const int64_t file = String(source, from.filename());
  const uint64_t key[] = {size, from.file_offset(), static_cast<uint64_t>(build_id != 0 ? build_id : file)};
  const auto [index, added] = mapping_keys_.FindOrAdd(key);
  if (added) {
    proto::Mapping& to = *result_.add_mapping();
    to = from;
    to.set_id(index + 1);
    to.set_filename(file);
    to.set_build_id(build_id);
  }
  const proto::Mapping& to = result_.mapping(static_cast<int>(index));
  known = Mapped{to.id(), to.memory_start() - from.memory_start()};
  return *known;
}

uint64_t Merger::MapFunction(Source& source, int position) {
  if (position < 0) return 0;
  uint64_t& known = source.functions[static_cast<size_t>(position)];
  if (known != 0) return known;
  const proto::Function& from = source.profile.function(position);
  const int64_t name = String(source, from.name());
  const int64_t system_name = String(source, from.system_name());
  const int64_t file = String(source, from.filename());
  const uint64_t key[] = {static_cast<uint64_t>(from.start_line()), static_cast<uint64_t>(name),
                          static_cast<uint64_t>(system_name), static_cast<uint64_t>(file)};
  const auto [index, added] = function_keys_.FindOrAdd(key);
  if (added) {
    proto::Function& to = *result_.add_function();
    to.set_id(index + 1);
    to.set_name(name);
    to.set_system_name(system_name);
    to.set_filename(file);
    to.set_start_line(from.start_line());
  }
  return known = index + 1;
}

uint64_t Merger::MapLocation(Source& source, int position) {
  uint64_t& known = source.locations[static_cast<size_t>(position)];
  if (known != 0) return known;
  const proto::Location& from = source.profile.location(position);
  const Mapped mapping = MapMapping(source, source.mapping_at(from.mapping_id()));
  const uint64_t address = from.address() + mapping.moved_by;
  const uint64_t start =
      mapping.id != 0 ? result_.mapping(static_cast<int>(mapping.id) - 1).memory_start() : 0;
  std::vector<uint64_t> key = {address - start, mapping.id, from.is_folded()};
  for (const proto::Line& line : from.line()) {
    key.push_back(MapFunction(source, source.function_at(line.function_id())));
    key.push_back(static_cast<uint64_t>(line.line()));
    key.push_back(static_cast<uint64_t>(line.column()));
  }
  const auto [index, added] = location_keys_.FindOrAdd(key);
  if (added) {
    proto::Location& to = *result_.add_location();
    to = from;
    to.set_id(index + 1);
    to.set_mapping_id(mapping.id);
    to.set_address(address);
    for (int i = 0; i < to.line_size(); ++i)
      to.mutable_line(i)->set_function_id(key[3 + 3 * static_cast<size_t>(i)]);
  }
  return known = index + 1;
}

// Fills text_labels_ and num_labels_. A label that holds nothing is none; values of one key keep their order.
void Merger::SortLabels(Source& source, const proto::Sample& sample) {
  sorted_labels_.clear();
  for (const proto::Label& label : sample.label())
    if (label.str() != 0 || label.num() != 0 || label.num_unit() != 0) sorted_labels_.push_back(&label);
  // Before strings are interned, so that their order is that of the labels, whatever it was in the source.
  std::ranges::stable_sort(sorted_labels_, std::less<>{}, [&](const proto::Label* label) {
    return std::pair<bool, const std::string&>(label->str() == 0,
                                               source.profile.string_table(static_cast<int>(label->key())));
  });
  text_labels_.clear();
  num_labels_.clear();
  for (const proto::Label* label : sorted_labels_) {
    proto::Label& to = (label->str() != 0 ? text_labels_ : num_labels_).emplace_back();
    to.set_key(String(source, label->key()));
    if (label->str() != 0) {
      to.set_str(String(source, label->str()));
    } else {
      to.set_num(label->num());
      to.set_num_unit(String(source, label->num_unit()));
    }
  }
}

void Merger::MapSample(Source& source, const proto::Sample& sample, std::span<const int64_t> values) {
  key_.assign(1, static_cast<uint64_t>(sample.location_id_size()));
  for (const uint64_t id : sample.location_id()) key_.push_back(MapLocation(source, source.location_at(id)));
  const size_t locations_end = key_.size();
  SortLabels(source, sample);
  key_.push_back(text_labels_.size());
  for (const proto::Label& label : text_labels_)
    key_.insert(key_.end(), {static_cast<uint64_t>(label.key()), static_cast<uint64_t>(label.str())});
  for (const proto::Label& label : num_labels_)
    key_.insert(key_.end(), {static_cast<uint64_t>(label.key()), static_cast<uint64_t>(label.num()),
                             static_cast<uint64_t>(label.num_unit())});

  const auto [index, added] = sample_keys_.FindOrAdd(key_);
  if (!added) {
    proto::Sample& to = *result_.mutable_sample(static_cast<int>(index));
    for (int i = 0; i < to.value_size(); ++i)
      to.set_value(i, WrappingAdd(to.value(i), values[static_cast<size_t>(i)]));
    return;
  }
  proto::Sample& to = *result_.add_sample();
  to.mutable_location_id()->Add(key_.begin() + 1, key_.begin() + static_cast<ptrdiff_t>(locations_end));
  to.mutable_value()->Add(values.begin(), values.end());
  for (const auto* labels : {&text_labels_, &num_labels_})
    for (const proto::Label& label : *labels) *to.add_label() = label;
}

void Merger::Add(const Profile& profile, std::span<const double> ratios) {
  Source source(profile);
  // mapping[0] is the program, also when no sample is in it.
  if (result_.mapping_size() == 0 && profile.mapping_size() > 0) MapMapping(source, 0);

  const bool scaled = std::ranges::any_of(ratios, [](double ratio) { return ratio != 1; });
  std::vector<int64_t> values;
  for (const proto::Sample& sample : profile.sample()) {
    values.assign(sample.value().begin(), sample.value().end());
    bool keep = !scaled;
    for (size_t i = 0; scaled && i < values.size(); ++i) {
      if (ratios[i] == 1) continue;
      values[i] = GoInt64(std::round(static_cast<double>(values[i]) * ratios[i]));
      keep |= values[i] !=
              0;  // pprof looks at scaled values only: what has no other value than unscaled ones goes
    }
    keep = keep && std::ranges::any_of(values, [](int64_t value) { return value != 0; });
    if (keep) MapSample(source, sample, values);
  }
}

struct ValueTypeText {
  std::string type, unit;
  bool operator==(const ValueTypeText&) const = default;
};

ValueTypeText TextOf(const Profile& profile, const proto::ValueType& type) {
  return {profile.string_table(static_cast<int>(type.type())),
          profile.string_table(static_cast<int>(type.unit()))};
}

std::string_view WithoutPlural(std::string_view text) {
  if (text.ends_with('s')) text.remove_suffix(1);
  return text;
}

// The finest of the units that all of these have.
Result<std::string> CommonUnit(std::span<const ValueTypeText> types, std::string_view what) {
  const ValueTypeText* finest = &types.front();
  for (const ValueTypeText& type : types.subspan(1)) {
    const bool compatible = WithoutPlural(type.type) == WithoutPlural(finest->type) &&
                            (type.unit == finest->unit || SameKindOfUnit(type.unit, finest->unit));
    if (!compatible) {
      return Error::Of(what, ": incompatible types: ", finest->type, "/", finest->unit, " and ", type.type,
                       "/", type.unit);
    }
    if (Scale(1, type.unit, finest->unit).value < 1) finest = &type;
  }
  return finest->unit;
}

// The types of the result, by what pprof demands of the sources; and what each source's values are multiplied
// by.
struct Header {
  ValueTypeText period_type;
  int64_t period = 0;
  std::vector<ValueTypeText> sample_types;
  std::vector<std::vector<double>> ratios;  // [source][sample type]
};

Result<Header> CombineTypes(std::span<const Profile* const> profiles) {
  const Profile& first = *profiles.front();
  Header header;

  std::vector<ValueTypeText> types;
  for (const Profile* profile : profiles) types.push_back(TextOf(*profile, profile->period_type()));
  const Result<std::string> period_unit = CommonUnit(types, "period type");
  if (!period_unit) return period_unit.error();
  header.period_type = {types.front().type, *period_unit};
  for (size_t i = 0; i < profiles.size(); ++i) {
    if (types[i].type != header.period_type.type) {
      return Error::Of("incompatible period types ", types.front().type, " and ", types[i].type);
    }
    const int64_t period = profiles.size() == 1
                               ? profiles[i]->period()
                               : GoInt64(Scale(profiles[i]->period(), types[i].unit, *period_unit).value);
    if (header.period == 0 || header.period < period) header.period = period;
  }

  for (const Profile* profile : profiles) {
    if (profile->sample_type_size() != first.sample_type_size()) {
      return Error::Of("inconsistent samples type count: ", first.sample_type_size(),
                       " != ", profile->sample_type_size());
    }
  }
  header.ratios.assign(profiles.size(), {});
  for (int t = 0; t < first.sample_type_size(); ++t) {
    types.clear();
    for (const Profile* profile : profiles) types.push_back(TextOf(*profile, profile->sample_type(t)));
    const Result<std::string> unit = CommonUnit(types, "sample types");
    if (!unit) return unit.error();
    header.sample_types.push_back({types.front().type, *unit});
    for (size_t i = 0; i < profiles.size(); ++i) {
      if (types[i].type != types.front().type)
        return Error::Of("incompatible sample types ", types.front().type, " and ", types[i].type);
      header.ratios[i].push_back(profiles.size() == 1 ? 1.0 : Scale(1, types[i].unit, *unit).value);
    }
  }
  return header;
}

void SetType(Merger& merger, const ValueTypeText& text, proto::ValueType& type) {
  type.set_type(merger.Intern(text.type));
  type.set_unit(merger.Intern(text.unit));
}

void CombineHeaders(Merger& merger, const Header& header, std::span<const Profile* const> profiles) {
  Profile& result = merger.result();
  const Profile& first = *profiles.front();
  const auto text = [](const Profile& profile, int64_t index) -> const std::string& {
    return profile.string_table(static_cast<int>(index));
  };
  for (const ValueTypeText& type : header.sample_types) SetType(merger, type, *result.add_sample_type());
  SetType(merger, header.period_type, *result.mutable_period_type());
  result.set_period(header.period);
  result.set_drop_frames(merger.Intern(text(first, first.drop_frames())));
  result.set_keep_frames(merger.Intern(text(first, first.keep_frames())));
  result.set_doc_url(merger.Intern(text(first, first.doc_url())));
  std::unordered_set<int64_t> comments;
  for (const Profile* profile : profiles) {
    if (result.time_nanos() == 0 || profile->time_nanos() < result.time_nanos())
      result.set_time_nanos(profile->time_nanos());
    result.set_duration_nanos(WrappingAdd(result.duration_nanos(), profile->duration_nanos()));
    for (const int64_t index : profile->comment()) {
      const int64_t comment = merger.Intern(text(*profile, index));
      if (comments.insert(comment).second) result.add_comment(comment);
    }
    if (result.default_sample_type() == 0)
      result.set_default_sample_type(merger.Intern(text(*profile, profile->default_sample_type())));
  }
}

}  // namespace

Result<Profile> MergeProfiles(std::span<const Profile* const> profiles) {
  if (profiles.empty()) return Error::Of("no profiles to merge");
  const Result<Header> header = CombineTypes(profiles);
  if (!header) return header.error();

  Merger merger;
  CombineHeaders(merger, *header, profiles);
  for (size_t i = 0; i < profiles.size(); ++i) merger.Add(*profiles[i], header->ratios[i]);

  // Values of opposite sign may have cancelled out (a base was subtracted): once more, without those samples.
  Profile& result = merger.result();
  if (std::ranges::any_of(result.sample(), AllZero)) return Compact(result);
  return std::move(result);
}

Profile Compact(const Profile& profile) {
  const Profile* const one[] = {&profile};
  return *MergeProfiles(one);  // one profile is always compatible with itself
}

}  // namespace profagent
