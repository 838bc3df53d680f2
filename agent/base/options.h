// What the user asked for: the environment variables of README.md, read once at start.
//
// Context:   ParseOptions in `bootstrap` (it reads `environ` itself: getenv may be the application's own).
// Promises:  no allocation, no libc call but mem*/str*; the kernel is asked whether two files are one. A value that
//            cannot be used is reported in one line that names the variable, the value and what is accepted; the
//            default takes its place. Variables that nobody uses yet are checked too, so that a typing error never
//            waits for a later version to show.
#pragma once

#include <cstdint>
#include <string_view>

#include "agent/base/log.h"
#include "agent/base/units.h"

namespace profagent {

inline constexpr size_t kMaxOptionText = 4095;  // PATH_MAX and its null byte

enum class WantedCpuEngine : uint8_t { kTimer, kPerf };

// The ledger's and the unwinder's own limits (agent/lifecycle/agent.cc asserts that they are the same): this
// folder knows no other.
inline constexpr uint64_t kOptionMinMemory = uint64_t{1} << 20;
inline constexpr uint64_t kOptionMaxMemory = uint64_t{1} << 35;
inline constexpr uint64_t kOptionDefaultMemory = uint64_t{256} << 20;
inline constexpr uint32_t kOptionMaxDepth = 1024;
inline constexpr uint32_t kOptionDefaultDepth = 128;

// All zero before ParseOptions. Texts are copied, for the application may overwrite its environment at any time, and stand
// close together: at start every page that is touched costs the program a page fault.
struct Options {
  Options() = default;
  Options(const Options&) = delete;
  Options& operator=(const Options&) = delete;

  // Paths and names; empty: not set. A null byte follows each.
  std::string_view cpu_profile;       // CPUPROFILE. Not empty: a CPU profile is wanted.
  Hertz cpu_frequency{};              // CPUPROFILE_FREQUENCY
  WantedCpuEngine cpu_engine{};       // PROFAGENT_CPU_ENGINE
  int cpu_signal{};                   // PROFAGENT_CPU_SIGNAL
  std::string_view heap_profile;      // HEAPPROFILE
  std::string_view peak_profile;      // PEAKPROFILE
  uint64_t heap_rate{};               // MEMPROFILERATE; 0: no heap profile
  bool heap_rate_given{};             // it is set
  std::string_view block_profile;     // BLOCKPROFILE, or the default when it is wanted
  uint64_t block_rate{};              // BLOCKRATE, ns
  bool block_wanted{};                // either of the two is set, and the rate is not 0
  std::string_view mutex_profile;     // MUTEXPROFILE, likewise
  uint64_t mutex_fraction{};          // MUTEXFRACTION
  bool mutex_wanted{};                // likewise
  bool lock_labels{};                 // PROFAGENT_LOCK_LABELS
  std::string_view http;              // PROFAGENT_HTTP
  int dump_signal{};                  // PROFAGENT_SIGNAL; 0: none
  bool dump_signal_named{};           // it was set, and could be used
  bool follow_children{};             // PROFAGENT_CHILDREN
  uint32_t max_depth{};               // PROFAGENT_MAXDEPTH
  Bytes memory{};                     // PROFAGENT_MEMORY
  Verbosity verbosity{};              // PROFAGENT_VERBOSE
  std::string_view ledger_directory;  // PROFAGENT_LEDGER_DIR: set by `profagent run`, see agent/README.md

  size_t texts_used{};
  // Seven variables, and names that are made where two kinds have one file.
  char texts[(7 + 10) * (kMaxOptionText + 1)]{};

  bool cpu_wanted() const { return !cpu_profile.empty(); }
};

// One line (without a newline) a value that cannot be used.
using OptionReporter = void (*)(std::string_view line);

// `environment` is null-terminated, as `environ`. Of a variable that is there twice the first counts, as for
// getenv.
void ParseOptions(const char* const* environment, OptionReporter report, Options* options);

}  // namespace profagent
