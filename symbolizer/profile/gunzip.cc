#include "symbolizer/profile/gunzip.h"

#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <limits>

namespace profagent {
namespace {

constexpr int kGzipOnly = 15 + 16;  // window bits of zlib: the largest window, a gzip header and nothing else
constexpr size_t kChunk = size_t{1} << 18;

Bytef* ZlibBytes(const char* bytes) { return reinterpret_cast<Bytef*>(const_cast<char*>(bytes)); }

struct Inflater {
  z_stream stream{};
  Inflater() {
    if (inflateInit2(&stream, kGzipOnly) != Z_OK) std::abort();  // only without memory
  }
  ~Inflater() { inflateEnd(&stream); }
  Inflater(const Inflater&) = delete;
};

}  // namespace

bool LooksGzipped(std::string_view bytes) {
  return bytes.size() >= 2 && bytes[0] == '\x1f' && bytes[1] == '\x8b';
}

Result<std::string> Gunzip(std::string_view bytes, size_t limit) {
  std::string plain;  // its first `used` bytes: the rest is room, or every small member would clear that anew
  size_t used = 0;
  Inflater inflater;
  z_stream& in = inflater.stream;
  size_t fed = 0;  // bytes handed to zlib; it counts them in 32 bits, a file may have more
  while (true) {
    if (in.avail_in == 0) {
      const size_t chunk = std::min(bytes.size() - fed, size_t{std::numeric_limits<uInt>::max()});
      in.next_in = ZlibBytes(bytes.data() + fed);
      in.avail_in = static_cast<uInt>(chunk);
      fed += chunk;
    }
    if (used > limit) return Error::Of("decompressing profile: more than ", limit >> 20, " MiB uncompressed");
    if (used == plain.size()) plain.resize(used + std::min(std::max(used, kChunk), limit + 1 - used));
    in.next_out = ZlibBytes(plain.data() + used);
    in.avail_out = static_cast<uInt>(std::min(plain.size() - used, size_t{std::numeric_limits<uInt>::max()}));
    const int status = inflate(&in, Z_NO_FLUSH);
    used = static_cast<size_t>(reinterpret_cast<char*>(in.next_out) - plain.data());
    const size_t read = fed - in.avail_in;
    if (status == Z_STREAM_END) {
      if (read == bytes.size()) break;
      if (!LooksGzipped(bytes.substr(read)))
        return Error::Of("decompressing profile: bytes after the end of the gzip stream (at ", read, ")");
      inflateReset(&in);  // next member
    } else if (status == Z_BUF_ERROR || (status == Z_OK && in.avail_out > 0)) {
      if (read == bytes.size())
        return Error::Of("decompressing profile: unexpected EOF, the file is truncated");
    } else if (status != Z_OK) {
      return Error::Of("decompressing profile: ", in.msg != nullptr ? in.msg : "corrupt gzip stream",
                       " (before byte ", read, ")");
    }
  }
  if (used > limit) return Error::Of("decompressing profile: more than ", limit >> 20, " MiB uncompressed");
  plain.resize(used);
  return plain;
}

std::string Gzip(std::string_view bytes) {
  z_stream out{};
  constexpr int kMemoryLevel = 9;
  if (deflateInit2(&out, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kGzipOnly, kMemoryLevel, Z_DEFAULT_STRATEGY) !=
      Z_OK)
    std::abort();  // only without memory
  std::string packed;
  size_t fed = 0;
  int status = Z_OK;
  while (status != Z_STREAM_END) {
    if (out.avail_in == 0) {
      const size_t chunk = std::min(bytes.size() - fed, size_t{std::numeric_limits<uInt>::max()});
      out.next_in = ZlibBytes(bytes.data() + fed);
      out.avail_in = static_cast<uInt>(chunk);
      fed += chunk;
    }
    const size_t before = packed.size();
    packed.resize(before + kChunk);
    out.next_out = ZlibBytes(packed.data() + before);
    out.avail_out = kChunk;
    status = deflate(&out, fed == bytes.size() ? Z_FINISH : Z_NO_FLUSH);
    packed.resize(before + (kChunk - out.avail_out));
  }
  deflateEnd(&out);
  return packed;
}

}  // namespace profagent
