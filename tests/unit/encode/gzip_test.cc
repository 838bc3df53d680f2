#include "agent/encode/gzip.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace profagent {
namespace {

struct Outcome {
  bool ok = true;
  std::string bytes;
};

// `part` bytes a call. The sink refuses call `refused`, counted from 1; 0: none.
Outcome Pack(const std::string& plain, size_t part, size_t memory = SIZE_MAX, int refused = 0) {
  Outcome outcome;
  int calls = 0;
  auto sink = [&](std::span<const std::byte> bytes) {
    if (++calls == refused) return false;
    outcome.bytes.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return true;
  };
  Arena arena(memory);
  Gzip gzip(arena, sink);
  for (size_t at = 0; at < plain.size() && outcome.ok; at += part) {
    std::string_view piece = std::string_view(plain).substr(at, part);
    outcome.ok = gzip.Write(std::as_bytes(std::span(piece)));
  }
  outcome.ok = outcome.ok && gzip.Finish();
  return outcome;
}

std::string Unpack(std::string packed) {
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, 16 + MAX_WBITS), Z_OK);
  std::string plain(1 << 20, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = reinterpret_cast<Bytef*>(plain.data());
  stream.avail_out = static_cast<uInt>(plain.size());
  EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
  EXPECT_EQ(stream.avail_in, 0u);
  plain.resize(stream.total_out);
  inflateEnd(&stream);
  return plain;
}

std::string Words(size_t size) {
  std::string text;
  for (unsigned i = 0; text.size() < size; ++i) text += "function" + std::to_string(i * 2654435761u % 1000);
  text.resize(size);
  return text;
}

TEST(Gzip, ReadersGetWhatWasWrittenOnBothSidesOfTheSizeThatIsStored) {
  for (size_t size : {size_t{0}, size_t{1}, size_t{65535}, size_t{65536}, Gzip::kStoredAtMost - 1,
                      Gzip::kStoredAtMost, Gzip::kStoredAtMost + 1, 3 * Gzip::kStoredAtMost}) {
    std::string plain = Words(size);
    for (size_t part : {size_t{1000}, size_t{4096}, size_t{1} << 20}) {
      Outcome packed = Pack(plain, part);
      EXPECT_TRUE(packed.ok) << size;
      EXPECT_EQ(Unpack(packed.bytes), plain) << size << " in parts of " << part;
    }
  }
}

TEST(Gzip, CompressesWhatIsMoreThanLittle) {
  size_t little = Pack(Words(Gzip::kStoredAtMost), 4096).bytes.size();
  size_t more = Pack(Words(Gzip::kStoredAtMost + 1), 4096).bytes.size();
  EXPECT_GE(little, Gzip::kStoredAtMost);
  EXPECT_LE(little, Gzip::kStoredAtMost + 128);
  EXPECT_LT(more, Gzip::kStoredAtMost / 2);
}

// The smallest memory has no room for a single part of it, larger ones for one after the other.
TEST(Gzip, WritesPlainBytesWhereMemoryIsMissing) {
  std::string plain = Words(50'000);
  int packed = 0, unpacked = 0;
  for (size_t memory : {4096, 40'000, 100'000, 150'000, 170'000, 200'000, 300'000, 600'000}) {
    Outcome outcome = Pack(plain, 4096, memory);
    EXPECT_TRUE(outcome.ok) << memory;
    bool is_plain = outcome.bytes == plain;
    if (!is_plain) {
      EXPECT_EQ(Unpack(outcome.bytes), plain) << memory;
    }
    ++(is_plain ? unpacked : packed);
  }
  EXPECT_GT(unpacked, 0);
  EXPECT_GT(packed, 0);
}

TEST(Gzip, SaysThatTheSinkRefused) {
  for (size_t size : {size_t{50'000}, 4 * Gzip::kStoredAtMost}) {
    EXPECT_FALSE(Pack(Words(size), 4096, SIZE_MAX, 1).ok) << size;
    EXPECT_FALSE(Pack(Words(size), 4096, SIZE_MAX, 2).ok) << size;
    EXPECT_FALSE(Pack(Words(size), 4096, 4096, 1).ok) << size;  // and where it writes plain bytes
  }
}

// What stands 20 KB apart is found again: zlib's tables are those of a compressor, not those of what is stored.
TEST(Gzip, FindsWhatIsFarApart) {
  std::mt19937 random(7);
  std::string block, plain;
  for (int i = 0; i < 20'000; ++i) block += static_cast<char>(random());
  while (plain.size() <= 2 * Gzip::kStoredAtMost) plain += block;
  EXPECT_LT(Pack(plain, 4096).bytes.size(), 2 * block.size());
}

// What is stored takes a small part of the memory that compressing takes, which in turn goes without the memory for holding it.
TEST(Gzip, TakesWhatMemoryThereIs) {
  std::string plain = Words(50'000);
  Outcome stored = Pack(plain, 4096, 340 << 10);
  EXPECT_GT(stored.bytes.size(), plain.size());
  EXPECT_EQ(Unpack(stored.bytes), plain);
  Outcome compressed = Pack(plain, 4096, 250 << 10);
  EXPECT_LT(compressed.bytes.size(), plain.size() / 2);
  EXPECT_EQ(Unpack(compressed.bytes), plain);
}

}  // namespace
}  // namespace profagent
