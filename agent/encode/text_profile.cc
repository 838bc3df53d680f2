#include "agent/encode/text_profile.h"

#include <algorithm>

#include "agent/encode/collect_samples.h"
#include "agent/encode/frame_table.h"
#include "agent/encode/module_table.h"
#include "agent/encode/profile_kind.h"
#include "agent/encode/sample_table.h"
#include "agent/encode/tables.h"

namespace profagent {
namespace {

constexpr size_t kLineSize = 64 * 1024;  // a record line of kMaxDepthLimit addresses takes a third of it
constexpr size_t kTab = 8;

// How many tabs follow a cell, so that the next column begins where it does in all rows of `widest`.
size_t TabsBehind(size_t cell, size_t widest) {
  size_t column = (widest + 1 + kTab - 1) / kTab * kTab;
  return (column - cell + kTab - 1) / kTab;
}

class TextEncoder {
 public:
  TextEncoder(const LedgerView& ledger, const EncodeRequest& request, SymbolSource symbols, Arena& arena,
              ByteSink sink)
      : ledger_(ledger),
        request_(request),
        modules_(ledger, symbols, arena),
        samples_(arena),
        frames_(modules_, arena),
        arena_(arena),
        sink_(sink),
        line_(arena.AllocateArray<char>(kLineSize)) {}

  Status Run();

 private:
  bool NameAllFrames();
  void WriteHead();
  void WriteRecord(const SampleRow& row);
  void WriteStack(const SampleRow& row);
  void WriteMappings();
  uint64_t AddressOf(Frame frame) const;
  std::string_view FunctionCell(Frame frame, char* memory, size_t size) const;
  template <class... Parts>
  void Write(const Parts&... parts) {
    TextWriter text(line_, kLineSize);
    text.Add(parts...);
    std::string_view bytes = text.view();
    refused_ = refused_ || !sink_(std::as_bytes(std::span(bytes)));
  }

  const LedgerView& ledger_;
  const EncodeRequest& request_;
  ModuleTable modules_;
  SampleTable samples_;
  FrameTable frames_;
  Arena& arena_;
  ByteSink sink_;
  char* line_;
  bool refused_ = false;
};

Status TextEncoder::Run() {
  if (line_ == nullptr || !modules_.Collect()) return Error::Of("no memory to write a profile as text");
  CollectSamples(ledger_, request_.kind, request_.end_monotonic, modules_, arena_, &frames_, &samples_);
  samples_.Finish([&](Frame frame) { return frames_.Allocates(frame); });
  if (!NameAllFrames()) return Error::Of("no memory to write a profile as text");
  WriteHead();
  for (const SampleRow& row : samples_.rows()) {
    WriteRecord(row);
    WriteStack(row);
    if (refused_) break;
  }
  WriteMappings();
  if (refused_) return Error::Of("the profile could not be written out");
  return Done{};
}

bool TextEncoder::NameAllFrames() {
  for (const SampleRow& row : samples_.rows()) {
    for (uint32_t i = 0; i < row.stack.size(); ++i) {
      if (frames_.Add(row.stack[i]) == FrameTable::kNone) return false;
    }
  }
  return frames_.Name();
}

void TextEncoder::WriteHead() {
  if (request_.kind == ProfileKind::kBlock)
    return Write("--- contention:\ncycles/second=", kNanosPerSecond, "\n");
  if (request_.kind == ProfileKind::kMutex) {
    return Write("--- mutex:\ncycles/second=", kNanosPerSecond, "\nsampling period=1\n");
  }
  uint64_t allocated = 0, allocated_bytes = 0, inuse = 0, inuse_bytes = 0;
  for (const SampleRow& row : samples_.rows()) {
    allocated += row.counts.first;
    allocated_bytes += Product(row.counts.first, row.key.size);
    inuse += row.counts.second;
    inuse_bytes += Product(row.counts.second, row.key.size);
  }
  Write("heap profile: ", inuse, ": ", inuse_bytes, " [", allocated, ": ", allocated_bytes, "] @ heap/",
        2 * PeriodOf(request_.kind, ledger_.header()), "\n");
}

void TextEncoder::WriteRecord(const SampleRow& row) {
  TextWriter text(line_, kLineSize);
  if (request_.kind == ProfileKind::kBlock || request_.kind == ProfileKind::kMutex) {
    text.Add(row.counts.weight, " ", std::max<uint64_t>(row.counts.first / kContentionUnit, 1), " @");
  } else {
    text.Add(row.counts.second, ": ", Product(row.counts.second, row.key.size), " [", row.counts.first, ": ",
             Product(row.counts.first, row.key.size), "] @");
  }
  for (uint32_t i = 0; i < row.stack.size(); ++i) {
    Frame frame = row.stack[i];
    uint64_t address = AddressOf(frame);
    text.Add(" ", Hex{address != 0 ? address + 1 : 0});
  }
  std::string_view bytes = text.Add("\n").view();
  refused_ = refused_ || !sink_(std::as_bytes(std::span(bytes)));
}

void TextEncoder::WriteStack(const SampleRow& row) {
  char memory[512];
  size_t widest_address = 0, widest_function = 0;
  for (uint32_t i = 0; i < row.stack.size(); ++i) {
    Frame frame = row.stack[i];
    widest_address = std::max(widest_address, FixedText<24>().Add(Hex{AddressOf(frame)}).view().size());
    widest_function = std::max(widest_function, FunctionCell(frame, memory, sizeof memory).size());
  }
  constexpr std::string_view kTabs =
      "\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t"
      "\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t";
  for (uint32_t i = 0; i < row.stack.size(); ++i) {
    Frame frame = row.stack[i];
    std::string_view function = FunctionCell(frame, memory, sizeof memory);
    FixedText<24> address;
    address.Add(Hex{AddressOf(frame)});
    if (function.empty()) {
      Write("#\t", address.view(), "\n");
      continue;
    }
    const ModuleTable::Entry* module = modules_.Find(frame.module());
    std::string_view file = module != nullptr ? module->module.path : std::string_view();
    Write("#\t", address.view(), kTabs.substr(0, TabsBehind(address.view().size(), widest_address)), function,
          kTabs.substr(0, TabsBehind(function.size(), widest_function)), file, "\n");
  }
  Write("\n");
}

void TextEncoder::WriteMappings() {
  Write("MAPPED_LIBRARIES:\n");
  for (uint32_t id = 1; id < ModuleTable::kSlots; ++id) {
    const ModuleTable::Entry* entry = modules_.Find(ModuleId{static_cast<uint16_t>(id)});
    if (entry == nullptr || static_cast<ModuleId>(id) == modules_.agent()) continue;
    for (; entry != nullptr; entry = entry->more) {
      const LedgerView::Module& module = entry->module;
      Write(Hex{module.text_start}, "-", Hex{module.text_limit}, " r-xp ", Hex{module.text_file_offset},
            " 00:00 0 ", module.path, "\n");
    }
  }
}

uint64_t TextEncoder::AddressOf(Frame frame) const {
  if (frame.module() == ModuleId::kSynthetic) return 0;
  const ModuleTable::Entry* entry = modules_.Find(frame.module());
  return frame.offset() + (entry != nullptr ? entry->module.load_bias : 0);
}

// "function+0x1f"; a frame that no code stands behind: its name alone.
std::string_view TextEncoder::FunctionCell(Frame frame, char* memory, size_t size) const {
  TextWriter cell(memory, size);
  if (frame.module() == ModuleId::kSynthetic) return cell.Add(SyntheticFrameName(frame)).view();
  const FunctionSymbol symbol = frames_.SymbolOf(frames_.Find(frame));
  if (symbol.name.empty()) return {};
  return cell.Add(symbol.name.substr(0, 400), "+", Hex{frame.offset() - symbol.start}).view();
}

}  // namespace

Status EncodeText(const LedgerView& ledger, const EncodeRequest& request, SymbolSource symbols, Arena& arena,
                  ByteSink sink) {
  if (request.kind == ProfileKind::kCpu || request.kind == ProfileKind::kHeapPeak) {
    return Error::Of("this kind of profile has no text form");
  }
  return TextEncoder(ledger, request, symbols, arena, sink).Run();
}

}  // namespace profagent
