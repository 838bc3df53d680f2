#include "agent/encode/pprof_encoder.h"

#include <algorithm>

#include "agent/base/utf8.h"
#include "agent/encode/collect_samples.h"
#include "agent/encode/frame_table.h"
#include "agent/encode/gzip.h"
#include "agent/encode/module_table.h"
#include "agent/encode/sample_table.h"
#include "agent/encode/string_table.h"
#include "agent/encode/wire_writer.h"

namespace profagent {
namespace {

constexpr size_t kReadAhead = 3;  // rows
constexpr uint32_t kMaxComments = 64;
constexpr size_t kCommentMemory = 16 * 1024;  // a command line is at most 4 KiB
constexpr size_t kPlacesShare = 8;  // one part in so many of the memory is for locations and their names

std::string_view EngineName(uint32_t engine) {
  switch (static_cast<CpuEngine>(engine)) {
    case CpuEngine::kNone:
      return "off";
    case CpuEngine::kThreadTimers:
      return "thread timers";
    case CpuEngine::kProcessTimer:
      return "process timer";
    case CpuEngine::kPerfEvents:
      return "perf events";
  }
  return "unknown engine";
}

std::string_view LastComponent(std::string_view path) { return path.substr(path.rfind('/') + 1); }

class Encoder {
 public:
  Encoder(const LedgerView& ledger, const EncodeRequest& request, SymbolSource symbols, Arena& arena,
          ByteSink sink)
      : ledger_(ledger),
        request_(request),
        kind_(Describe(request.kind)),
        arena_(arena),
        modules_(ledger, symbols, arena),
        out_(sink),
        strings_(arena),
        samples_(arena),
        frames_(modules_, arena),
        locations_(arena),
        functions_(arena),
        function_index_(arena),
        comment_memory_(arena.AllocateArray<char>(kCommentMemory)),
        comment_text_(comment_memory_, comment_memory_ != nullptr ? kCommentMemory : 0) {}

  Status Run();

 private:
  // In the tables below an entry's id in the profile is its number + 1.
  struct Location {
    uint32_t frame;     // number
    uint32_t function;  // id
  };
  bool CollectModules();

  void WriteValueType(uint32_t field, const ValueType& type);
  void WriteSamples();
  void WriteSample(const SampleRow& row);
  void WriteMappings();
  void WriteMapping(uint64_t id, const ModuleTable::Entry* entry);
  void WriteLocations();
  void WriteFunctions();
  void WriteStrings();
  void WriteTime();

  uint32_t LocationId(Frame frame);  // 0: no memory
  void MeetModule(Frame frame);
  void NameLocations();
  uint32_t FunctionId(uint32_t name);
  uint32_t NameOf(uint32_t frame_number);

  void AddComments();
  void AddRates();
  template <class... Parts>
  void AddComment(const Parts&... parts);
  void EndComment(size_t start);
  std::string_view AbsolutePath(std::string_view path);

  const LedgerView& ledger_;
  const EncodeRequest& request_;
  const KindDescription kind_;
  Arena& arena_;
  ModuleTable modules_;
  WireWriter out_;

  StringTable strings_;
  SampleTable samples_;
  FrameTable frames_;
  GrowingArray<Location> locations_;
  ShownStack last_stack_;  // of the sample written last
  // Its location ids, as they are written: the root's stands at the end. What i frames from the root take begins at ids_start_[i].
  static constexpr uint32_t kIdsSize = kMaxDepthLimit * VarintSize(UINT32_MAX);
  std::byte ids_[kIdsSize];
  uint16_t ids_start_[kMaxDepthLimit + 1] = {kIdsSize};
  GrowingArray<uint32_t> functions_;  // names
  HashIndex function_index_;

  ModuleTable::Entry** mappings_ = nullptr;  // by mapping id - 1
  uint64_t mapping_count_ = 1;               // mapping 1, the program, is there in any case
  uint64_t period_ = 0;
  uint64_t damaged_records_ = 0;   // beside modules
  uint64_t unplaced_frames_ = 0;   // left out of their stacks for want of memory
  bool names_incomplete_ = false;  // for want of memory
  uint32_t name_key_ = 0;
  uint32_t size_key_ = 0;
  // Comments have memory of their own, so that the one which says that there was none is always written.
  char* comment_memory_;
  TextWriter comment_text_;
  std::string_view comments_[kMaxComments];
  uint32_t comment_count_ = 0;
};

Status Encoder::Run() {
  period_ = PeriodOf(request_.kind, ledger_.header());
  const std::atomic<RecordId>& modules = ledger_.header().modules;
  const RecordId newest = modules.load(std::memory_order_acquire);
  if (comment_memory_ == nullptr || !CollectModules()) return Error::Of("no memory to encode a profile");
  // Where the ledger is full, the samples would take all memory there is, and not one would have a place to name.
  arena_.HoldBack(arena_.limit() / kPlacesShare);
  damaged_records_ =
      CollectSamples(ledger_, request_.kind, request_.end_monotonic, modules_, arena_, &frames_, &samples_);
  samples_.Finish([&](Frame frame) { return frames_.Allocates(frame); });
  arena_.HoldBack(0);
  // Threads that go on met another library meanwhile, and are in samples with it.
  if (modules.load(std::memory_order_acquire) != newest && !CollectModules())
    return Error::Of("no memory to encode a profile");

  for (const ValueType& type : kind_.sample_types) WriteValueType(1, type);
  if (!kind_.name_label.empty()) name_key_ = strings_.Add(kind_.name_label);
  if (!kind_.size_label.empty()) size_key_ = strings_.Add(kind_.size_label);
  WriteSamples();
  WriteMappings();
  NameLocations();
  WriteLocations();
  WriteFunctions();
  AddComments();
  // The period's words are the samples' words, but a later kind's may be new: all strings come before field 6.
  uint32_t period_type = strings_.Add(kind_.period_type.type);
  uint32_t period_unit = strings_.Add(kind_.period_type.unit);
  uint32_t default_type = kind_.default_type.empty() ? 0 : strings_.Add(kind_.default_type);
  WriteStrings();
  WriteTime();
  out_.Block(11, IntegerSize(period_type) + IntegerSize(period_unit));
  out_.Integer(1, period_type);
  out_.Integer(2, period_unit);
  out_.Integer(12, period_);
  size_t size = 0;
  for (uint32_t i = 0; i < comment_count_; ++i) size += VarintSize(strings_.size() + i);
  out_.Block(13, size);
  for (uint32_t i = 0; i < comment_count_; ++i) out_.Varint(strings_.size() + i);
  out_.Integer(14, default_type);
  if (!out_.Flush()) return Error::Of("the profile could not be written out");
  return Done{};
}

bool Encoder::CollectModules() {
  if (!modules_.Collect()) return false;
  mappings_ = arena_.AllocateArray<ModuleTable::Entry*>(modules_.count() + 1);
  if (mappings_ == nullptr) return false;
  mappings_[0] = modules_.program();
  if (mappings_[0] != nullptr) mappings_[0]->mapping = 1;
  return true;
}

void Encoder::WriteValueType(uint32_t field, const ValueType& type) {
  uint32_t name = strings_.Add(type.type), unit = strings_.Add(type.unit);
  out_.Block(field, IntegerSize(name) + IntegerSize(unit));
  out_.Integer(1, name);
  out_.Integer(2, unit);
}

void Encoder::WriteSamples() {
  std::span<const SampleRow> rows = samples_.rows();
  for (size_t i = 0; i < rows.size(); ++i) {
    if (i + kReadAhead < rows.size()) rows[i + kReadAhead].stack.Prefetch();
    WriteSample(rows[i]);
    if (out_.refused()) return;
  }
}

void Encoder::WriteSample(const SampleRow& row) {
  // What a stack shares with the one before it, from the root on, need not be looked up again.
  const uint32_t depth = std::min(row.stack.size(), kMaxDepthLimit);
  uint32_t known = std::min(depth, row.stack.SharedWith(last_stack_));
  last_stack_ = row.stack;
  for (uint32_t i = known; i < depth; ++i) {
    uint32_t id = LocationId(row.stack.FromRoot(i));
    uint32_t start = ids_start_[i];
    if (id != 0) {
      start -= VarintSize(id);
      PutVarint(id, ids_ + start);
    }
    ids_start_[i + 1] = static_cast<uint16_t>(start);
  }
  std::span<const std::byte> ids(ids_ + ids_start_[depth], ids_ + kIdsSize);
  uint64_t values[kMaxValues];
  ValuesOf(request_.kind, period_, row, values);
  size_t values_size = 0;
  for (size_t i = 0; i < kind_.sample_types.size(); ++i) values_size += VarintSize(values[i]);
  size_t name_label = 0, size_label = 0;
  uint32_t name = 0;
  if (!row.key.name.empty()) {
    name = strings_.Add(row.key.name);
    name_label = IntegerSize(name_key_) + IntegerSize(name);
  }
  if (row.key.size != 0) size_label = IntegerSize(size_key_) + IntegerSize(row.key.size);

  // An empty packed list is not written, as proto3 has it.
  out_.Block(2, (!ids.empty() ? BlockSize(ids.size()) : 0) + BlockSize(values_size) +
                    (name_label > 0 ? BlockSize(name_label) : 0) +
                    (size_label > 0 ? BlockSize(size_label) : 0));
  if (!ids.empty()) out_.Bytes(1, ids);
  out_.Block(2, values_size);
  for (size_t i = 0; i < kind_.sample_types.size(); ++i) out_.Varint(values[i]);
  if (name_label > 0) {
    out_.Block(3, name_label);
    out_.Integer(1, name_key_);
    out_.Integer(2, name);
  }
  if (size_label > 0) {
    out_.Block(3, size_label);
    out_.Integer(1, size_key_);
    out_.Integer(3, row.key.size);
  }
}

uint32_t Encoder::LocationId(Frame frame) {
  uint32_t number = frames_.Add(frame);
  if (number != FrameTable::kNone && frames_[number].location != 0) return frames_[number].location;
  if (number == FrameTable::kNone || !locations_.Add(Location{number, 0})) {
    ++unplaced_frames_;
    return 0;
  }
  MeetModule(frame);
  return frames_[number].location = locations_.size();
}

void Encoder::MeetModule(Frame frame) {
  // All of its executable segments: a reader that has nothing but a debug file tells them apart by their distances.
  for (auto* entry = modules_.Find(frame.module()); entry != nullptr; entry = entry->more) {
    if (entry->mapping != 0) continue;
    mappings_[mapping_count_] = entry;
    entry->mapping = ++mapping_count_;
  }
}

void Encoder::WriteMappings() {
  for (uint64_t id = 1; id <= mapping_count_; ++id) WriteMapping(id, mappings_[id - 1]);
}

// As a line of /proc/self/maps would say it: pages, and the file's offset of the first one. Profiles of several
// runs are merged by size, offset and build-id.
void Encoder::WriteMapping(uint64_t id, const ModuleTable::Entry* entry) {
  constexpr uint64_t kPage = 4096;
  uint64_t start = 0, limit = 0, offset = 0;
  uint32_t file = 0, build_id = 0;
  if (entry != nullptr) {
    const LedgerView::Module& module = entry->module;
    uint64_t before = module.text_start % kPage;
    start = module.text_start - before;
    limit = (module.text_limit + kPage - 1) / kPage * kPage;
    offset = module.text_file_offset >= before ? module.text_file_offset - before : 0;
    file = strings_.Add(AbsolutePath(module.path));
    char digits[2 * kMaxBuildIdSize];
    size_t size = 0;
    for (uint8_t byte : module.build_id) {
      digits[size++] = "0123456789abcdef"[byte >> 4];
      digits[size++] = "0123456789abcdef"[byte & 15];
    }
    build_id = strings_.AddCopy({digits, size});
  } else {  // the program itself was never entered: its name is known all the same
    file = strings_.Add(ledger_.Text(ledger_.header().executable));
  }
  out_.Block(3, IntegerSize(id) + IntegerSize(start) + IntegerSize(limit) + IntegerSize(offset) +
                    IntegerSize(file) + IntegerSize(build_id) + IntegerSize(1));
  out_.Integer(1, id);
  out_.Integer(2, start);
  out_.Integer(3, limit);
  out_.Integer(4, offset);
  out_.Integer(5, file);
  out_.Integer(6, build_id);
  out_.Integer(7, 1);  // has_functions
}

std::string_view Encoder::AbsolutePath(std::string_view path) {
  constexpr std::string_view kDeleted = " (deleted)";  // what the kernel adds to the name of a removed file
  if (path.ends_with(kDeleted)) path.remove_suffix(kDeleted.size());
  if (path.empty() || path[0] == '/' || path[0] == '[') return path;
  std::string_view directory = ledger_.Text(ledger_.header().working_directory);
  char* memory = arena_.AllocateArray<char>(directory.size() + path.size() + 2);
  if (memory == nullptr || directory.empty()) return path;
  TextWriter absolute(memory, directory.size() + path.size() + 2);
  return absolute.Add(directory, directory.ends_with('/') ? "" : "/", path).view();
}

void Encoder::NameLocations() {
  if (!frames_.Name()) names_incomplete_ = true;
  for (Location& location : locations_.span()) {
    location.function = FunctionId(NameOf(location.frame));
  }
}

uint32_t Encoder::NameOf(uint32_t frame_number) {
  const Frame frame = frames_[frame_number].frame;
  if (std::string_view symbol = frames_.SymbolOf(frame_number).name; !symbol.empty())
    return strings_.Add(symbol);
  if (frame.module() == ModuleId::kSynthetic) return strings_.Add(SyntheticFrameName(frame));
  if (frame.module() == ModuleId::kNone)
    return strings_.AddCopy(FixedText<24>().Add(Hex{frame.offset()}).view());
  FixedText<320> name;
  const ModuleTable::Entry* module = modules_.Find(frame.module());
  std::string_view file = module != nullptr ? LastComponent(module->module.path) : std::string_view();
  if (!file.empty()) {
    name.Add(file.substr(0, 255));
  } else {
    name.Add("[module ", static_cast<uint32_t>(frame.module()), "]");
  }
  return strings_.AddCopy(name.Add("+", Hex{frame.offset()}).view());
}

uint32_t Encoder::FunctionId(uint32_t name) {
  uint32_t found = function_index_.Find(name, [&](uint32_t i) { return functions_[i] == name; });
  if (found != HashIndex::kNone) return found + 1;
  if (functions_.Add(name)) {
    if (function_index_.Add(name, functions_.size() - 1)) return functions_.size();
    functions_.RemoveLast();
  }
  names_incomplete_ = true;
  return 0;
}

void Encoder::WriteLocations() {
  for (uint32_t i = 0; i < locations_.size(); ++i) {
    const Location& location = locations_[i];
    const Frame frame = frames_[location.frame].frame;
    ModuleTable::Entry* entry = modules_.Find(frame);
    uint64_t mapping = entry != nullptr ? entry->mapping : 0;
    uint64_t address = frame.offset();
    if (frame.module() == ModuleId::kSynthetic) address = 0;
    if (entry != nullptr) address += entry->module.load_bias;
    size_t line = IntegerSize(location.function);
    out_.Block(4, IntegerSize(i + 1) + IntegerSize(mapping) + IntegerSize(address) +
                      (line > 0 ? BlockSize(line) : 0));
    out_.Integer(1, i + 1);
    out_.Integer(2, mapping);
    out_.Integer(3, address);
    if (line > 0) out_.Block(4, line);
    out_.Integer(1, location.function);
  }
}

void Encoder::WriteFunctions() {
  for (uint32_t i = 0; i < functions_.size(); ++i) {
    out_.Block(5, IntegerSize(i + 1) + 2 * IntegerSize(functions_[i]));
    out_.Integer(1, i + 1);
    out_.Integer(2, functions_[i]);  // name: as the linker knows it
    out_.Integer(3, functions_[i]);  // system_name: equal, so that pprof demangles the name
  }
}

// The comments come last: they are the strings behind those of the table.
void Encoder::WriteStrings() {
  for (uint32_t i = 0; i < strings_.size(); ++i) out_.String(6, strings_[i]);
  for (uint32_t i = 0; i < comment_count_; ++i) out_.String(6, comments_[i]);
}

// Only a CPU profile covers a stretch of time; any other kind says when it was taken.
void Encoder::WriteTime() {
  const LedgerHeader& header = ledger_.header();
  uint64_t end = request_.end_monotonic.value;
  if (request_.kind != ProfileKind::kCpu) {
    uint64_t start = header.start_monotonic_ns;
    out_.Integer(9, header.start_realtime_ns + (end > start ? end - start : 0));
    return;
  }
  uint64_t start = header.cpu_start_monotonic_ns.load(std::memory_order_relaxed);
  uint64_t stop = header.cpu_stop_monotonic_ns.load(std::memory_order_relaxed);
  if (stop == 0) stop = end;
  out_.Integer(9, header.cpu_start_realtime_ns.load(std::memory_order_relaxed));
  out_.Integer(10, stop > start && start != 0 ? stop - start : 0);
}

template <class... Parts>
void Encoder::AddComment(const Parts&... parts) {
  if (comment_count_ == kMaxComments) return;
  size_t before = comment_text_.size();
  comment_text_.Add(parts...);
  EndComment(before);
}

// Arguments are any bytes, and 4 KiB of them may end in the middle of a letter.
void Encoder::EndComment(size_t start) {
  MakeValidUtf8({comment_memory_ + start, comment_text_.size() - start});
  comments_[comment_count_++] = comment_text_.view().substr(start);
}

void Encoder::AddRates() {
  const LedgerHeader& header = ledger_.header();
  switch (request_.kind) {
    case ProfileKind::kCpu: {
      uint32_t engine = header.cpu_engine.load(std::memory_order_relaxed);
      AddComment("# cpu: ", header.cpu_hz.load(std::memory_order_relaxed), " Hz, ", EngineName(engine));
      uint64_t calls = header.handler_calls.load(std::memory_order_relaxed);
      if (calls != 0) {
        AddComment("# handler: ", calls, " calls, ", header.handler_ns.load(std::memory_order_relaxed),
                   " ns");
      }
      break;
    }
    case ProfileKind::kHeap:
    case ProfileKind::kAllocs:
    case ProfileKind::kHeapPeak:
      AddComment("# heap: one sample in ", period_, " bytes");
      break;
    case ProfileKind::kBlock:
      AddComment("# block: rate ", header.block_rate.load(std::memory_order_relaxed), " ns");
      break;
    case ProfileKind::kMutex:
      AddComment("# mutex: one contention in ", header.mutex_fraction.load(std::memory_order_relaxed));
      break;
  }
}

// What was measured how stands behind a '#', which keeps it out of the reports' heads (`pprof -comments` shows
// it); what is missing belongs there.
void Encoder::AddComments() {
  const LedgerHeader& header = ledger_.header();
  std::string_view version = ledger_.Text(header.agent_version);
  AddComment("# profagent ", version.empty() ? PROFAGENT_VERSION : version);
  std::string_view command = ledger_.Text(header.command_line);
  if (!command.empty()) AddComment("# command: ", command);
  AddComment("# pid: ", header.pid);
  AddRates();
  for (std::string_view comment : request_.comments) AddComment(comment);

  if (header.process_end.load(std::memory_order_relaxed) == static_cast<uint32_t>(ProcessEnd::kSandboxed)) {
    AddComment("the profile ends where the program entered a sandbox (seccomp)");
  }
  for (uint32_t i = 0; i < static_cast<uint32_t>(Loss::kCount); ++i) {
    auto loss = static_cast<Loss>(i);
    uint64_t times = ledger_.losses(loss);
    if (loss == Loss::kHeapNotFollowed && !IsHeap(request_.kind))
      continue;  // nothing is missing from the others
    if (times != 0) AddComment(LossName(loss), "=", times, " (", LossMeaning(loss), ")");
  }
  if (ledger_.missing_bytes() != 0) {
    AddComment("ledger_bytes_missing=", ledger_.missing_bytes(), " (the ledger is cut short)");
  }
  if (uint64_t damaged = damaged_records_ + modules_.damaged(); damaged != 0) {
    AddComment("ledger_records_damaged=", damaged, " (left out)");
  }
  if (samples_.left_out() != 0) {
    AddComment("samples_no_encoder_memory=", samples_.left_out(),
               " (stacks left out while the profile was written)");
  }
  if (unplaced_frames_ != 0) {
    AddComment("frames_no_encoder_memory=", unplaced_frames_,
               " (left out of their stacks while the profile was written)");
  }
  if (names_incomplete_ || strings_.out_of_memory()) {
    AddComment("names_no_encoder_memory=1 (function names are missing)");
  }
}

}  // namespace

Status EncodeProfile(const LedgerView& ledger, const EncodeRequest& request, SymbolSource symbols,
                     Arena& arena, ByteSink sink) {
  Encoder encoder(ledger, request, symbols, arena, sink);
  return encoder.Run();
}

Status EncodeProfileGzip(const LedgerView& ledger, const EncodeRequest& request, SymbolSource symbols,
                         Arena& arena, ByteSink sink) {
  Gzip gzip(arena, sink);
  auto compress = [&](std::span<const std::byte> bytes) { return gzip.Write(bytes); };
  Status status = EncodeProfile(ledger, request, symbols, arena, compress);
  if (status && !gzip.Finish()) return Error::Of("the profile could not be written out");
  return status;
}

}  // namespace profagent
