#include "agent/encode/frame_table_names.h"

#include <algorithm>
#include <cstring>

#include "agent/base/text.h"

namespace profagent {
namespace {

// .eh_frame_hdr: version 1, then the encodings of its three fields: of the pointer to .eh_frame, of the count (udata4), and
// of the table's entries (pairs of sdata4 relative to this section).
constexpr uint8_t kVersion = 1;
constexpr uint8_t kCountEncoding = 0x03;
constexpr uint8_t kTableEncoding = 0x3b;
constexpr uint64_t kHeaderSize = 12;  // with a four-byte pointer, which all of these encodings have:
constexpr uint8_t kPointerFormatMask = 0x0f, kPointerData4 = 0x03, kPointerSdata4 = 0x0b;

struct Entry {  // as in the file
  int32_t function;
  int32_t fde;
};
static_assert(sizeof(Entry) == 8);

// An FDE's first words, when its CIE says what every linker's does (pcrel sdata4).
struct FdeHead {
  uint32_t length;
  uint32_t cie_pointer;
  int32_t begin;
  uint32_t range;
};
static_assert(sizeof(FdeHead) == 16);

// The most that is taken for the assembly of one library: x265 has 4 MiB in a piece, Chromium 90 MiB of C++ without unwind tables.
constexpr uint64_t kLargestAssembly = uint64_t{16} << 20;

class UnwindTable {
 public:
  explicit UnwindTable(const ElfReader& file) : file_(file) {}

  bool Find() {
    header_ = file_.FindSection(".eh_frame_hdr");
    frames_ = file_.FindSection(".eh_frame");
    if (header_ == nullptr || frames_ == nullptr || header_->sh_size < kHeaderSize) return false;
    uint8_t head[kHeaderSize];
    if (file_.ReadAt(header_->sh_offset, head, sizeof head) != sizeof head) return false;
    uint8_t pointer_format = head[1] & kPointerFormatMask;
    if (head[0] != kVersion || head[2] != kCountEncoding || head[3] != kTableEncoding) return false;
    if (pointer_format != kPointerData4 && pointer_format != kPointerSdata4) return false;
    uint32_t count;
    std::memcpy(&count, head + 8, sizeof count);
    uint64_t room = (header_->sh_size - kHeaderSize) / sizeof(Entry);
    count_ = count < room ? count : room;
    return true;
  }

  template <class Visit>
  void Read(Visit visit) const {
    file_.ReadTable<Entry>(header_->sh_offset + kHeaderSize, count_ * sizeof(Entry), visit);
  }
  uint64_t FunctionOf(Entry entry) const {
    return header_->sh_addr + static_cast<uint64_t>(int64_t{entry.function});
  }

  // Where the section of code ends that the function is in; 0: in none.
  uint64_t SectionEnd(uint64_t function) const {
    for (const Elf64_Shdr& section : file_.sections()) {
      if ((section.sh_flags & SHF_EXECINSTR) == 0) continue;
      if (function - section.sh_addr < section.sh_size) return section.sh_addr + section.sh_size;
    }
    return 0;
  }

  // The size of the function, as its FDE says; 0: not known.
  uint64_t SizeOf(Entry entry) const {
    uint64_t fde = header_->sh_addr + static_cast<uint64_t>(int64_t{entry.fde});
    if (fde < frames_->sh_addr || fde - frames_->sh_addr >= frames_->sh_size) return 0;
    FdeHead head;
    uint64_t offset = frames_->sh_offset + (fde - frames_->sh_addr);
    if (file_.ReadAt(offset, &head, sizeof head) != sizeof head) return 0;
    uint64_t begin = fde + offsetof(FdeHead, begin) + static_cast<uint64_t>(int64_t{head.begin});
    return begin == FunctionOf(entry) ? head.range : 0;
  }

 private:
  const ElfReader& file_;
  const Elf64_Shdr* header_ = nullptr;
  const Elf64_Shdr* frames_ = nullptr;
  uint64_t count_ = 0;
};

std::string_view MakeName(std::string_view module_name, uint64_t function, Arena& arena) {
  FixedText<320> text;
  text.Add(module_name.substr(0, 255), '+', Hex{function});
  return arena.Copy(text.view());
}

}  // namespace

void NameFromFrameTable(const ElfReader& file, std::string_view module_name,
                        std::span<const uint64_t> addresses, std::span<FunctionSymbol> names, Arena& arena) {
  size_t at = 0;  // the first whose name is not known, or a guess
  auto skip_named = [&] {
    while (at < addresses.size() && !names[at].name.empty() && !names[at].is_label) ++at;
    return at < addresses.size();
  };
  UnwindTable table(file);
  if (!skip_named() || !table.Find()) return;

  Entry last{};  // the function that begins at or below the address looked at
  bool have_last = false;
  auto name_below = [&](uint64_t limit) {  // false: that was all
    if (addresses[at] >= limit) return true;
    uint64_t start = table.FunctionOf(last);
    uint64_t size = have_last ? table.SizeOf(last) : 0;
    uint64_t behind = start + size;
    uint64_t end_behind = size != 0 ? std::min(table.SectionEnd(start), limit) : 0;
    std::string_view name, name_behind;
    do {
      bool inside = addresses[at] - start < size;
      if (inside && (names[at].name.empty() || names[at].start < start)) {
        if (name.empty()) name = MakeName(module_name, start, arena);
        names[at] = {name, start};
      } else if (!inside && names[at].name.empty() && addresses[at] < end_behind &&
                 end_behind - behind <= kLargestAssembly) {
        // Assembly that nobody describes: which functions it holds is not known, but that it is no other one.
        if (name_behind.empty()) name_behind = MakeName(module_name, behind, arena);
        names[at] = {name_behind, behind};
      }
      ++at;
    } while (skip_named() && addresses[at] < limit);
    return at < addresses.size();
  };
  bool more = true;
  table.Read([&](std::span<const Entry> part) {
    while (more && !part.empty()) {
      auto above = std::partition_point(
          part.begin(), part.end(), [&](Entry entry) { return table.FunctionOf(entry) <= addresses[at]; });
      if (above != part.begin()) {
        last = above[-1];
        have_last = true;
      }
      part = part.subspan(static_cast<size_t>(above - part.begin()));
      if (!part.empty()) more = name_below(table.FunctionOf(part.front()));
    }
    return more;
  });
  if (more) name_below(UINT64_MAX);
}

}  // namespace profagent
