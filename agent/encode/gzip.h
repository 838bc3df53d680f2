// gzip on the way to a sink: zlib at its fastest, with its memory (some 200 KiB, and 256 KiB for what comes first) from an Arena.
//
// Context: `dump`, `offline`. zlib with a zalloc of ours calls nothing but memcpy and memset.
// Little:  up to kStoredAtMost bytes are wrapped, not compressed (deflate's stored blocks). To compress the 86 KB of a second of
//          clang takes 0.77 ms and as many page faults as zlib's tables have pages, a fifth of all that ends a profiled program
//          later than it would; wrapping them takes 0.04 ms, and 56 KB of disk. Its heap profile of 200 KB would be one
//          of 62 KB, for 0.12 % of that second.
// Without memory: the bytes go through as they are. Every reader of pprof files takes plain ones too, so that is
//          better than no profile.
#pragma once

#include <zlib.h>

#include "agent/base/arena.h"
#include "agent/encode/byte_sink.h"

namespace profagent {

class Gzip {
 public:
  static constexpr size_t kStoredAtMost = 256 * 1024;  // bytes

  Gzip(Arena& arena, ByteSink sink);
  Gzip(const Gzip&) = delete;
  Gzip& operator=(const Gzip&) = delete;

  // False: the sink refused.
  bool Write(std::span<const std::byte> bytes);
  bool Finish();  // once, at the end

 private:
  bool Begin(int level);  // and what was held
  bool Deflate(std::span<const std::byte> bytes, int flush);

  Arena& arena_;
  ByteSink sink_;
  std::byte* held_;  // the first kStoredAtMost bytes; nullptr: begun, or there is no memory
  size_t held_size_ = 0;
  bool plain_ = false;
  bool refused_ = false;
  std::byte* out_ = nullptr;
  z_stream stream_{};
};

}  // namespace profagent
