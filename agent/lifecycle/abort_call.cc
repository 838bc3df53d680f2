#include "agent/lifecycle/abort_call.h"

#include <dlfcn.h>
#include <link.h>

#include "agent/base/safe_read.h"
#include "agent/interpose/real_functions.h"

namespace profagent {
namespace {

struct CodeRange {
  uintptr_t start, size;
};
constinit CodeRange g_abort{};

}  // namespace

void FindAbort() {
  Dl_info object;
  void* symbol = nullptr;
  void* function = FindReal("abort", nullptr);
  if (function == nullptr || dladdr1(function, &object, &symbol, RTLD_DL_SYMENT) == 0 || symbol == nullptr) {
    return;
  }
  g_abort = {reinterpret_cast<uintptr_t>(object.dli_saddr), static_cast<const ElfW(Sym)*>(symbol)->st_size};
}

// The address in abort that raise returns to stands a few frames of libc's above.
bool IsInAbort(const ucontext_t& context) {
  uintptr_t words[64];
  auto stack = static_cast<uintptr_t>(context.uc_mcontext.gregs[REG_RSP]);
  size_t count = SafeRead(stack, words, sizeof words) / sizeof words[0];
  for (size_t i = 0; i < count; ++i) {
    if (words[i] - g_abort.start < g_abort.size) return true;
  }
  return false;
}

}  // namespace profagent
