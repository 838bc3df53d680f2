#include "symbolizer/symbolize/line_table.h"

#include <dwarf.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace profagent {
namespace {

// Puts .debug_line together byte by byte: compilers make neither every version nor the tables that are wrong.
class Bytes {
 public:
  Bytes& U8(unsigned value) { return Fixed(value, 1); }
  Bytes& Fixed(uint64_t value, int width) {
    for (int i = 0; i < width; ++i) bytes_.push_back(static_cast<char>(value >> (8 * i)));
    return *this;
  }
  Bytes& Uleb(uint64_t value) {
    do {
      unsigned byte = value & 0x7f;
      value >>= 7;
      U8(byte | (value != 0 ? 0x80u : 0));
    } while (value != 0);
    return *this;
  }
  Bytes& Text(std::string_view text) {
    bytes_.append(text).push_back('\0');
    return *this;
  }
  Bytes& Add(const Bytes& other) {
    bytes_ += other.bytes_;
    return *this;
  }
  const std::string& str() const { return bytes_; }
  size_t size() const { return bytes_.size(); }

 private:
  std::string bytes_;
};

constexpr int kLineBase = -5, kLineRange = 14, kOpcodeBase = 13;

// The opcode that advances both by little.
unsigned Special(unsigned address, int line) {
  return static_cast<unsigned>(line - kLineBase) + kLineRange * address + kOpcodeBase;
}

Bytes SetAddress(uint64_t address) { return Bytes().U8(0).Uleb(9).U8(DW_LNE_set_address).Fixed(address, 8); }
Bytes EndSequence() { return Bytes().U8(0).Uleb(1).U8(DW_LNE_end_sequence); }

// Line 10 at 0x1000..0x1003, 12 at 0x1004..0x1007, 12 of file 2 at 0x1008..0x101b.
Bytes Program() {
  return Bytes()
      .Add(SetAddress(0x1000))
      .U8(DW_LNS_advance_line)
      .U8(9)
      .U8(DW_LNS_set_column)
      .Uleb(7)
      .U8(DW_LNS_copy)
      .U8(Special(4, 2))
      .U8(DW_LNS_set_file)
      .Uleb(2)
      .U8(DW_LNS_advance_pc)
      .Uleb(4)
      .U8(DW_LNS_copy)
      .U8(DW_LNS_const_add_pc)  // 17 bytes
      .U8(DW_LNS_fixed_advance_pc)
      .Fixed(3, 2);
}

struct TableOptions {
  int version = 4;
  bool dwarf64 = false;
  Bytes program = Bytes().Add(Program());
  unsigned line_range = kLineRange;
  unsigned operations = 1;
  int header_length_error = 0;
  uint64_t vendor_form = 0;  // of a column before the files' names; 0: none
  Bytes vendor_value;
};

Bytes Table(const TableOptions& options) {
  int offset_size = options.dwarf64 ? 8 : 4;
  Bytes rest;
  rest.U8(1);
  if (options.version >= 4) rest.U8(options.operations);
  rest.U8(1).U8(static_cast<unsigned>(kLineBase)).U8(options.line_range).U8(kOpcodeBase);
  for (unsigned count : {0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1}) rest.U8(count);
  if (options.version >= 5) {
    rest.U8(1).Uleb(DW_LNCT_path).Uleb(DW_FORM_line_strp);
    rest.Uleb(2).Fixed(0, offset_size).Fixed(10, offset_size);  // "/the/unit", "sub"
    rest.U8(options.vendor_form != 0 ? 4 : 3);
    if (options.vendor_form != 0) rest.Uleb(DW_LNCT_lo_user).Uleb(options.vendor_form);
    rest.Uleb(DW_LNCT_path).Uleb(DW_FORM_string).Uleb(DW_LNCT_directory_index).Uleb(DW_FORM_udata);
    rest.Uleb(DW_LNCT_MD5).Uleb(DW_FORM_data16);
    rest.Uleb(3);
    for (auto [name, directory] : {std::pair{"zero.c", 0}, {"one.c", 1}, {"/absolute/two.h", 0}}) {
      rest.Add(options.vendor_value)
          .Text(name)
          .Uleb(static_cast<unsigned>(directory))
          .Fixed(0, 8)
          .Fixed(0, 8);
    }
  } else {
    rest.Text("sub").Text("/elsewhere").U8(0);
    for (auto [name, directory] :
         {std::pair{"one.c", 1}, {"/absolute/two.h", 0}, {"three.h", 2}, {"four.c", 0}}) {
      rest.Text(name).Uleb(static_cast<unsigned>(directory)).Uleb(0).Uleb(0);
    }
    rest.U8(0);
  }
  Bytes after_length;
  after_length.Fixed(static_cast<uint64_t>(options.version), 2);
  if (options.version >= 5) after_length.U8(8).U8(0);
  after_length.Fixed(rest.size() + static_cast<uint64_t>(options.header_length_error), offset_size);
  after_length.Add(rest).Add(options.program);
  Bytes table;
  if (options.dwarf64) table.Fixed(0xffffffff, 4);
  return table.Fixed(after_length.size(), offset_size).Add(after_length);
}

struct Parsed {
  std::string bytes;
  std::string line_str = std::string("/the/unit\0sub\0", 14);

  explicit Parsed(const TableOptions& options) : bytes(Table(options).str()) {}
  Result<LineTable> Get() & { return LineTable::Parse({bytes, line_str, {}}, 0, "/the/unit"); }
};

std::string RowText(const LineRow& row) {
  return row.found ? std::to_string(row.file) + ":" + std::to_string(row.line) : "none";
}

std::string RowAt(const LineTable& table, uint64_t address, uint64_t lowest = 0) {
  LineRow row;
  table.FindRows({&address, 1}, lowest, {&row, 1});
  return RowText(row);
}

TableOptions WithEnd(int version, bool dwarf64 = false) {
  TableOptions options;
  options.version = version;
  options.dwarf64 = dwarf64;
  options.program.Add(EndSequence());
  return options;
}

TEST(LineTable, AnswersAlikeInEachVersion) {
  for (int version : {2, 3, 4, 5}) {
    for (bool dwarf64 : {false, true}) {
      Parsed parsed(WithEnd(version, dwarf64));
      Result<LineTable> table = parsed.Get();
      ASSERT_TRUE(table) << version << " " << table.error().text.view();
      EXPECT_EQ(RowAt(*table, 0xfff), "none") << version;
      EXPECT_EQ(RowAt(*table, 0x1000), "1:10") << version;
      EXPECT_EQ(RowAt(*table, 0x1003), "1:10") << version;
      EXPECT_EQ(RowAt(*table, 0x1004), "1:12") << version;
      EXPECT_EQ(RowAt(*table, 0x1008), "2:12") << version;
      EXPECT_EQ(RowAt(*table, 0x101b), "2:12") << version;
      EXPECT_EQ(RowAt(*table, 0x101c), "none") << version << ": the end belongs to nobody";
    }
  }
}

TEST(LineTable, CompletesFileNames) {
  Parsed parsed_old(WithEnd(4));
  Result<LineTable> old = parsed_old.Get();
  ASSERT_TRUE(old);
  EXPECT_EQ(old->FilePath(1), "/the/unit/sub/one.c");
  EXPECT_EQ(old->FilePath(2), "/absolute/two.h");
  EXPECT_EQ(old->FilePath(3), "/elsewhere/three.h");
  EXPECT_EQ(old->FilePath(4), "/the/unit/four.c");
  EXPECT_EQ(old->FilePath(0), "");
  EXPECT_EQ(old->FilePath(5), "");
  Parsed parsed(WithEnd(5));
  Result<LineTable> table = LineTable::Parse({parsed.bytes, parsed.line_str, {}}, 0, "/the/unit");
  ASSERT_TRUE(table);
  EXPECT_EQ(table->FilePath(2), "/absolute/two.h");
  EXPECT_EQ(table->FilePath(3), "");
  EXPECT_EQ(table->FilePath(UINT64_MAX), "");
}

TEST(LineTable, NumbersFilesFromZeroSinceVersion5) {
  Parsed parsed(WithEnd(5));
  Result<LineTable> table = parsed.Get();
  ASSERT_TRUE(table);
  EXPECT_EQ(table->FilePath(0), "/the/unit/zero.c");
  EXPECT_EQ(table->FilePath(1), "/the/unit/sub/one.c");
}

// One of a form that was not known made all names of the unit empty.
TEST(LineTable, PassesColumnsOfVendorsBy) {
  for (bool dwarf64 : {false, true}) {
    const int offset_size = dwarf64 ? 8 : 4;
    for (const auto& [form, value] :
         std::vector<std::pair<uint64_t, Bytes>>{{DW_FORM_flag, Bytes().U8(1)},
                                                 {DW_FORM_sdata, Bytes().Uleb(300)},
                                                 {DW_FORM_strx, Bytes().Uleb(300)},
                                                 {DW_FORM_strx1, Bytes().U8(1)},
                                                 {DW_FORM_strx2, Bytes().Fixed(1, 2)},
                                                 {DW_FORM_strx3, Bytes().Fixed(1, 3)},
                                                 {DW_FORM_strx4, Bytes().Fixed(1, 4)},
                                                 {DW_FORM_sec_offset, Bytes().Fixed(1, offset_size)},
                                                 {DW_FORM_strp_sup, Bytes().Fixed(1, offset_size)},
                                                 {DW_FORM_block, Bytes().Uleb(2).Fixed(1, 2)},
                                                 {DW_FORM_block1, Bytes().U8(2).Fixed(1, 2)},
                                                 {DW_FORM_block2, Bytes().Fixed(2, 2).Fixed(1, 2)},
                                                 {DW_FORM_block4, Bytes().Fixed(2, 4).Fixed(1, 2)}}) {
      TableOptions options = WithEnd(5, dwarf64);
      options.vendor_form = form;
      options.vendor_value = value;
      Parsed parsed(options);
      Result<LineTable> table = parsed.Get();
      ASSERT_TRUE(table) << form;
      EXPECT_EQ(table->FilePath(1), "/the/unit/sub/one.c") << form;
      EXPECT_EQ(table->FilePath(2), "/absolute/two.h") << form;
    }
  }
}

// What the linker threw away stays in the line program, at address 0 or so. A low address must not meet it.
TEST(LineTable, IgnoresSequencesBelowTheCode) {
  TableOptions options;
  options.program = Bytes();
  options.program.Add(SetAddress(0)).U8(DW_LNS_copy).U8(DW_LNS_advance_pc).Uleb(0x5000).Add(EndSequence());
  options.program.Add(Program()).Add(EndSequence());
  Parsed parsed(options);
  Result<LineTable> table = parsed.Get();
  ASSERT_TRUE(table);
  EXPECT_EQ(RowAt(*table, 0x1000, 0x1000), "1:10");
  EXPECT_EQ(RowAt(*table, 0x1000, 0), "1:1");
  EXPECT_EQ(RowAt(*table, 0x2000, 0x1000), "none");
}

TEST(LineTable, TakesTheLastOfSeveralRowsAtOneAddress) {
  TableOptions options;
  options.program = Bytes();
  options.program.Add(SetAddress(0x1000)).U8(DW_LNS_copy);
  for (int i = 0; i < 3; ++i) options.program.U8(Special(0, 1));
  options.program.U8(Special(8, 1)).Add(EndSequence());
  Parsed parsed(options);
  Result<LineTable> table = parsed.Get();
  ASSERT_TRUE(table);
  EXPECT_EQ(RowAt(*table, 0x1000), "1:4");
}

TEST(LineTable, FindsManyAddressesInOnePass) {
  Parsed parsed(WithEnd(4));
  Result<LineTable> table = parsed.Get();
  ASSERT_TRUE(table);
  std::vector<uint64_t> addresses;
  for (uint64_t address = 0xff0; address < 0x1020; ++address) addresses.push_back(address);
  std::vector<LineRow> rows(addresses.size());
  table->FindRows(addresses, 0, rows);
  for (size_t i = 0; i < addresses.size(); ++i) EXPECT_EQ(RowText(rows[i]), RowAt(*table, addresses[i]));
}

TEST(LineTable, SaysWhatIsWrongWithAHeader) {
  auto error = [](const TableOptions& options) {
    Parsed parsed(options);
    Result<LineTable> table = parsed.Get();
    return table ? std::string("none") : std::string(table.error().text.view());
  };
  TableOptions options = WithEnd(4);
  EXPECT_EQ(error(options), "none");
  options.version = 6;
  EXPECT_EQ(error(options), "line table at 0x0: version 6");
  options = WithEnd(4);
  options.line_range = 0;
  EXPECT_EQ(error(options), "line table at 0x0: empty opcode range");
  options = WithEnd(4);
  options.operations = 4;
  EXPECT_EQ(error(options), "line table at 0x0: 4 operations an instruction");
  options = WithEnd(4);
  options.header_length_error = 100000;
  EXPECT_EQ(error(options), "line table at 0x0: header ends behind the section");
  options.header_length_error = -30;
  EXPECT_EQ(error(options), "line table at 0x0: header is cut");
  EXPECT_FALSE(LineTable::Parse({"", "", ""}, 0, ""));
  EXPECT_FALSE(LineTable::Parse({"abc", "", ""}, 7, ""));
}

// Every cut and many wrong bytes: no crash, no endless loop, no read outside (run with the address sanitizer).
TEST(LineTable, SurvivesDamage) {
  std::vector<uint64_t> addresses = {0, 0x1000, 0x1008, UINT64_MAX};
  auto read = [&](const std::string& bytes, const std::string& strings) {
    std::vector<LineRow> rows(addresses.size());
    Result<LineTable> table = LineTable::Parse({bytes, strings, strings}, 0, "/the/unit");
    if (!table) return;
    table->FindRows(addresses, 0, rows);
    for (const LineRow& row : rows) (void)table->FilePath(row.file);
  };
  std::mt19937 random(3);
  for (int version : {2, 4, 5}) {
    Parsed parsed(WithEnd(version));
    for (size_t size = 0; size <= parsed.bytes.size(); ++size)
      read(parsed.bytes.substr(0, size), parsed.line_str);
    for (int round = 0; round < 5000; ++round) {
      std::string bytes = parsed.bytes;
      for (int i = 0; i < 1 + round % 4; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
      read(bytes, parsed.line_str);
    }
  }
}

}  // namespace
}  // namespace profagent
