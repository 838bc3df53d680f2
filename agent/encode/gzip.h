// gzip on the way to a sink: zlib at its fastest, with its memory (some 270 KiB) from an Arena.
//
// Context: `dump`, `offline`. zlib with a zalloc of ours calls nothing but memcpy and memset.
// Without memory: the bytes go through as they are. Every reader of pprof files takes plain ones too, so that is
//          better than no profile.
#pragma once

#include <zlib.h>

#include "agent/base/arena.h"
#include "agent/encode/byte_sink.h"

namespace profagent {

class Gzip {
 public:
  Gzip(Arena& arena, ByteSink sink);
  Gzip(const Gzip&) = delete;
  Gzip& operator=(const Gzip&) = delete;

  // False: the sink refused.
  bool Write(std::span<const std::byte> bytes);
  bool Finish();  // once, at the end

 private:
  bool Deflate(int flush);

  ByteSink sink_;
  bool plain_ = false;
  bool refused_ = false;
  std::byte* out_ = nullptr;
  z_stream stream_{};
};

}  // namespace profagent
