#include "agent/encode/go_table_names.h"

#include <algorithm>
#include <cstring>

namespace profagent {
namespace {

constexpr uint32_t kMagic = 0xfffffff0;  // Go 1.18; 1.20 and later: one more
constexpr size_t kLongestName = 512;     // bytes; of a longer one the beginning

struct Header {  // runtime.pcHeader
  uint32_t magic;
  uint8_t zeros[2];
  uint8_t instruction_unit;
  uint8_t pointer_size;
  uint64_t function_count;
  uint64_t file_count;
  uint64_t text_start;
  uint64_t names;  // this and the others: from the header's first byte
  uint64_t units;
  uint64_t files;
  uint64_t counters;
  uint64_t functions;
};
static_assert(sizeof(Header) == 72);

// runtime.functab. The last entry says where the code ends; its description means nothing.
struct Entry {
  uint32_t function;     // from text_start
  uint32_t description;  // from the table's first byte
};
static_assert(sizeof(Entry) == 8);

struct Description {  // runtime._func begins so
  uint32_t function;
  int32_t name;  // from Header::names
};
static_assert(sizeof(Description) == 8);

class GoTable {
 public:
  explicit GoTable(const ElfReader& file) : file_(file) {}

  bool Find() {
    section_ = file_.FindSection(".gopclntab");
    if (section_ == nullptr || !Read(0, &header_, sizeof header_)) return false;
    if (header_.magic - kMagic > 1) return false;
    if (header_.pointer_size != sizeof(uint64_t) || header_.functions > section_->sh_size) return false;
    uint64_t room = (section_->sh_size - header_.functions) / sizeof(Entry);
    if (header_.function_count >= room) return false;
    return header_.text_start != 0;  // 0: the loader writes it, in a position independent executable
  }

  // Entry `index`, up to the one that says where the code ends; beyond the file's end: all bits zero.
  Entry EntryAt(uint64_t index) const {
    Entry entry{};
    Read(header_.functions + index * sizeof entry, &entry, sizeof entry);
    return entry;
  }

  // The first entry behind `address`, searched from `low` on; one more than the last: there is none.
  uint64_t Above(uint64_t address, uint64_t low) const {
    uint64_t high = header_.function_count + 1;
    while (low < high) {
      uint64_t middle = low + (high - low) / 2;
      if (FunctionOf(EntryAt(middle)) <= address)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  }
  uint64_t CountWithEnd() const { return header_.function_count + 1; }
  uint64_t FunctionOf(Entry entry) const { return header_.text_start + entry.function; }

  std::string_view NameOf(Entry entry, Arena& arena) const {
    Description description;
    if (!Read(header_.functions + entry.description, &description, sizeof description)) return {};
    if (description.function != entry.function || description.name < 0) return {};
    uint64_t at = header_.names + static_cast<uint64_t>(description.name);
    if (at >= section_->sh_size) return {};
    char text[kLongestName];
    size_t got = file_.ReadAt(section_->sh_offset + at, text, std::min(sizeof text, section_->sh_size - at));
    return arena.Copy({text, strnlen(text, got)});
  }

 private:
  bool Read(uint64_t offset, void* to, size_t size) const {
    if (offset > section_->sh_size || section_->sh_size - offset < size) return false;
    return file_.ReadAt(section_->sh_offset + offset, to, size) == size;
  }

  const ElfReader& file_;
  const Elf64_Shdr* section_ = nullptr;
  Header header_{};
};

}  // namespace

void NameFromGoTable(const ElfReader& file, std::span<const uint64_t> addresses,
                     std::span<FunctionSymbol> names, Arena& arena) {
  GoTable table(file);
  bool found = false;
  uint64_t above = 0, limit = 0;  // the entry behind the last address, and where its function begins
  FunctionSymbol symbol;
  for (size_t at = 0; at < addresses.size(); ++at) {
    if (!names[at].name.empty() && !names[at].is_label) continue;
    if (!found && !table.Find()) return;
    found = true;
    if (addresses[at] >= limit) {
      above = table.Above(addresses[at], above);
      if (above == table.CountWithEnd()) return;
      limit = table.FunctionOf(table.EntryAt(above));
      symbol = {};
      if (above == 0) continue;  // before all of Go's code
      Entry entry = table.EntryAt(above - 1);
      symbol = {table.NameOf(entry, arena), table.FunctionOf(entry)};
    }
    if (!symbol.name.empty()) names[at] = symbol;
  }
}

}  // namespace profagent
