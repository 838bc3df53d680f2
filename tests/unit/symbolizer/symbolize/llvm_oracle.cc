#include "tests/unit/symbolizer/symbolize/llvm_oracle.h"

#include <elf.h>
#include <gelf.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <random>
#include <sstream>

#include "symbolizer/symbolize/demangle.h"
#include "symbolizer/symbolize/elf_file.h"
#include "tests/unit/symbolizer/symbolize/sample_program.h"

namespace profagent::testing {
namespace {

constexpr uint64_t kBias = 0x555500000000;

std::string Print(const OracleFrames& frames) {
  std::ostringstream text;
  for (const OracleFrame& frame : frames) {
    text << (text.tellp() > 0 ? " < " : "") << frame.symbol << " " << frame.file << ":" << frame.line;
  }
  return text.str();
}

}  // namespace

std::string FindLlvmSymbolizer() {
  for (const char* path : {"/usr/bin/llvm-symbolizer-14", "/usr/bin/llvm-symbolizer"}) {
    if (access(path, X_OK) == 0) return path;
  }
  return "";
}

std::vector<OracleFrames> AskLlvm(const std::string& binary, std::span<const uint64_t> addresses) {
  char input[] = "/tmp/llvm_oracle.XXXXXX";
  int fd = mkstemp(input);
  {
    std::ofstream list(input);
    for (uint64_t address : addresses) list << "0x" << std::hex << address << "\n";
  }
  close(fd);
  // It looks for .dwo files from where it stands.
  std::string command = "cd '" + binary.substr(0, binary.rfind('/')) + "' && " + FindLlvmSymbolizer() +
                        " --no-demangle --functions=linkage --inlines --obj='" + binary + "' < " + input;
  std::vector<OracleFrames> answers(1);
  if (FILE* pipe = popen(command.c_str(), "r")) {
    char* line = nullptr;
    size_t room = 0;
    ssize_t size;
    bool is_symbol = true;
    while ((size = getline(&line, &room, pipe)) > 0) {
      std::string text(line, static_cast<size_t>(size) - 1);
      if (text.empty()) {  // ends an answer
        answers.emplace_back();
        is_symbol = true;
      } else if (is_symbol) {
        answers.back().push_back({text, "", 0, 0});
        is_symbol = false;
      } else {
        OracleFrame& frame = answers.back().back();
        size_t column = text.rfind(':');
        size_t number = text.rfind(':', column - 1);
        frame.file = text.substr(0, number);
        frame.line = static_cast<uint32_t>(strtoul(text.c_str() + number + 1, nullptr, 10));
        frame.column = static_cast<uint32_t>(strtoul(text.c_str() + column + 1, nullptr, 10));
        is_symbol = true;
      }
    }
    free(line);
    pclose(pipe);
  }
  unlink(input);
  answers.resize(addresses.size());
  return answers;
}

perftools::profiles::Profile ProfileOf(const std::string& binary, std::span<const uint64_t> file_addresses) {
  perftools::profiles::Profile profile;
  auto intern = [&](const std::string& text) {
    profile.add_string_table(text);
    return profile.string_table_size() - 1;
  };
  intern("");
  auto* type = profile.add_sample_type();
  type->set_type(intern("samples"));
  type->set_unit(intern("count"));
  auto file = ElfFile::Open(binary);
  if (!file) return profile;
  int64_t name = intern(binary), build_id = intern((*file)->build_id());
  uint64_t bias = (*file)->segments()[0].address == 0 ? kBias : 0;
  for (const LoadSegment& segment : (*file)->segments()) {
    if (!segment.executable) continue;
    auto* mapping = profile.add_mapping();
    mapping->set_id(static_cast<uint64_t>(profile.mapping_size()));
    mapping->set_memory_start(bias + (segment.address & ~uint64_t{4095}));
    mapping->set_memory_limit(bias + ((segment.address + segment.memory_size + 4095) & ~uint64_t{4095}));
    mapping->set_file_offset(segment.offset & ~uint64_t{4095});
    mapping->set_filename(name);
    mapping->set_build_id(build_id);
  }
  for (uint64_t address : file_addresses) {
    auto* location = profile.add_location();
    location->set_id(static_cast<uint64_t>(profile.location_size()));
    location->set_address(bias + address);
    location->set_mapping_id(1);
    for (const auto& mapping : profile.mapping()) {
      if (bias + address >= mapping.memory_start() && bias + address < mapping.memory_limit()) {
        location->set_mapping_id(mapping.id());
      }
    }
    auto* sample = profile.add_sample();
    sample->add_location_id(location->id());
    sample->add_value(1);
  }
  return profile;
}

OracleFrames FramesOf(const perftools::profiles::Profile& profile, int index) {
  OracleFrames frames;
  for (const auto& line : profile.location(index).line()) {
    const auto& function =
        profile.function(static_cast<int>(line.function_id()) - 1);  // Symbolize numbers from 1
    frames.push_back({profile.string_table(static_cast<int>(function.system_name())),
                      profile.string_table(static_cast<int>(function.filename())),
                      static_cast<uint32_t>(line.line()), static_cast<uint32_t>(line.column())});
  }
  return frames;
}

std::vector<uint64_t> RandomCodeAddresses(const std::string& binary, size_t count, uint64_t seed) {
  std::vector<std::pair<uint64_t, uint64_t>> functions;  // end of its bytes in the row of all bytes, address
  auto file = ElfFile::Open(binary);
  if (!file) return {};
  uint64_t total = 0;
  Elf_Scn* section = nullptr;
  while ((section = elf_nextscn((*file)->elf(), section)) != nullptr) {
    GElf_Shdr header;
    gelf_getshdr(section, &header);
    if (header.sh_type != SHT_SYMTAB) continue;
    Elf_Data* data = elf_getdata(section, nullptr);
    for (size_t i = 0; i < header.sh_size / header.sh_entsize; ++i) {
      GElf_Sym symbol;
      gelf_getsym(data, static_cast<int>(i), &symbol);
      if (GELF_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_shndx == SHN_UNDEF || symbol.st_size == 0)
        continue;
      total += symbol.st_size;
      functions.push_back({total, symbol.st_value + symbol.st_size});
    }
  }
  std::mt19937_64 random(seed);
  std::vector<uint64_t> addresses;
  while (total > 0 && addresses.size() < count) {
    uint64_t at = random() % total;
    auto function = std::upper_bound(functions.begin(), functions.end(), std::make_pair(at, UINT64_MAX));
    addresses.push_back(function->second - (function->first - at));
  }
  return addresses;
}

namespace {

constexpr char kPhysicalName[] = "name of the physical function";

// Both names label one address.
bool SameCode(const std::string& binary, const std::string& one, const std::string& other) {
  std::vector<uint64_t> ones = SymbolAddresses(binary, one), others = SymbolAddresses(binary, other);
  return std::any_of(ones.begin(), ones.end(),
                     [&](uint64_t address) { return std::count(others.begin(), others.end(), address) > 0; });
}

// Why a difference is not an error of ours; "" when it may be one.
std::string Explanation(const OracleFrames& ours, const OracleFrames& theirs) {
  bool has_nothing =
      theirs.empty() || (theirs.size() == 1 && theirs[0].symbol == "??" && theirs[0].line == 0);
  if (has_nothing)
    return ours.size() == 1 && ours[0].symbol.find("+0x") != std::string::npos ? "" : "it knows nothing";
  // The file that a local symbol was defined in (STT_FILE), without a directory: a guess, and one that is wrong after
  // `ld -r` or for functions that were inlined away from it.
  if (ours.size() == 1 && theirs.size() == 1 && ours[0].file.empty() && ours[0].line == 0 &&
      theirs[0].line == 0 && ours[0].symbol == theirs[0].symbol &&
      theirs[0].file.find('/') == std::string::npos) {
    return "it takes the file from the symbol table";
  }
  auto unnamed = [](const OracleFrame& frame) { return frame.symbol == "??"; };
  if (ours.size() == theirs.size() && std::any_of(theirs.begin(), theirs.end(), unnamed)) {
    return "it does not follow .gnu_debugaltlink (before LLVM 16)";
  }
  return "";
}

std::string FirstDifference(const OracleFrames& ours, const OracleFrames& theirs) {
  if (ours.size() != theirs.size()) return "number of inlined calls";
  for (size_t i = 0; i < ours.size(); ++i) {
    std::string file = theirs[i].file == "??" ? "" : theirs[i].file;
    std::string symbol = theirs[i].symbol == "??" ? "" : theirs[i].symbol;
    if (ours[i].symbol != symbol && Demangle(ours[i].symbol) != Demangle(symbol)) {
      return i + 1 == ours.size() ? kPhysicalName : "name of an inlined function";
    }
    if (ours[i].file != file) return "file";
    if (ours[i].line != theirs[i].line) return "line";
  }
  return "";
}

}  // namespace

Comparison Compare(const std::string& binary, std::span<const uint64_t> addresses,
                   const perftools::profiles::Profile& ours, const std::vector<OracleFrames>& theirs) {
  Comparison result;
  for (size_t i = 0; i < addresses.size(); ++i) {
    OracleFrames mine = FramesOf(ours, static_cast<int>(i));
    bool nothing = mine.size() == 1 && mine[0].symbol.find("+0x") != std::string::npos;
    ++result.compared;
    if (nothing && (theirs[i].empty() || (theirs[i][0].symbol == "??" && theirs[i][0].line == 0))) {
      ++result.equal;
      continue;
    }
    std::string difference = FirstDifference(mine, theirs[i]);
    if (difference.empty()) {
      ++result.equal;
      continue;
    }
    std::string explanation = Explanation(mine, theirs[i]);
    if (explanation.empty() && difference == kPhysicalName &&
        SameCode(binary, mine.back().symbol, theirs[i].back().symbol)) {
      explanation = "another name of the same code (folded or aliased)";
    }
    if (!explanation.empty()) {
      ++result.explained[explanation];
    } else {
      result.differences[difference].push_back({addresses[i], Print(mine), Print(theirs[i])});
    }
  }
  return result;
}

size_t Comparison::unexplained() const {
  size_t count = 0;
  for (const auto& [reason, list] : differences) count += list.size();
  return count;
}

std::string Comparison::Text(size_t examples) const {
  std::ostringstream text;
  text << equal << " of " << compared << " equal\n";
  for (const auto& [reason, count] : explained) text << "  " << count << " x " << reason << "\n";
  for (const auto& [reason, list] : differences) {
    text << "  " << list.size() << " x " << reason << "\n";
    for (size_t i = 0; i < list.size() && i < examples; ++i) {
      text << "    0x" << std::hex << list[i].address << std::dec << "\n      ours   " << list[i].ours
           << "\n      theirs " << list[i].theirs << "\n";
    }
  }
  return text.str();
}

}  // namespace profagent::testing
