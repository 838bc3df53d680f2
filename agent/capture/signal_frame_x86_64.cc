#include <ucontext.h>

#include <cstring>

#include "agent/capture/signal_frame.h"

namespace profagent {
namespace {

// The kernel's struct rt_sigframe: the address of the restorer, its ucontext (with a mask of eight bytes), siginfo. Above it
// the state of the floating point unit, aligned to 64 bytes.
constexpr size_t kContextSize = 304;
constexpr size_t kInfoAt = sizeof(uintptr_t) + kContextSize;
constexpr size_t kFrameSize = kInfoAt + sizeof(siginfo_t);
constexpr size_t kRedZone = 128;

// In what fxsave leaves free: whether more than fxsave's state follows, and how much in all.
constexpr size_t kLegacyStateSize = 512;
struct StateExtent {
  uint32_t magic;
  uint32_t size;
};
constexpr size_t kExtentAt = 464;
constexpr uint32_t kExtended = 0x46505853;

}  // namespace

void LeaveAlternateStack(HandlerCall* call) {
  auto* context = static_cast<ucontext_t*>(call->context);
  auto frame = reinterpret_cast<uintptr_t>(context) - sizeof(uintptr_t);
  auto low = reinterpret_cast<uintptr_t>(context->uc_stack.ss_sp);
  size_t size = context->uc_stack.ss_size;
  auto interrupted = static_cast<uintptr_t>(context->uc_mcontext.gregs[REG_RSP]);
  bool moved = frame - low < size && interrupted - low - 1 >= size;
  if (!moved || reinterpret_cast<uintptr_t>(call->info) != frame + kInfoAt) return;

  uintptr_t to = interrupted - kRedZone;
  if (void* state = context->uc_mcontext.fpregs) {
    StateExtent extent;
    std::memcpy(&extent, static_cast<char*>(state) + kExtentAt, sizeof extent);
    size_t state_size = extent.magic == kExtended ? extent.size : kLegacyStateSize;
    to = (to - state_size) & ~uintptr_t{63};
    std::memcpy(reinterpret_cast<void*>(to), state, state_size);
    context->uc_mcontext.fpregs = reinterpret_cast<fpregset_t>(to);
  }
  to = ((to - kFrameSize) & ~uintptr_t{15}) - sizeof(uintptr_t);  // as after a call
  std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(frame), kFrameSize);
  call->context = reinterpret_cast<void*>(to + sizeof(uintptr_t));
  call->info = reinterpret_cast<siginfo_t*>(to + kInfoAt);
  call->stack = to;
}

}  // namespace profagent
