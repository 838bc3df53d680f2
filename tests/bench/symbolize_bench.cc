// profagent symbolize beside llvm-symbolizer: the same random addresses of one binary, both as whole processes, in one
// interleaved run. Must hold: no slower, at most 1 s (10 000 addresses of a binary with 100 MB of DWARF) and 1.5 GB, the same
// functions, files and lines on 99.9 % of the addresses.
//
// Run by symbolize_bench.py, which makes the binary. Compare within one run only.
//
//   symbolize_bench PROFAGENT BINARY [ADDRESSES [RUNS]]

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "symbolizer/profile/read_profile.h"
#include "symbolizer/profile/write_profile.h"
#include "symbolizer/symbolize/elf_file.h"
#include "tests/unit/symbolizer/symbolize/llvm_oracle.h"

namespace profagent {
namespace {

constexpr double kLargestRatio = 1.0;
constexpr double kLongestSeconds = 1.0;  // for 10 000 addresses
constexpr double kLargestMegabytes = 1536;
constexpr double kSmallestAgreement = 0.999;

struct Cost {
  double wall = 0;  // seconds
  double cpu = 0;
  double megabytes = 0;  // peak resident
  bool ok = false;
};

Cost CostOf(const std::vector<std::string>& command, const std::string& input, const std::string& output) {
  auto start = std::chrono::steady_clock::now();
  pid_t child = fork();
  if (child == 0) {
    dup2(open(input.c_str(), O_RDONLY), STDIN_FILENO);
    dup2(open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDOUT_FILENO);
    std::vector<char*> arguments;
    arguments.reserve(command.size() + 1);
    for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  int status = 0;
  struct rusage usage = {};
  wait4(child, &status, 0, &usage);
  Cost cost;
  cost.wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  cost.cpu = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  cost.megabytes = static_cast<double>(usage.ru_maxrss) / 1024;
  cost.ok = status == 0;
  return cost;
}

template <class Value>
double Median(std::vector<Cost> costs, Value Cost::*member) {
  std::sort(costs.begin(), costs.end(), [&](const Cost& a, const Cost& b) { return a.*member < b.*member; });
  return costs[costs.size() / 2].*member;
}

void PrintCost(const char* name, const std::vector<Cost>& costs) {
  std::printf("%-16s wall %6.3f s  cpu %6.3f s  peak %5.0f MB   (medians of %zu)\n", name,
              Median(costs, &Cost::wall), Median(costs, &Cost::cpu), Median(costs, &Cost::megabytes),
              costs.size());
}

int Run(const std::string& profagent, const std::string& binary, size_t count, int runs) {
  std::string llvm = testing::FindLlvmSymbolizer();
  if (llvm.empty()) {
    std::fprintf(stderr, "symbolize_bench: skipped: llvm-symbolizer is not installed\n");
    return 0;
  }
  auto file = ElfFile::Open(binary);
  if (!file) {
    std::fprintf(stderr, "symbolize_bench: %s\n", file.error().text.c_str());
    return 2;
  }
  std::printf("%s: %.0f MB, .debug_info %.0f MB, .debug_line %.0f MB\n", binary.c_str(),
              static_cast<double>(std::filesystem::file_size(binary)) / 1e6,
              static_cast<double>((*file)->Section(".debug_info").size()) / 1e6,
              static_cast<double>((*file)->Section(".debug_line").size()) / 1e6);

  std::string directory = (std::filesystem::temp_directory_path() / "symbolize_bench.XXXXXX").string();
  if (mkdtemp(directory.data()) == nullptr) return 2;
  std::string input = directory + "/in.prof", output = directory + "/out.prof",
              list = directory + "/addresses";
  std::vector<uint64_t> addresses = testing::RandomCodeAddresses(binary, count, 20261123);
  if (Status written = WriteProfile(testing::ProfileOf(binary, addresses), input); !written) {
    std::fprintf(stderr, "symbolize_bench: %s\n", written.error().text.c_str());
    return 2;
  }
  {
    std::ofstream stream(list);
    for (uint64_t address : addresses) stream << "0x" << std::hex << address << "\n";
  }

  const std::vector<std::string> our_command = {profagent, "symbolize", input, "-o", output, "--quiet"};
  const std::vector<std::string> their_command = {llvm, "--obj=" + binary, "--inlines",
                                                  "--functions=linkage"};
  std::vector<Cost> ours, theirs;
  bool ok = true;
  for (int run = 0; run < runs + 1; ++run) {
    Cost a = CostOf(our_command, "/dev/null", "/dev/null"),
         b = CostOf(their_command, list, directory + "/answer");
    ok &= a.ok && b.ok;
    if (run == 0) continue;  // brings the file into the page cache
    ours.push_back(a);
    theirs.push_back(b);
  }
  PrintCost("profagent", ours);
  PrintCost("llvm-symbolizer", theirs);
  double ratio = Median(ours, &Cost::wall) / Median(theirs, &Cost::wall);
  double cpu_ratio = Median(ours, &Cost::cpu) / Median(theirs, &Cost::cpu);
  std::printf("ratio            wall %6.3f    cpu %6.3f\n", ratio, cpu_ratio);

  Result<Profile> profile = ReadProfile(output);
  double agreement = 0;
  if (profile) {
    testing::Comparison comparison =
        testing::Compare(binary, addresses, *profile, testing::AskLlvm(binary, addresses));
    std::printf("%s", comparison.Text(2).c_str());
    agreement = static_cast<double>(comparison.equal) / static_cast<double>(comparison.compared);
  } else {
    std::fprintf(stderr, "symbolize_bench: %s\n", profile.error().text.c_str());
  }
  std::filesystem::remove_all(directory);

  // A busy machine disturbs the wall clock of whoever runs at the time; it is slower only if both clocks say so.
  bool fast = ratio <= kLargestRatio || cpu_ratio <= kLargestRatio;
  bool right = agreement >= kSmallestAgreement;
  double megabytes = Median(ours, &Cost::megabytes);
  bool small = megabytes <= kLargestMegabytes;
  auto word = [](bool holds) { return holds ? "PASS" : "MISS"; };  // as tests/bench/README.md says
  std::printf("%-5s no slower than llvm-symbolizer: wall %.2f, CPU %.2f of its time, bound %.0f\n",
              word(ok && fast), ratio, cpu_ratio, kLargestRatio);
  // Seconds: on a busy machine only the processor's tell.
  double wall = Median(ours, &Cost::wall), cpu = Median(ours, &Cost::cpu);
  bool in_time = cpu <= kLongestSeconds;
  std::printf("%-5s %.2f s, %.2f s of CPU time, bound %.0f s\n",
              !in_time || wall <= kLongestSeconds ? word(in_time) : "NOISE", wall, cpu, kLongestSeconds);
  std::printf("%-5s memory: %.0f MB, bound %.0f MB\n", word(small), megabytes, kLargestMegabytes);
  std::printf("%-5s the same functions, files and lines: %.3f %%, bound %.1f %%\n", word(right),
              100 * agreement, 100 * kSmallestAgreement);
  return ok && fast && in_time && small && right ? 0 : 1;
}

}  // namespace
}  // namespace profagent

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: symbolize_bench PROFAGENT BINARY [ADDRESSES [RUNS]]\n");
    return 2;
  }
  size_t count = argc > 3 ? std::strtoul(argv[3], nullptr, 10) : 10000;
  int runs = argc > 4 ? std::atoi(argv[4]) : 5;
  return profagent::Run(argv[1], argv[2], count, runs);
}
