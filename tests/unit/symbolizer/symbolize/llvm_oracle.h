// What llvm-symbolizer says about addresses, and how we and it differ.
//
// Context: tests and benchmarks.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "proto/profile.pb.h"

namespace profagent::testing {

struct OracleFrame {
  std::string symbol;  // mangled; "??" when unknown
  std::string file;    // "??" when unknown
  uint32_t line = 0;
  uint32_t column = 0;
};
using OracleFrames = std::vector<OracleFrame>;  // innermost first

// The newest llvm-symbolizer that the machine has; "" when it has none.
std::string FindLlvmSymbolizer();
std::vector<OracleFrames> AskLlvm(const std::string& binary, std::span<const uint64_t> addresses);

// A profile of one sample an address of the binary, mapped at some place, as the agent writes it.
perftools::profiles::Profile ProfileOf(const std::string& binary, std::span<const uint64_t> file_addresses);
// The frames of the n-th location of such a profile.
OracleFrames FramesOf(const perftools::profiles::Profile& profile, int location);

// `count` addresses, evenly spread over the bytes of the functions that the binary's symbol table knows.
std::vector<uint64_t> RandomCodeAddresses(const std::string& binary, size_t count, uint64_t seed);

struct Comparison {
  size_t compared = 0;
  size_t equal = 0;
  struct Difference {
    uint64_t address;
    std::string ours, theirs;
  };
  std::map<std::string, std::vector<Difference>> differences;  // by class
  std::map<std::string, size_t> explained;  // differences in which we are not wrong, by reason

  size_t unexplained() const;
  std::string Text(size_t examples) const;
};
// Names are compared as people read them: where one address has several mangled names (C1 and C2 constructors), each of
// us chooses one.
Comparison Compare(const std::string& binary, std::span<const uint64_t> addresses,
                   const perftools::profiles::Profile& ours, const std::vector<OracleFrames>& theirs);

}  // namespace profagent::testing
