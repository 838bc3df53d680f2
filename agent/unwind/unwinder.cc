#include "agent/unwind/unwinder.h"

#include <sys/mman.h>

#include "agent/base/raw_syscall.h"
#include "agent/base/sparse_memory.h"
#include "agent/unwind/walker.h"

namespace profagent {

Status Unwinder::Start(Ledger* ledger) {
  long memory = MapSparse(sizeof(Pools));
  if (int code = SyscallError(memory); code != 0) {
    Error error = Error::Of("no memory for the unwinder's working space (", sizeof(Pools) / 1024, " KiB)");
    error.code = code;
    return error;
  }
  auto* pools = reinterpret_cast<Pools*>(memory);  // zeros are empty pools
  Status status = cache_.Start();
  if (status) status = modules_.Start(ledger);
  if (!status) {
    cache_.Stop();
    RawSyscall(SYS_munmap, pools, sizeof(Pools));
    return status;
  }
  pools_ = pools;
  return status;
}

void Unwinder::Stop() {
  if (pools_ == nullptr) return;
  RawSyscall(SYS_munmap, pools_, sizeof(Pools));
  pools_ = nullptr;
  cache_.Stop();
  modules_.Stop();
}

void Unwinder::RestartAfterFork(Ledger* ledger) {
  if (pools_ == nullptr) return;
  // What threads held that are not in the child is free again: all zeros, without touching a page.
  RawSyscall(SYS_madvise, pools_, sizeof(Pools), MADV_DONTNEED);
  if (!modules_.Restart(ledger)) cache_.Wipe();
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
  FramePosition leaf = PositionOf(context);
  if (pools_ == nullptr) {
    frames[0] = Frame::Of(ModuleId::kNone, leaf.pc);
    return {1, WalkEnd::kNoUnwindInfo};
  }
  Walker walker(&cache_, &modules_, &pools_->windows, &pools_->trails, &pools_->known_calls,
                Readable(bounds, leaf.sp), frames);
  WalkResult result = walker.Fast(leaf, true, nullptr);
  return walker.needs_all_registers() ? walker.Full(context) : result;
}

__attribute__((noinline)) WalkResult Unwinder::WalkFromHere(StackBounds bounds, uint32_t skip_frames,
                                                            std::span<Frame> frames, StackMemo* memo) {
  if (frames.empty() || pools_ == nullptr) return {0, WalkEnd::kDepthLimit};
  FramePosition here = CapturePosition();
  MemoryRange readable = Readable(bounds, here.sp);
  if (memo != nullptr && memo->Recall(&pools_->memos, here, readable.limit, cache_.generation())) return {};
  Walker walker(&cache_, &modules_, &pools_->windows, &pools_->trails, &pools_->known_calls, readable,
                frames);
  const uint32_t skip = skip_frames + 2;  // this function and the one that calls it are no part of the answer
  FramePosition position = here;
  if (walker.LeaveOut(skip, &position, memo)) {
    WalkResult result = walker.Fast(position, false, memo);
    if (!walker.needs_all_registers()) return result;
  }
  return walker.FullFromHere(skip);
}

void Unwinder::BeforeLibraryClose() {
  if (pools_ != nullptr) modules_.BeforeClose();
}

void Unwinder::AfterLibraryClose() {
  if (pools_ == nullptr) return;
  cache_.Wipe();
  modules_.AfterClose();
}

Frame Unwinder::FrameAt(CodeAddress address) {
  if (pools_ == nullptr) return Frame::Of(ModuleId::kNone, address.value);
  ModuleMap::Reader reader(&modules_);
  const Module* module = modules_.FindLoaded(address.value);
  if (module == nullptr) return Frame::Of(ModuleId::kNone, address.value);
  return Frame::Of(module->id, address.value - module->load_bias);
}

}  // namespace profagent
