// Any bytes at all in place of a ledger: the reader and the encoder may leave things out, and nothing else. See
// meson.build for how to run it.

#include "tests/fuzz/ledger_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  profagent::TakeLedgerInput({data, size});
  return 0;
}
