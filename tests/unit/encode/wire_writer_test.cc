#include "agent/encode/wire_writer.h"

#include <google/protobuf/io/coded_stream.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace profagent {
namespace {

TEST(WireWriter, KnowsTheSizeOfANumberAsTheProtobufLibraryDoes) {
  for (int bits = 0; bits < 64; ++bits) {
    for (uint64_t value : {uint64_t{1} << bits, (uint64_t{1} << bits) - 1, ~uint64_t{0} >> bits}) {
      EXPECT_EQ(VarintSize(value), google::protobuf::io::CodedOutputStream::VarintSize64(value)) << value;
      std::string bytes;
      auto sink = [&](std::span<const std::byte> part) {
        bytes.append(reinterpret_cast<const char*>(part.data()), part.size());
        return true;
      };
      WireWriter writer(sink);
      writer.Varint(value);
      EXPECT_TRUE(writer.Flush());
      EXPECT_EQ(bytes.size(), VarintSize(value));
      google::protobuf::io::CodedInputStream in(reinterpret_cast<const uint8_t*>(bytes.data()),
                                                static_cast<int>(bytes.size()));
      uint64_t read = 0;
      EXPECT_TRUE(in.ReadVarint64(&read));
      EXPECT_EQ(read, value);
    }
  }
}

// Texts around the size of the buffer arrive whole and in order.
TEST(WireWriter, KeepsTheOrderAcrossItsBuffer) {
  for (size_t size : {0u, 1u, 4094u, 4095u, 4096u, 4097u, 9000u}) {
    std::string got, wanted;
    auto sink = [&](std::span<const std::byte> part) {
      got.append(reinterpret_cast<const char*>(part.data()), part.size());
      return true;
    };
    WireWriter writer(sink);
    std::string text(size, 't');
    for (int i = 0; i < 3; ++i) {
      writer.Integer(1, 300);
      writer.String(6, text);
      wanted += "\x08\xac\x02";
      wanted += '\x32';
      for (size_t rest = size; rest >= 0x80; rest >>= 7) wanted += static_cast<char>(rest | 0x80);
      wanted += static_cast<char>(size >> 7 * (VarintSize(size) - 1));
      wanted += text;
    }
    EXPECT_TRUE(writer.Flush());
    EXPECT_EQ(got, wanted) << size;
  }
}

TEST(WireWriter, LeavesOutZeroes) {
  std::string got;
  auto sink = [&](std::span<const std::byte> part) {
    got.append(reinterpret_cast<const char*>(part.data()), part.size());
    return true;
  };
  WireWriter writer(sink);
  writer.Integer(3, 0);
  EXPECT_TRUE(writer.Flush());
  EXPECT_EQ(got, "");
  EXPECT_EQ(IntegerSize(0), 0u);
}

TEST(WireWriter, RemembersThatTheSinkRefused) {
  int calls = 0;
  auto sink = [&](std::span<const std::byte>) { return ++calls, false; };
  WireWriter writer(sink);
  for (int i = 0; i < 10000; ++i) writer.Integer(1, 1);
  EXPECT_TRUE(writer.refused());
  EXPECT_FALSE(writer.Flush());
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace profagent
