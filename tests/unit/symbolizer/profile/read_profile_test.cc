#include "symbolizer/profile/read_profile.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "symbolizer/profile/gunzip.h"
#include "tests/fuzz/profile_input.h"
#include "tests/golden/golden_profiles.h"
#include "tests/golden/profile_builder.h"

namespace profagent {
namespace {

std::string ErrorOf(std::string_view bytes, const ReadLimits& limits = {}) {
  const Result<Profile> profile = DecodeProfile(bytes, limits);
  return profile ? "no error" : std::string(profile.error().text.view());
}

ProfileBuilder Small() {
  ProfileBuilder b;
  b.Type("samples", "count");
  b.profile().set_time_nanos(1);
  const uint64_t mapping = b.Mapping(0x1000, 0x2000, 0, "app", "");
  b.Sample({b.Location(mapping, 0x1001, {{"f", "f.c", 1}})}, {1});
  return b;
}

std::string Bytes(ProfileBuilder& builder) { return builder.profile().SerializeAsString(); }

TEST(ReadProfile, TakesGzippedAndPlainBytes) {
  ProfileBuilder b = Small();
  EXPECT_EQ(ErrorOf(Bytes(b)), "no error");
  EXPECT_EQ(ErrorOf(Gzip(Bytes(b))), "no error");
}

TEST(ReadProfile, ReadsEveryGoldenProfile) {
  for (const GoldenProfile& golden : GoldenProfiles())
    EXPECT_EQ(ErrorOf(golden.profile.SerializeAsString()), "no error") << golden.name;
}

// Names of files, threads and functions are bytes. protobuf refuses such a `string`.
TEST(ReadProfile, TakesNamesThatAreNotUtf8) {
  ProfileBuilder b = Small();
  b.Comment("\xff\xfe\xc0");
  EXPECT_EQ(ErrorOf(Bytes(b)), "no error");
}

TEST(ReadProfile, SaysWhatIsWrongWithTheBytes) {
  ProfileBuilder b = Small();
  const std::string plain = Bytes(b), packed = Gzip(plain);
  EXPECT_EQ(ErrorOf(""), "parsing profile: empty input file");
  EXPECT_EQ(ErrorOf(Gzip("")), "parsing profile: empty input file");
  EXPECT_EQ(ErrorOf(plain + plain), "parsing profile: concatenated profiles detected");
  EXPECT_EQ(ErrorOf(packed + packed), "parsing profile: concatenated profiles detected");
  for (size_t size = 3; size < packed.size(); size += 7)
    EXPECT_EQ(ErrorOf(packed.substr(0, size)), "decompressing profile: unexpected EOF, the file is truncated")
        << size;
  EXPECT_EQ(ErrorOf(packed + "x").substr(0, 59),
            "decompressing profile: bytes after the end of the gzip stre");
  std::string wrong_sum = packed;
  wrong_sum[wrong_sum.size() - 6] ^= 1;
  EXPECT_EQ(ErrorOf(wrong_sum).substr(0, 43), "decompressing profile: incorrect data check");
}

TEST(ReadProfile, NamesForeignFormats) {
  EXPECT_NE(ErrorOf(std::string("PERFILE2") + std::string(100, '\0')).find("perf.data"), std::string::npos);
  EXPECT_NE(ErrorOf(std::string("\x7f") + "ELF\2\1\1").find("ELF file"), std::string::npos);
  EXPECT_NE(ErrorOf("heap profile: 1: 2 [3: 4] @ heap/5\n").find("gperftools"), std::string::npos);
  EXPECT_NE(ErrorOf("hello, this is no profile\n").find("text file"), std::string::npos);
  EXPECT_NE(ErrorOf("{\"traceEvents\": []}").find("JSON"), std::string::npos);
  EXPECT_EQ(ErrorOf("\x01\x02\x03\xff\xfe"), "parsing profile: unrecognized profile format");
}

TEST(ReadProfile, NamesTheFile) {
  const std::string directory = std::filesystem::temp_directory_path();
  const Result<Profile> missing = ReadProfile(directory + "/no/such/profile");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().text.view(), directory + "/no/such/profile: No such file or directory");
  const Result<Profile> folder = ReadProfile(directory);
  ASSERT_FALSE(folder);
  EXPECT_EQ(folder.error().text.view(), directory + ": is a directory, not a profile");
  // The reason is what the reader needs; a path as long as the line must not push it out.
  const Result<Profile> long_name = ReadProfile(directory + std::string(300, '/') + "no such profile");
  ASSERT_FALSE(long_name);
  EXPECT_NE(long_name.error().text.view().find("No such file"), std::string_view::npos);
}

// One rule of profile.h after the other, broken.
TEST(ReadProfile, ChecksWhatLaterCodeReliesOn) {
  const auto broken = [](auto&& breaks) {
    ProfileBuilder b = Small();
    breaks(b.profile());
    return ErrorOf(Bytes(b));
  };
  const std::string unrecognized = "parsing profile: unrecognized profile format",
                    malformed = "malformed profile: ";
  EXPECT_EQ(broken([](Profile& p) { p.mutable_sample(0)->add_value(1); }),
            malformed + "mismatch: sample has 2 values vs. 1 types");
  EXPECT_EQ(broken([](Profile& p) { p.clear_sample_type(); }), malformed + "missing sample type information");
  EXPECT_EQ(broken([](Profile& p) { p.mutable_sample(0)->add_location_id(99); }),
            malformed + "sample has nil location");
  EXPECT_EQ(broken([](Profile& p) { p.mutable_location(0)->set_id(0); }),
            malformed + "sample has nil location");
  EXPECT_EQ(broken([](Profile& p) { p.add_location(); }), malformed + "found location with reserved id=0");
  EXPECT_EQ(broken([](Profile& p) { *p.add_location() = p.location(0); }),
            malformed + "multiple locations with same id: 1");
  EXPECT_EQ(broken([](Profile& p) { *p.add_function() = p.function(0); }),
            malformed + "multiple functions with same id: 1");
  EXPECT_EQ(broken([](Profile& p) { p.add_function(); }), malformed + "found function with reserved ID=0");
  EXPECT_EQ(broken([](Profile& p) { *p.add_mapping() = p.mapping(0); }),
            malformed + "multiple mappings with same id: 1");
  EXPECT_EQ(broken([](Profile& p) { p.add_mapping(); }), malformed + "found mapping with reserved ID=0");
  EXPECT_EQ(broken([](Profile& p) { p.mutable_location(0)->mutable_line(0)->set_function_id(7); }),
            malformed + "location id: 1 has a line with nil function");
  EXPECT_EQ(broken([](Profile& p) { p.mutable_function(0)->set_name(1000); }), unrecognized);
  EXPECT_EQ(broken([](Profile& p) { p.mutable_function(0)->set_filename(-1); }), unrecognized);
  EXPECT_EQ(broken([](Profile& p) { p.add_comment(1000); }), unrecognized);
  EXPECT_EQ(broken([](Profile& p) { p.set_default_sample_type(1000); }), unrecognized);
  EXPECT_EQ(broken([](Profile& p) { p.mutable_sample(0)->add_label()->set_key(1000); }), unrecognized);
  EXPECT_EQ(broken([](Profile& p) { p.mutable_period_type()->set_unit(1000); }), unrecognized);
  EXPECT_EQ(broken([](Profile& p) { p.mutable_string_table()->DeleteSubrange(0, 1); }), unrecognized);
  EXPECT_EQ(broken([](Profile& p) { p.clear_string_table(); }), unrecognized);
}

// pprof takes such a location for one without a mapping.
TEST(ReadProfile, AMappingThatDoesNotExistIsNone) {
  ProfileBuilder b = Small();
  b.profile().mutable_location(0)->set_mapping_id(77);
  const Result<Profile> profile = DecodeProfile(Bytes(b));
  ASSERT_TRUE(profile);
  EXPECT_EQ(profile->location(0).mapping_id(), 0u);
}

TEST(ReadProfile, RefusesKnownFieldsOfAnotherType) {
  ProfileBuilder b = Small();
  std::string bytes = Bytes(b);
  bytes += "\x12";  // field 2, sample: length-delimited...
  EXPECT_EQ(ErrorOf(bytes + std::string(1, '\x05')),
            "parsing profile: unrecognized profile format");  // ...and cut off
  EXPECT_EQ(ErrorOf(Bytes(b) + std::string("\x10\x01", 2)), "parsing profile: unrecognized profile format");
  EXPECT_EQ(ErrorOf(Bytes(b) + std::string("\xfa\x3e\x01x", 4)),
            "no error");  // field 1007: from a later version
}

// 10 KB that ask for gigabytes.
TEST(ReadProfile, RefusesBombsBeforeTheyTakeMemory) {
  const ReadLimits limits{.file = 1 << 20, .uncompressed = 1 << 20, .in_memory = 1 << 22};
  EXPECT_EQ(ErrorOf(Gzip(std::string(2 << 20, '\0')), limits),
            "decompressing profile: more than 1 MiB uncompressed");

  // 100 000 empty samples: 200 KB encoded, at least 10 MB decoded.
  ProfileBuilder b;
  b.Type("n", "count");
  std::string samples = Bytes(b);
  for (int i = 0; i < 100'000; ++i) samples += std::string("\x12\0", 2);
  EXPECT_EQ(ErrorOf(samples, limits).substr(0, 11), "would take ");
  // The same with what is inside of one sample: labels, and packed numbers.
  std::string inside;
  for (int i = 0; i < 200'000; ++i) inside += std::string("\x1a\0", 2);
  ProfileBuilder labels;
  labels.Type("n", "count");
  perftools::profiles::Sample sample;
  EXPECT_TRUE(sample.ParseFromString(inside));
  *labels.profile().add_sample() = sample;
  EXPECT_EQ(ErrorOf(Bytes(labels), limits).substr(0, 11), "would take ");
  ProfileBuilder packed;
  packed.Type("n", "count");
  packed.profile().add_sample()->mutable_location_id()->Resize(500'000, 1);
  EXPECT_EQ(ErrorOf(Bytes(packed), limits).substr(0, 11), "would take ");
}

// The estimate must be an upper bound, or the limit means nothing.
TEST(ReadProfile, AcceptsRealProfilesFarFromTheLimit) {
  for (const GoldenProfile& golden : GoldenProfiles()) {
    const size_t memory = golden.profile.SpaceUsedLong();
    EXPECT_EQ(ErrorOf(golden.profile.SerializeAsString(), {.in_memory = memory * 8 + 65536}), "no error")
        << golden.name;
    EXPECT_NE(ErrorOf(golden.profile.SerializeAsString(), {.in_memory = memory / 2}), "no error")
        << golden.name;
  }
}

// Whatever the bytes are, the answer is a profile or an error; and what is accepted can be merged and printed.
// Deterministic, so that a failure stays one: the fuzzer goes further.
TEST(ReadProfile, SurvivesMutations) {
  std::mt19937_64 random(20261123);
  size_t accepted = 0;
  for (const GoldenProfile& golden : GoldenProfiles()) {
    std::string whole = golden.profile.SerializeAsString();
    if (whole.size() > 20'000) continue;  // mutations of a large one only take longer
    for (int round = 0; round < 400; ++round) {
      std::string bytes = whole;
      for (uint64_t changes = 1 + random() % 4; changes > 0; --changes) {
        const size_t at = random() % bytes.size();
        switch (random() % 5) {
          case 0:
            bytes[at] = static_cast<char>(random());
            break;
          case 1:
            bytes[at] = static_cast<char>(bytes[at] ^ 1 << random() % 8);
            break;
          case 2:
            bytes.erase(at, 1 + random() % 8);
            break;
          case 3:
            bytes.insert(at, bytes.substr(random() % bytes.size(), random() % 16));
            break;
          case 4:
            bytes.resize(std::max<size_t>(at, 1));
            break;
        }
        if (bytes.empty()) bytes = "x";
      }
      accepted += TakeProfileInput(bytes);
    }
  }
  EXPECT_GT(accepted, 100u);  // or the mutations are too coarse to get past the parser
}

}  // namespace
}  // namespace profagent
