#include "agent/base/options.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/signal_text.h"
#include "tests/unit/scratch_directory.h"

namespace profagent {
namespace {

std::vector<std::string>* g_reported = nullptr;

class OptionsTest : public ::testing::Test {
 protected:
  void SetUp() override { g_reported = &reported_; }

  const Options& Parse(std::vector<const char*> environment) {
    environment.push_back(nullptr);
    reported_.clear();
    options_.emplace();
    ParseOptions(
        environment.data(), [](std::string_view line) { g_reported->emplace_back(line); }, &*options_);
    return *options_;
  }

  std::optional<Options> options_;
  std::vector<std::string> reported_;
};

TEST_F(OptionsTest, AnEmptyEnvironmentMeansTheDefaultsOfTheContract) {
  const Options& options = Parse({"PATH=/bin", "CPUPROFILER=x"});
  EXPECT_FALSE(options.cpu_wanted());
  EXPECT_EQ(options.cpu_frequency, Hertz(100));
  EXPECT_EQ(options.cpu_engine, WantedCpuEngine::kTimer);
  EXPECT_EQ(options.cpu_signal, SIGPROF);
  EXPECT_EQ(options.dump_signal, SIGUSR2);
  EXPECT_EQ(options.heap_rate, 524288u);
  EXPECT_FALSE(options.block_wanted);
  EXPECT_FALSE(options.mutex_wanted);
  EXPECT_TRUE(options.follow_children);
  EXPECT_EQ(options.max_depth, 128u);
  EXPECT_EQ(options.memory, Bytes(uint64_t{256} << 20));
  EXPECT_EQ(options.verbosity, Verbosity::kErrors);
  EXPECT_TRUE(options.ledger_directory.empty());
  EXPECT_TRUE(reported_.empty());
}

TEST_F(OptionsTest, ReadsEveryVariable) {
  const Options& options =
      Parse({"CPUPROFILE=/tmp/cpu.%p", "CPUPROFILE_FREQUENCY=10000", "PROFAGENT_CPU_ENGINE=perf",
             "PROFAGENT_CPU_SIGNAL=SIGRTMIN+3", "PROFAGENT_SIGNAL=0", "HEAPPROFILE=heap", "MEMPROFILERATE=0",
             "BLOCKPROFILE=b", "BLOCKRATE=1", "MUTEXPROFILE=m", "MUTEXFRACTION=7", "PROFAGENT_HTTP=:8080",
             "PROFAGENT_CHILDREN=0", "PROFAGENT_MAXDEPTH=1024", "PROFAGENT_MEMORY=64M", "PROFAGENT_VERBOSE=2",
             "PROFAGENT_LEDGER_DIR=/run/x", "PROFAGENT_LOCK_LABELS=1"});
  EXPECT_EQ(options.cpu_profile, "/tmp/cpu.%p");
  EXPECT_STREQ(options.cpu_profile.data(), "/tmp/cpu.%p");
  EXPECT_EQ(options.cpu_frequency, Hertz(10000));
  EXPECT_EQ(options.cpu_engine, WantedCpuEngine::kPerf);
  EXPECT_EQ(options.cpu_signal, SIGRTMIN + 3);
  EXPECT_EQ(options.dump_signal, 0);
  EXPECT_EQ(options.heap_profile, "heap");
  EXPECT_EQ(options.heap_rate, 0u);
  EXPECT_EQ(options.block_profile, "b");
  EXPECT_EQ(options.block_rate, 1u);
  EXPECT_TRUE(options.block_wanted);
  EXPECT_EQ(options.mutex_profile, "m");
  EXPECT_EQ(options.mutex_fraction, 7u);
  EXPECT_TRUE(options.mutex_wanted);
  EXPECT_TRUE(options.lock_labels);
  EXPECT_EQ(options.http, ":8080");
  EXPECT_FALSE(options.follow_children);
  EXPECT_EQ(options.max_depth, 1024u);
  EXPECT_EQ(options.memory, Bytes(uint64_t{64} << 20));
  EXPECT_EQ(options.verbosity, Verbosity::kDebug);
  EXPECT_EQ(options.ledger_directory, "/run/x");
  EXPECT_TRUE(reported_.empty());
}

// strtol would take the first three, and atoi all of them.
// gperftools was there first, in a library behind us or in the program that executed this one: its mark would become a part
// of the file's name.
TEST_F(OptionsTest, FileNamesThatGperftoolsMarkedAreReadWithoutTheMark) {
  const Options& options =
      Parse({"HEAPPROFILE=\xe8"
             "eap.prof",
             "CPUPROFILE=\xaf"
             "tmp/cpu.prof"});
  EXPECT_EQ(options.heap_profile, "heap.prof");
  EXPECT_EQ(options.cpu_profile, "/tmp/cpu.prof");
  EXPECT_EQ(Parse({"HEAPPROFILE=\u00e9t\u00e9.prof"}).heap_profile, "\u00e9t\u00e9.prof");
}

// As `profagent run` says it.
TEST_F(OptionsTest, FilesHaveNamesThatGperftoolsDoesNotKnow) {
  const Options& options =
      Parse({"CPUPROFILE=x", "PROFAGENT_CPUPROFILE=cpu.prof", "PROFAGENT_HEAPPROFILE=heap.prof"});
  EXPECT_EQ(options.cpu_profile, "cpu.prof");
  EXPECT_EQ(options.heap_profile, "heap.prof");
}

TEST_F(OptionsTest, ANumberIsDigitsAndNothingElse) {
  for (const char* value : {"1e3", " 100", "100 ", "+100", "0x64", "abc", "", "-1", "0", "10001", "99999",
                            "18446744073709551716", "100,5"}) {
    std::string variable = std::string("CPUPROFILE_FREQUENCY=") + value;
    EXPECT_EQ(Parse({variable.c_str()}).cpu_frequency, Hertz(100)) << value;
    ASSERT_EQ(reported_.size(), 1u) << value;
    EXPECT_EQ(reported_[0],
              variable + " cannot be used: a whole number from 1 to 10000 is accepted; using 100");
  }
}

// A typing error in a variable of a profile that is not even wanted is said all the same.
TEST_F(OptionsTest, EveryBadValueGetsOneLineThatNamesItAndTheDefaultIsUsed) {
  const Options& options =
      Parse({"MEMPROFILERATE=512k", "BLOCKRATE=x", "MUTEXFRACTION=-1", "PROFAGENT_CPU_ENGINE=Perf",
             "PROFAGENT_CPU_SIGNAL=SEGV", "PROFAGENT_SIGNAL=65", "PROFAGENT_CHILDREN=2",
             "PROFAGENT_MAXDEPTH=1", "PROFAGENT_MEMORY=1K", "PROFAGENT_VERBOSE=3"});
  EXPECT_EQ(options.heap_rate, 524288u);
  // Whoever sets a rate wants the profile: what the line says is used is used.
  EXPECT_TRUE(options.block_wanted);
  EXPECT_EQ(options.block_rate, 10000u);
  EXPECT_TRUE(options.mutex_wanted);
  EXPECT_EQ(options.mutex_fraction, 10u);
  EXPECT_EQ(options.cpu_engine, WantedCpuEngine::kTimer);
  EXPECT_EQ(options.cpu_signal, SIGPROF);
  EXPECT_EQ(options.dump_signal, SIGUSR2);
  EXPECT_EQ(options.max_depth, 128u);
  EXPECT_EQ(options.memory, Bytes(uint64_t{256} << 20));
  ASSERT_EQ(reported_.size(), 10u);
  for (const std::string& line : reported_)
    EXPECT_NE(line.find(" cannot be used: "), std::string::npos) << line;
}

// What a message names can be set.
TEST_F(OptionsTest, NamesEverySignalAsItTakesIt) {
  for (int number = 1; number <= 64; ++number) {
    std::string name(SignalText(number).view());
    if (Parse({("PROFAGENT_CPU_SIGNAL=" + std::to_string(number)).c_str()}).cpu_signal == number) {
      EXPECT_EQ(Parse({("PROFAGENT_CPU_SIGNAL=" + name).c_str()}).cpu_signal, number) << name;
      EXPECT_EQ(name.substr(0, 3), "SIG");
    }
  }
}

TEST_F(OptionsTest, SignalsHaveNamesAndNumbers) {
  EXPECT_EQ(Parse({"PROFAGENT_CPU_SIGNAL=26"}).cpu_signal, 26);
  EXPECT_EQ(Parse({"PROFAGENT_CPU_SIGNAL=VTALRM"}).cpu_signal, SIGVTALRM);
  EXPECT_EQ(Parse({"PROFAGENT_CPU_SIGNAL=SIGVTALRM"}).cpu_signal, SIGVTALRM);
  EXPECT_EQ(Parse({"PROFAGENT_CPU_SIGNAL=RTMAX-1"}).cpu_signal, SIGRTMAX - 1);
  EXPECT_EQ(Parse({"PROFAGENT_CPU_SIGNAL=RTMIN"}).cpu_signal, SIGRTMIN);
  EXPECT_TRUE(reported_.empty());
  for (const char* refused :
       {"KILL", "9", "STOP", "32", "33", "0", "65", "RTMIN-1", "RTMIN+31", "prof", "SIG"}) {
    std::string variable = std::string("PROFAGENT_CPU_SIGNAL=") + refused;
    EXPECT_EQ(Parse({variable.c_str()}).cpu_signal, SIGPROF) << refused;
    EXPECT_EQ(reported_.size(), 1u) << refused;
  }
}

// The heap profile was written over the CPU profile, without a word.
TEST_F(OptionsTest, TwoKindsWithOneFileAreKeptApart) {
  const Options& options = Parse({"CPUPROFILE=a/x.prof", "HEAPPROFILE=a/x.prof"});
  EXPECT_EQ(options.cpu_profile, "a/x.prof");
  EXPECT_EQ(options.heap_profile, "a/x.heap.prof");
  EXPECT_STREQ(options.heap_profile.data(), "a/x.heap.prof");
  ASSERT_EQ(reported_.size(), 1u);
  EXPECT_EQ(reported_[0],
            "HEAPPROFILE=a/x.prof cannot be used: CPUPROFILE names the same file; using a/x.heap.prof");
}

// "./x.prof" was written over "x.prof".
TEST_F(OptionsTest, TwoKindsWithOneFileInTwoSpellingsAreKeptApart) {
  EXPECT_EQ(Parse({"CPUPROFILE=x.prof", "HEAPPROFILE=./x.prof"}).heap_profile, "./x.heap.prof");
  EXPECT_EQ(reported_.size(), 1u);
  EXPECT_EQ(Parse({"CPUPROFILE=././a/.//x", "HEAPPROFILE=a//./x"}).heap_profile, "a//./x.heap");
  EXPECT_EQ(Parse({"CPUPROFILE=/a/x", "HEAPPROFILE=//a/./x"}).heap_profile, "//a/./x.heap");
  EXPECT_EQ(Parse({"CPUPROFILE=./x", "HEAPPROFILE=x.mutex", "MUTEXPROFILE=x"}).mutex_profile, "x.mutex.mutex")
      << "x.mutex is the heap's";
  const Options& others = Parse(
      {"CPUPROFILE=a/x", "HEAPPROFILE=/a/x", "PEAKPROFILE=x", "BLOCKPROFILE=.x", "MUTEXPROFILE=a/../x"});
  EXPECT_EQ(others.mutex_profile, "a/../x") << "what a/.. is, a link may say";
  EXPECT_TRUE(reported_.empty());
}

// "$PWD/x.prof" was written over "x.prof", and a link's over the file that it means.
TEST_F(OptionsTest, TwoKindsWithOneFileOnTwoWaysAreKeptApart) {
  const testing::ScratchDirectory directory;
  const std::string& path = directory.path();
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(path);
  ASSERT_EQ(mkdir("a", 0700), 0);
  ASSERT_EQ(symlink("a", "to_a"), 0);
  close(open("old", O_CREAT | O_WRONLY, 0600));
  ASSERT_EQ(symlink("../old", "a/to_old"), 0);
  ASSERT_EQ(symlink("/dev/null", "null1"), 0);
  ASSERT_EQ(symlink("/dev/null", "null2"), 0);
  const std::string absolute = "HEAPPROFILE=" + path + "/x.prof";
  EXPECT_EQ(Parse({"CPUPROFILE=x.prof", absolute.c_str()}).heap_profile, path + "/x.heap.prof");
  ASSERT_EQ(reported_.size(), 1u);
  EXPECT_NE(reported_[0].find("CPUPROFILE names the same file"), std::string::npos) << reported_[0];
  EXPECT_EQ(Parse({"CPUPROFILE=to_a/x", "HEAPPROFILE=a/x"}).heap_profile, "a/x.heap");
  EXPECT_EQ(Parse({"CPUPROFILE=a/../x", "HEAPPROFILE=x"}).heap_profile, "x.heap");
  EXPECT_EQ(Parse({"CPUPROFILE=old", "HEAPPROFILE=a/to_old"}).heap_profile, "a/to_old.heap");
  const Options& others = Parse(
      {"CPUPROFILE=null1", "HEAPPROFILE=null2", "PEAKPROFILE=a/x", "BLOCKPROFILE=x", "MUTEXPROFILE=b/x"});
  EXPECT_EQ(others.heap_profile, "null2") << "a device takes all";
  EXPECT_EQ(others.mutex_profile, "b/x");
  EXPECT_TRUE(reported_.empty());
  std::filesystem::current_path(before);
}

// /dev/shm holds files, which are replaced.
TEST_F(OptionsTest, TwoKindsWithOneFileInSharedMemoryAreKeptApart) {
  EXPECT_EQ(Parse({"CPUPROFILE=/dev/shm/x.prof", "HEAPPROFILE=/dev/shm/x.prof"}).heap_profile,
            "/dev/shm/x.heap.prof");
  EXPECT_EQ(reported_.size(), 1u);
}

TEST_F(OptionsTest, AllKindsWithOneFileAreKeptApart) {
  const Options& options = Parse({"CPUPROFILE=x", "HEAPPROFILE=x.block", "PEAKPROFILE=x", "BLOCKPROFILE=x",
                                  "MUTEXPROFILE=x", "BLOCKRATE=1"});
  EXPECT_EQ(options.heap_profile, "x.block");
  EXPECT_EQ(options.peak_profile, "x.heap-peak");
  EXPECT_EQ(options.block_profile, "x.block.block") << "x.block is the heap's";
  EXPECT_EQ(options.mutex_profile, "x.mutex");
  EXPECT_EQ(reported_.size(), 3u);
}

TEST_F(OptionsTest, ADefaultNameMayBeAnothersToo) {
  const Options& options = Parse({"MUTEXPROFILE=block.prof", "BLOCKRATE=1"});
  EXPECT_EQ(options.block_profile, "block.prof");
  EXPECT_EQ(options.mutex_profile, "block.mutex.prof");
  EXPECT_EQ(reported_.size(), 1u);
}

// Whoever is not written overwrites nobody; a device takes all; the names of `profagent run` are its own.
TEST_F(OptionsTest, OneFileIsNoFaultWhereNothingIsOverwritten) {
  EXPECT_EQ(Parse({"CPUPROFILE=x", "HEAPPROFILE=x", "MEMPROFILERATE=0"}).heap_profile, "x");
  EXPECT_EQ(Parse({"CPUPROFILE=x", "BLOCKPROFILE=x", "BLOCKRATE=0"}).block_profile, "x");
  EXPECT_EQ(Parse({"CPUPROFILE=/dev/null", "HEAPPROFILE=/dev/null"}).heap_profile, "/dev/null");
  EXPECT_EQ(Parse({"CPUPROFILE=/pipe", "HEAPPROFILE=/pipe", "PROFAGENT_LEDGER_DIR=/x"}).heap_profile,
            "/pipe");
  EXPECT_EQ(Parse({"CPUPROFILE=", "HEAPPROFILE=", "PEAKPROFILE="}).heap_profile, "");
  EXPECT_TRUE(reported_.empty());
}

TEST_F(OptionsTest, ANameThatGetsTooLongIsNone) {
  std::string name(4090, 'x');
  std::string cpu = "CPUPROFILE=" + name;
  std::string heap = "HEAPPROFILE=" + name;
  std::string mutex = "MUTEXPROFILE=" + name;
  const Options& options = Parse({cpu.c_str(), heap.c_str(), mutex.c_str()});
  EXPECT_EQ(options.heap_profile, name + ".heap") << "4095 fit";
  EXPECT_EQ(options.mutex_profile, "");
  EXPECT_FALSE(options.mutex_wanted);
  EXPECT_EQ(reported_.size(), 2u);
}

// One signal cannot mean both; the CPU profile was chosen by name, so it keeps it.
TEST_F(OptionsTest, TheDumpSignalGivesWayToTheCpuSignal) {
  const Options& options = Parse({"PROFAGENT_CPU_SIGNAL=USR2"});
  EXPECT_EQ(options.cpu_signal, SIGUSR2);
  EXPECT_EQ(options.dump_signal, 0);
  ASSERT_EQ(reported_.size(), 1u);
  EXPECT_EQ(reported_[0].find("cannot be used"), std::string::npos) << reported_[0];  // it is used
  EXPECT_EQ(Parse({"PROFAGENT_SIGNAL=PROF"}).cpu_signal, SIGPROF);
  EXPECT_NE(reported_.back().find("PROFAGENT_SIGNAL=PROF cannot be used"), std::string::npos);
}

TEST_F(OptionsTest, SizesTakeUnits) {
  EXPECT_EQ(Parse({"PROFAGENT_MEMORY=1048576"}).memory, Bytes(1 << 20));
  EXPECT_EQ(Parse({"PROFAGENT_MEMORY=2048k"}).memory, Bytes(2 << 20));
  EXPECT_EQ(Parse({"PROFAGENT_MEMORY=1G"}).memory, Bytes(1 << 30));
  EXPECT_EQ(Parse({"PROFAGENT_MEMORY=64MiB"}).memory, Bytes(64 << 20));
  EXPECT_EQ(Parse({"PROFAGENT_MEMORY=2048KiB"}).memory, Bytes(2 << 20));
  EXPECT_TRUE(reported_.empty());
  // 2^34 G is 2^64 bytes: a shift that overflows would call it 0.
  for (const char* refused : {"17179869184G", "1T", "M", "1MB", "64G", "2097152iB", "iB", "2MiiB"}) {
    std::string variable = std::string("PROFAGENT_MEMORY=") + refused;
    EXPECT_EQ(Parse({variable.c_str()}).memory, Bytes(uint64_t{256} << 20)) << refused;
    EXPECT_EQ(reported_.size(), 1u) << refused;
  }
}

// As getenv has it: the first of two counts, an empty path is none, and a longer name is another variable.
TEST_F(OptionsTest, ReadsTheEnvironmentAsGetenvDoes) {
  EXPECT_EQ(Parse({"CPUPROFILE=a", "CPUPROFILE=b"}).cpu_profile, "a");
  EXPECT_FALSE(Parse({"CPUPROFILE="}).cpu_wanted());
  EXPECT_FALSE(Parse({"XCPUPROFILE=a", "CPUPROFILE", "CPUPROFILE_=a"}).cpu_wanted());
  EXPECT_TRUE(reported_.empty());
}

TEST_F(OptionsTest, APathThatNoSystemCallWouldTakeIsRefused) {
  std::string longest = "CPUPROFILE=" + std::string(4095, 'x');
  EXPECT_EQ(Parse({longest.c_str()}).cpu_profile.size(), 4095u);
  EXPECT_TRUE(reported_.empty());
  longest += 'x';
  EXPECT_FALSE(Parse({longest.c_str()}).cpu_wanted());
  EXPECT_EQ(reported_.size(), 1u);
}

}  // namespace
}  // namespace profagent
