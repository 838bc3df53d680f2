#include "symbolizer/run/outputs.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>

#include "symbolizer/profile/merge_profiles.h"
#include "symbolizer/profile/sample_values.h"
#include "symbolizer/profile/write_profile.h"
#include "tests/golden/profile_builder.h"

namespace profagent {
namespace {

namespace fs = std::filesystem;

constexpr pid_t kMain = 10;

// With one sample of this weight; 0: with none.
Profile ProfileOf(ProfileKind kind, int64_t weight) {
  ProfileBuilder builder;
  builder.Type("number", "count").Type(RunKindOf(kind).value, "bytes");
  builder.Mapping(0x1000, 0x2000, 0, "/bin/app", "abcd");
  if (weight != 0) builder.Sample({builder.Location(1, 0x1234, {{"f", ""}})}, {1, weight});
  return Compact(builder.profile());
}

class OutputsTest : public ::testing::Test {
 protected:
  OutputsTest() {
    std::string name = "/tmp/profagent-outputs-XXXXXX";
    directory_ = mkdtemp(name.data());
  }
  ~OutputsTest() override { fs::remove_all(directory_); }

  static ProcessProfiles Process(uint32_t pid, const std::string& program, int64_t cpu, int64_t heap) {
    ProcessProfiles process;
    process.pid = pid;
    process.program = program;
    process.profiles = {{ProfileKind::kCpu, ProfileOf(ProfileKind::kCpu, cpu)},
                        {ProfileKind::kHeap, ProfileOf(ProfileKind::kHeap, heap)}};
    return process;
  }
  OutputNames Names() const {
    return *OutputNames::Prepare(directory_, std::vector{ProfileKind::kCpu, ProfileKind::kHeap});
  }
  // Weights by the names of files.
  static std::map<std::string, int64_t> Written(Outputs& outputs) {
    std::map<std::string, int64_t> files;
    for (const Output& output : outputs.all()) files[fs::path(output.file).filename()] = output.weight;
    return files;
  }

  fs::path directory_;
};

using Files = std::map<std::string, int64_t>;

TEST_F(OutputsTest, WritesOfOtherProcessesWhatHasSamples) {
  Harvest harvest{{Process(kMain, "app", 5, 100), Process(11, "cc1", 7, 0), Process(12, "ld", 0, 200),
                   Process(13, "sh", 0, 0)},
                  {}};
  OutputNames names = Names();
  Outputs outputs{WantedKinds{}};
  outputs.AddHarvest(harvest, kMain, names);
  EXPECT_EQ(Written(outputs),
            (Files{{"cpu.prof", 5}, {"heap.prof", 100}, {"cpu.prof.cc1.11", 7}, {"heap.prof.ld.12", 200}}));
  EXPECT_EQ(outputs.all().front().whose, "app (pid 10)");
}

// Whoever asks for a heap profile gets a file that can be looked at, and not that of the last run.
TEST_F(OutputsTest, WritesAnEmptyProfileOfTheCommandWhenItWasAskedFor) {
  for (bool asked : {false, true}) {
    Harvest harvest{{Process(kMain, "app", 0, 0), Process(11, "sh", 0, 0)}, {}};
    OutputNames names = Names();
    WantedKinds wanted;
    wanted.heap.asked = asked;
    Outputs outputs(wanted);
    outputs.AddHarvest(harvest, kMain, names);
    EXPECT_EQ(Written(outputs),
              asked ? (Files{{"cpu.prof", 0}, {"heap.prof", 0}}) : (Files{{"cpu.prof", 0}}));
  }
}

// A block profile can no more be added to a heap profile than apples to pears.
TEST_F(OutputsTest, MergesEachKindByItself) {
  Harvest harvest{{Process(kMain, "app", 5, 0), Process(11, "cc1", 7, 30), Process(12, "cc1", 9, 40)}, {}};
  OutputNames names = Names();
  Outputs outputs{WantedKinds{}};
  outputs.AddHarvest(harvest, kMain, names);
  ASSERT_TRUE(outputs.Merge());
  EXPECT_EQ(Written(outputs), (Files{{"cpu.prof", 21}, {"heap.prof", 70}}));
  for (const Output& output : outputs.all()) {
    EXPECT_EQ(output.whose, output.kind == ProfileKind::kCpu ? "3 processes" : "2 processes");
    EXPECT_EQ(output.profile.sample_size(), 1) << "all of one stack";
  }
}

// A program that executes itself, or `sh -c 'exec sh ...'`: same name, same pid, and yet what the one held says nothing about
// the other.
TEST_F(OutputsTest, TellsTheProgramsApartThatOneProcessWas) {
  ProcessProfiles first = Process(kMain, "app", 0, 300);
  first.became_another = true;
  ProcessProfiles second = Process(kMain, "app", 6, 20);
  second.serial = 1;
  second.became_another = true;
  ProcessProfiles last = Process(kMain, "app", 5, 100);
  last.serial = 2;
  Harvest harvest{{first, second, last}, {}};
  OutputNames names = Names();
  Outputs outputs{WantedKinds{}};
  outputs.AddHarvest(harvest, kMain, names);
  EXPECT_EQ(Written(outputs), (Files{{"cpu.prof", 5},
                                     {"heap.prof", 100},
                                     {"heap.prof.app.10", 300},
                                     {"cpu.prof.app.10.2", 6},
                                     {"heap.prof.app.10.2", 20}}));
  std::map<std::string, std::set<std::string>> images;
  for (const Output& output : outputs.all()) images[output.image].insert(output.whose);
  EXPECT_EQ(images, (std::map<std::string, std::set<std::string>>{{"10.0", {"app (pid 10, before its exec)"}},
                                                                  {"10.1", {"app (pid 10, before its exec)"}},
                                                                  {"10.2", {"app (pid 10)"}}}));
  ASSERT_TRUE(outputs.Merge());
  EXPECT_EQ(outputs.all()[0].whose, "2 programs of 1 process");
  EXPECT_EQ(outputs.all()[1].whose, "3 programs of 1 process");
  EXPECT_EQ(outputs.all()[1].images, 3u);
}

TEST_F(OutputsTest, TakesWhatAProcessWroteItselfAndItsNameIsGone) {
  OutputNames names = Names();
  ASSERT_TRUE(WriteProfile(ProfileOf(ProfileKind::kHeap, 50), (directory_ / "heap.prof").string()));
  ASSERT_TRUE(WriteProfile(ProfileOf(ProfileKind::kCpu, 50), (directory_ / "heap.prof.sh.9").string()));
  Outputs outputs{WantedKinds{}};
  size_t taken = 0;
  for (const OutputNames::SelfWritten& written : names.TakeSelfWritten({}))
    taken += outputs.AddSelfWritten(written);
  EXPECT_EQ(taken, 1u) << "a CPU profile is no heap profile, whatever its name";
  Harvest harvest{{Process(kMain, "app", 5, 100)}, {}};
  outputs.AddHarvest(harvest, kMain, names);
  EXPECT_EQ(Written(outputs), (Files{{"cpu.prof", 5}, {"heap.prof", 50}, {"heap.prof.app.10", 100}}));
  ASSERT_TRUE(outputs.Merge());
  EXPECT_EQ(Written(outputs), (Files{{"cpu.prof", 5}, {"heap.prof", 150}}));
}

// A server and its client, each with a `profagent run` of its own in one directory: the client's time was added to the server's
// under --merge, and its files were gone.
TEST_F(OutputsTest, LeavesTheFilesOfAnotherRunAlone) {
  OutputNames names = Names();
  {
    OutputNames others = Names();
    Outputs outputs{WantedKinds{}};
    Harvest harvest{{Process(7, "client", 1, 2), Process(8, "sh", 3, 4)}, {}};
    outputs.AddHarvest(harvest, 7, others);
    for (const Output& output : outputs.all()) ASSERT_TRUE(WriteProfile(output.profile, output.file));
  }
  Outputs outputs{WantedKinds{}};
  for (const OutputNames::SelfWritten& written : names.TakeSelfWritten({}))
    EXPECT_FALSE(outputs.AddSelfWritten(written)) << written.file;
  Harvest harvest{{Process(kMain, "server", 0, 100), Process(11, "sh", 20, 200)}, {}};
  outputs.AddHarvest(harvest, kMain, names);
  EXPECT_EQ(Written(outputs), (Files{{"cpu.prof.server.10", 0},
                                     {"heap.prof.server.10", 100},
                                     {"cpu.prof.sh.11", 20},
                                     {"heap.prof.sh.11", 200}}));
  ASSERT_TRUE(outputs.Merge());
  EXPECT_EQ(Written(outputs), (Files{{"cpu.prof.server.10", 20}, {"heap.prof.server.10", 300}}));
  EXPECT_TRUE(fs::exists(directory_ / "cpu.prof.sh.8"));
}

}  // namespace
}  // namespace profagent
