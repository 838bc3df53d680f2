// Any bytes at all in place of a profile: an error or a profile, and of a profile every report. See meson.build for how
// to run it; the golden profiles (make_golden_profiles DIRECTORY) are good inputs to start from.

#include <cstddef>
#include <cstdint>

#include "tests/fuzz/profile_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  profagent::TakeProfileInput({reinterpret_cast<const char*>(data), size});
  return 0;
}
