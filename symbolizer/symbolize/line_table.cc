#include "symbolizer/symbolize/line_table.h"

#include <dwarf.h>

#include <algorithm>

namespace profagent {
namespace {

const std::string kNoPath;

// The forms that a DWARF 5 header may use (6.2.4.2) for names, indices and the rest, which is skipped. A name in .debug_str_offsets
// (no compiler is known to do that) or in a supplementary file is none.
struct FormValue {
  uint64_t number = 0;
  std::string_view text;
};

std::string_view StringAt(std::string_view section, uint64_t offset) {
  if (offset >= section.size()) return {};
  return ByteReader(section.substr(offset)).String();
}

bool ReadForm(uint64_t form, size_t offset_size, const LineSections& sections, ByteReader* reader,
              FormValue* value) {
  switch (form) {
    case DW_FORM_string:
      value->text = reader->String();
      return true;
    case DW_FORM_line_strp:
      value->text = StringAt(sections.line_str, reader->Fixed(offset_size));
      return true;
    case DW_FORM_strp:
      value->text = StringAt(sections.str, reader->Fixed(offset_size));
      return true;
    case DW_FORM_udata:
      value->number = reader->Uleb();
      return true;
    case DW_FORM_data1:
      value->number = reader->Fixed(1);
      return true;
    case DW_FORM_data2:
      value->number = reader->Fixed(2);
      return true;
    case DW_FORM_data4:
      value->number = reader->Fixed(4);
      return true;
    case DW_FORM_data8:
      value->number = reader->Fixed(8);
      return true;
    case DW_FORM_data16:
      reader->Skip(16);
      return true;
    case DW_FORM_flag:
    case DW_FORM_strx1:
      reader->Skip(1);
      return true;
    case DW_FORM_strx2:
      reader->Skip(2);
      return true;
    case DW_FORM_strx3:
      reader->Skip(3);
      return true;
    case DW_FORM_strx4:
      reader->Skip(4);
      return true;
    case DW_FORM_strx:
    case DW_FORM_sdata:
      reader->Uleb();  // as long, whatever it means
      return true;
    case DW_FORM_sec_offset:
    case DW_FORM_strp_sup:
      reader->Skip(offset_size);
      return true;
    case DW_FORM_block1:
      reader->Skip(reader->Fixed(1));
      return true;
    case DW_FORM_block2:
      reader->Skip(reader->Fixed(2));
      return true;
    case DW_FORM_block4:
      reader->Skip(reader->Fixed(4));
      return true;
    case DW_FORM_block:
      reader->Skip(reader->Uleb());
      return true;
    default:
      return false;  // its length is unknown: nothing behind it can be read
  }
}

bool IsAbsolute(std::string_view path) { return path.starts_with('/'); }

void AppendPath(std::string* path, std::string_view part) {
  if (part.empty()) return;
  if (!path->empty() && path->back() != '/') *path += '/';
  *path += part;
}

}  // namespace

Result<LineTable> LineTable::Parse(const LineSections& sections, uint64_t offset,
                                   std::string_view compilation_directory) {
  if (offset >= sections.line.size()) return Error::Of("no line table at ", Hex{offset});
  LineTable table;
  table.compilation_directory_ = compilation_directory;
  ByteReader reader(sections.line.substr(offset));
  if (Status parsed = table.ParseHeader(sections, &reader); !parsed) {
    return Error::Of("line table at ", Hex{offset}, ": ", parsed.error().text.view());
  }
  return table;
}

Status LineTable::ParseHeader(const LineSections& sections, ByteReader* section) {
  size_t offset_size = 4;
  uint64_t length = section->Fixed(4);
  if (length == 0xffffffff) {
    offset_size = 8;
    length = section->Fixed(8);
  }
  ByteReader reader(section->Bytes(std::min<uint64_t>(length, section->left())));
  version_ = static_cast<uint16_t>(reader.Fixed(2));
  if (version_ < 2 || version_ > 5) return Error::Of("version ", version_);
  if (version_ >= 5) {
    reader.Skip(2);  // size of an address, of a segment selector
  }
  uint64_t header_length = reader.Fixed(offset_size);
  if (header_length > reader.left()) return Error::Of("header ends behind the section");
  ByteReader header(reader.Bytes(header_length));
  program_ = reader.Bytes(reader.left());

  minimum_instruction_length_ = header.U8();
  uint8_t operations = version_ >= 4 ? header.U8() : 1;
  // More than one is for very long instruction words, whose addresses count in operations.
  if (operations > 1) return Error::Of(operations, " operations an instruction");
  header.Skip(1);  // default_is_stmt
  line_base_ = static_cast<int8_t>(header.U8());
  line_range_ = header.U8();
  opcode_base_ = header.U8();
  if (line_range_ == 0 || opcode_base_ == 0) return Error::Of("empty opcode range");
  for (int i = 1; i < opcode_base_; ++i) operand_counts_.push_back(header.U8());
  if (version_ >= 5) {
    ParseTables5(sections, offset_size, &header);
  } else {
    ParseTablesBefore5(&header);
  }
  if (header.failed()) return Error::Of("header is cut");
  return Done{};
}

// Both tables number from 1 there; 0 is the compilation directory. Entry 0 makes the numbers fit.
void LineTable::ParseTablesBefore5(ByteReader* reader) {
  directories_.push_back({});
  files_.push_back({});
  while (!reader->failed()) {
    std::string_view directory = reader->String();
    if (directory.empty()) break;
    directories_.push_back(directory);
  }
  while (!reader->failed()) {
    File file;
    file.name = reader->String();
    if (file.name.empty()) break;
    file.directory = reader->Uleb();
    reader->Uleb();  // modification time
    reader->Uleb();  // size
    files_.push_back(file);
  }
}

void LineTable::ParseTables5(const LineSections& sections, size_t offset_size, ByteReader* reader) {
  for (bool of_files : {false, true}) {
    struct Column {
      uint64_t content, form;
    };
    std::vector<Column> columns(reader->U8());
    for (Column& column : columns) column = {reader->Uleb(), reader->Uleb()};
    uint64_t count = reader->Uleb();
    if (columns.empty()) continue;
    for (uint64_t i = 0; i < count && !reader->failed(); ++i) {
      File file;
      for (const Column& column : columns) {
        FormValue value;
        if (!ReadForm(column.form, offset_size, sections, reader, &value)) return;
        if (column.content == DW_LNCT_path) file.name = value.text;
        if (column.content == DW_LNCT_directory_index) file.directory = value.number;
      }
      if (of_files) {
        files_.push_back(file);
      } else {
        directories_.push_back(file.name);
      }
    }
  }
}

const std::string& LineTable::FilePath(uint64_t index) {
  if (index >= files_.size()) return kNoPath;
  File& file = files_[index];
  if (file.path != nullptr) return *file.path;
  std::string path;
  if (!IsAbsolute(file.name)) {
    std::string_view directory = file.directory < directories_.size() ? directories_[file.directory] : "";
    if (!IsAbsolute(directory)) path = compilation_directory_;
    AppendPath(&path, directory);
  }
  if (!file.name.empty()) AppendPath(&path, file.name);
  if (file.name.empty()) path.clear();
  file.path = &paths_.emplace_back(std::move(path));
  return *file.path;
}

void LineTable::FindRows(std::span<const uint64_t> addresses, uint64_t lowest_code_address,
                         std::span<LineRow> rows) const {
  struct State {
    uint64_t address = 0;
    uint64_t file = 1;
    uint32_t line = 1;
    uint32_t column = 0;
  };
  State state, previous;
  bool in_sequence = false;  // `previous` is a row of the current sequence
  bool discarded = false;
  size_t next = 0;  // first address that is not below `previous`

  auto emit = [&](bool end) {
    if (!in_sequence) {
      in_sequence = true;
      discarded = state.address < lowest_code_address;
      next = static_cast<size_t>(std::lower_bound(addresses.begin(), addresses.end(), state.address) -
                                 addresses.begin());
    } else if (state.address < previous.address) {
      // Rows of a sequence must ascend; assemblers have been seen to break that.
      next = static_cast<size_t>(std::lower_bound(addresses.begin(), addresses.end(), state.address) -
                                 addresses.begin());
    } else if (!discarded) {
      // Of several rows at one address the last one counts: the earlier ones cover nothing.
      for (; next < addresses.size() && addresses[next] < state.address; ++next) {
        if (!rows[next].found) rows[next] = {true, previous.file, previous.line, previous.column};
      }
    }
    previous = state;
    if (end) {
      in_sequence = false;
      state = State{};
    }
  };

  ByteReader reader(program_);
  const uint64_t unit = minimum_instruction_length_;
  const uint64_t const_add_pc = (255u - opcode_base_) / line_range_ * unit;
  while (!reader.done()) {
    uint8_t opcode = reader.U8();
    if (opcode >= opcode_base_) {
      unsigned special = static_cast<unsigned>(opcode) - opcode_base_;
      state.address += special / line_range_ * unit;
      state.line += static_cast<uint32_t>(line_base_ + static_cast<int>(special % line_range_));
      emit(false);
      continue;
    }
    switch (opcode) {
      case 0: {
        uint64_t length = reader.Uleb();
        ByteReader body(reader.Bytes(length));
        if (length == 0 || reader.failed()) return;
        switch (body.U8()) {
          case DW_LNE_end_sequence:
            emit(true);
            break;
          case DW_LNE_set_address:
            state.address = body.Fixed(body.left());
            break;
          default:
            break;
        }
        break;
      }
      case DW_LNS_copy:
        emit(false);
        break;
      case DW_LNS_advance_pc:
        state.address += reader.Uleb() * unit;
        break;
      case DW_LNS_advance_line:
        state.line += static_cast<uint32_t>(reader.Sleb());
        break;
      case DW_LNS_set_file:
        state.file = reader.Uleb();
        break;
      case DW_LNS_set_column:
        state.column = static_cast<uint32_t>(reader.Uleb());
        break;
      case DW_LNS_const_add_pc:
        state.address += const_add_pc;
        break;
      case DW_LNS_fixed_advance_pc:
        state.address += reader.Fixed(2);
        break;
      default:
        // negate_stmt, set_basic_block, set_prologue_end, set_epilogue_begin, set_isa, and what is yet to
        // come
        for (uint8_t i = 0; i < operand_counts_[opcode - 1u]; ++i) reader.Uleb();
        break;
    }
  }
}

}  // namespace profagent
