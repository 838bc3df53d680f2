#include "agent/capture/cpu_debts.h"

#include <algorithm>
#include <span>

#include "agent/base/scramble.h"
#include "agent/capture/cpu_handler.h"
#include "agent/capture/cpu_timers.h"
#include "agent/capture/hook_frames.h"

namespace profagent {
namespace {

// The longest that a thread on a busy machine was seen to run without meeting a tick of the kernel was 182 ms
// (13 threads at work on 2 processors, HZ=250: short turns that begin and end between ticks).
constexpr Nanos kLongestDebt{kNanosPerSecond};

}  // namespace

void CpuDebts::Start(Ledger* ledger, Unwinder* unwinder, Nanos period, uint32_t max_depth) {
  ledger_ = ledger;
  unwinder_ = unwinder;
  period_ = period;
  max_depth_ = std::min(max_depth, kDefaultMaxDepth);
}

void CpuDebts::Settle(ThreadSlot* account, clockid_t clock) {
  if (account->first_expiry_ns.load(std::memory_order_relaxed) == 0 || account->perf_user_time_only) return;
  if (account->in_handler.load(std::memory_order_acquire) != 0) return;  // another thread, counting right now
  uint64_t now = ReadClock(clock).value;
  uint64_t first = account->first_expiry_ns.load(std::memory_order_relaxed);
  uint64_t counted = account->ticks.load(std::memory_order_relaxed);
  uint64_t expired = now >= first ? 1 + (now - first) / period_.value : 0;
  if (expired <= counted) return;
  // Or the thread has counted meanwhile, or settles by itself: it ends.
  if (!account->ticks.compare_exchange_strong(counted, expired)) return;
  uint64_t owed = expired - counted;
  account->prepaid.fetch_add(owed, std::memory_order_relaxed);
  TextId name = g_cpu_handler.NameOf(*account);
  g_cpu_handler.AddToLedger(StackOfDebt(*account, period_ * owed), name, owed);
}

void CpuDebts::SettleEndingThread(ThreadSlot* slot) {
  RecordId last = slot->last_stack.load(std::memory_order_relaxed);  // sampled, not settled
  Settle(slot, ThreadCpuClock(slot->tid.load(std::memory_order_relaxed)));
  if (last == 0) return;
  // The two are not written as one: another routine's stack may be taken for this one's, once in a while
  // and for one debt. Both are stacks of this process.
  Sibling& sibling = SiblingOf(*slot);
  sibling.stack.store(last, std::memory_order_relaxed);
  sibling.start_routine.store(reinterpret_cast<uintptr_t>(slot->start_routine), std::memory_order_release);
}

void CpuDebts::SettleHere(ThreadSlot* slot) {
  // What it owes now, for which there is no sample, it owes for the most part to what called us.
  if (slot->last_stack.load(std::memory_order_relaxed) == 0 && ledger_->CanRecord())
    slot->last_stack.store(StackHere(slot->bounds).value, std::memory_order_relaxed);
  Settle(slot, ThreadCpuClock(slot->tid.load(std::memory_order_relaxed)));
}

void CpuDebts::Forget() {
  for (Sibling& sibling : siblings_) sibling.start_routine.store(0, std::memory_order_relaxed);
}

CpuDebts::Sibling& CpuDebts::SiblingOf(const ThreadSlot& slot) {
  return siblings_[Scramble(reinterpret_cast<uintptr_t>(slot.start_routine)) % kSiblings];
}

// Where time goes that was spent but not sampled: to the newest sample of the thread, or of one that began
// like it; to its first function, when there is none. A debt that the kernel's ticks cannot explain has
// another reason (its handler was replaced, its mask is raw), and no known stack is to blame.
StackId CpuDebts::StackOfDebt(const ThreadSlot& account, Nanos owed) {
  StackId last{account.last_stack.load(std::memory_order_relaxed)};
  Frame frame = MakeSynthetic(SyntheticFrame::kUnknown);
  if (owed <= kLongestDebt) {
    if (last != kNoStack) return last;
    auto start = reinterpret_cast<uintptr_t>(account.start_routine);
    const Sibling& sibling = SiblingOf(account);
    if (start != 0 && sibling.start_routine.load(std::memory_order_acquire) == start) {
      return StackId{sibling.stack.load(std::memory_order_relaxed)};
    }
    if (start != 0) frame = unwinder_->FrameAt(CodeAddress{start});
  }
  return ledger_->InternStack({&frame, 1}, WalkEnd::kOutermost);
}

// Without our own frames, which are at its leaf.
__attribute__((noinline)) StackId CpuDebts::StackHere(StackBounds bounds) {
  HookFrames collected(nullptr, max_depth_ + HookFrames::kOwn + kHiddenLeafRoom);
  std::span<Frame> frames = collected.buffer();
  WalkResult walked = unwinder_->WalkFromHere(bounds, 0, frames);
  frames = frames.first(walked.depth);
  ModuleId own = unwinder_->FrameAt(CodeAddress{reinterpret_cast<uintptr_t>(&g_cpu_handler)}).module();
  while (!frames.empty() && frames[0].module() == own) frames = frames.subspan(1);
  if (frames.size() > max_depth_) {
    frames = frames.first(max_depth_);
    frames.back() = MakeSynthetic(SyntheticFrame::kTruncated);
    walked.end = WalkEnd::kDepthLimit;
  }
  return frames.empty() ? kNoStack : ledger_->InternStack(frames, walked.end);
}

}  // namespace profagent
