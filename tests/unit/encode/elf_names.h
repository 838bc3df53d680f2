// What the agent calls the code of a file: for the tests of names.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "agent/encode/elf_symbols.h"

namespace profagent {

inline std::string OwnPath() {
  char path[4096];
  ssize_t size = readlink("/proc/self/exe", path, sizeof path);
  return std::string(path, static_cast<size_t>(size));
}

struct Query {
  std::string path;
  std::vector<uint8_t> build_id;
  uint16_t flags = 0;
  std::string directory = "/";
  ElfSymbols::Origin origin = ElfSymbols::Origin::kElsewhere;
};

inline std::vector<std::string> Names(const Query& query, const std::vector<uint64_t>& addresses) {
  LedgerView::Module module{};
  module.id = ModuleId{1};
  module.flags = query.flags;
  module.path = query.path;
  module.build_id = query.build_id;
  Arena arena;
  std::vector<FunctionSymbol> symbols(addresses.size());
  ElfSymbols{arena, query.origin}(SymbolRequest{module, query.directory, addresses}, symbols);
  std::vector<std::string> names;
  for (size_t i = 0; i < symbols.size(); ++i) {
    names.emplace_back(symbols[i].name);
    // The offsets of the text form are counted from it.
    if (!symbols[i].name.empty()) {
      EXPECT_LE(symbols[i].start, addresses[i]);
    }
  }
  return names;
}

}  // namespace profagent
