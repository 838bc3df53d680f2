// libFuzzer: ELF files that lie, read for names. See meson.build for how to run it.
#include "tests/fuzz/elf_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  profagent::TryElf(data, size);
  return 0;
}
