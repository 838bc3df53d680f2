// libFuzzer: unwind tables of any bytes. See meson.build for how to run it.
#include "tests/fuzz/eh_frame_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A copy of its own size, so that the sanitizer sees the first byte behind it.
  std::vector<uint8_t> copy(data, data + size);
  profagent::TryEhFrame(copy.data(), copy.size());
  return 0;
}
