#include "symbolizer/symbolize/mini_debug_info.h"

#include <lzma.h>

#include <string>

namespace profagent {
namespace {

constexpr char kSection[] = ".gnu_debugdata";
constexpr uint64_t kDecoderMemory = 66 << 20;  // bytes
constexpr size_t kMostBytes = 256 << 20;
constexpr size_t kFirstBytes = 1 << 20;

struct LzmaStream {
  lzma_stream stream = LZMA_STREAM_INIT;
  LzmaStream() = default;
  LzmaStream(const LzmaStream&) = delete;
  LzmaStream& operator=(const LzmaStream&) = delete;
  ~LzmaStream() { lzma_end(&stream); }
};

Result<std::string> Decompress(std::string_view bytes) {
  LzmaStream decoder;
  lzma_stream& stream = decoder.stream;
  if (lzma_stream_decoder(&stream, kDecoderMemory, 0) != LZMA_OK) return Error::Of("no memory");
  stream.next_in = reinterpret_cast<const uint8_t*>(bytes.data());
  stream.avail_in = bytes.size();
  std::string out;
  for (;;) {
    size_t done = out.size();
    if (done >= kMostBytes) return Error::Of("more than ", kMostBytes >> 20, " MiB");
    out.resize(done == 0 ? kFirstBytes : done * 2);
    stream.next_out = reinterpret_cast<uint8_t*>(out.data() + done);
    stream.avail_out = out.size() - done;
    lzma_ret result = lzma_code(&stream, LZMA_FINISH);
    if (result == LZMA_STREAM_END) {
      out.resize(out.size() - stream.avail_out);
      return out;
    }
    if (result == LZMA_MEMLIMIT_ERROR) return Error::Of("needs more memory than xz -9 does");
    if (result != LZMA_OK || stream.avail_out != 0) return Error::Of("damaged");
  }
}

}  // namespace

Result<std::unique_ptr<ElfFile>> OpenMiniDebugInfo(const ElfFile& file) {
  std::string_view compressed = file.Section(kSection);
  if (compressed.empty()) return std::unique_ptr<ElfFile>();
  const std::string path = file.path() + " (" + kSection + ")";
  Result<std::string> image = Decompress(compressed);
  if (!image) return Error::Of(path, ": ", image.error().text.view());
  return ElfFile::FromMemory(std::move(*image), path);
}

}  // namespace profagent
