#include "agent/unwind/unwinder.h"

#include "agent/unwind/walker.h"

namespace profagent {

Status Unwinder::Start(Ledger* ledger) {
  if (Status status = cache_.Start(); !status) return status;
  Status status = modules_.Start(ledger);
  if (!status) cache_.Stop();
  return status;
}

void Unwinder::Stop() {
  cache_.Stop();
  modules_.Stop();
}

void Unwinder::RestartAfterFork(Ledger* ledger) {
  windows_.Reset();
  trails_.Reset();
  modules_.Restart(ledger);
}

namespace {

// What may be read without asking: `bounds` down to the red zone. Where the stack pointer is not in it, nothing.
PROF_ALWAYS_INLINE MemoryRange Readable(StackBounds bounds, uintptr_t sp) {
  if (!bounds.Holds(sp, 0)) return {};
  uintptr_t low = sp - bounds.low > kRedZone ? sp - kRedZone : bounds.low;
  return {low, bounds.high};
}

}  // namespace

WalkResult Unwinder::Walk(const ucontext_t& context, StackBounds bounds, std::span<Frame> frames) {
  if (frames.empty()) return {0, WalkEnd::kDepthLimit};
  auto pc = static_cast<uintptr_t>(context.uc_mcontext.gregs[REG_RIP]);
  if (!cache_.is_started()) {
    frames[0] = Frame::Of(ModuleId::kNone, pc);
    return {1, WalkEnd::kNoUnwindInfo};
  }
  MemoryRange readable = Readable(bounds, static_cast<uintptr_t>(context.uc_mcontext.gregs[REG_RSP]));
  Walker walker(&cache_, &modules_, &windows_, readable, frames);
  {
    TrailWriter trail(&trails_, readable.limit, cache_.generation());
    WalkResult result = walker.Fast(context, &trail);
    if (!walker.needs_all_registers()) return result;
  }
  Registers registers;
  LoadRegisters(context, &registers);
  return walker.Full(&registers, true, 0);
}

__attribute__((noinline)) WalkResult Unwinder::WalkFromHere(StackBounds bounds, uint32_t skip_frames,
                                                            std::span<Frame> frames) {
  if (frames.empty() || !cache_.is_started()) return {0, WalkEnd::kDepthLimit};
  Registers registers;
  CaptureRegisters(&registers);
  Walker walker(&cache_, &modules_, &windows_, Readable(bounds, registers.sp()), frames);
  // This function itself and the one that asks are not part of the answer.
  return walker.Full(&registers, true, skip_frames + 2);
}

void Unwinder::BeforeLibraryClose() { modules_.BeforeClose(); }

void Unwinder::AfterLibraryClose() {
  if (!cache_.is_started()) return;
  cache_.Wipe();
  modules_.AfterClose();
}

Frame Unwinder::FrameAt(CodeAddress address) {
  ModuleMap::Reader reader(&modules_);
  const Module* module = modules_.Find(address.value);
  if (module == nullptr) return Frame::Of(ModuleId::kNone, address.value);
  return Frame::Of(module->id, address.value - module->load_bias);
}

}  // namespace profagent
