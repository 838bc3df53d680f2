#include "agent/capture/contention.h"

#include <signal.h>

#include "agent/base/plain_floats.h"
#include "agent/base/random.h"
#include "agent/base/raw_syscall.h"
#include "agent/base/thread_state.h"
#include "agent/capture/hook_frames.h"
#include "agent/capture/monotonic_clock.h"
#include "agent/capture/walk_losses.h"
#include "agent/ledger/contention_sample.h"
#include "agent/ledger/lock_label.h"

namespace profagent {
namespace {

constexpr uint32_t kOwnFrames = HookFrames::kOwn;

// What stands in thread-local storage is also seen by a signal handler of the same thread.
PROF_ALWAYS_INLINE void OrderForHandlers() { std::atomic_signal_fence(std::memory_order_seq_cst); }

PROF_ALWAYS_INLINE uintptr_t FrameHere() { return reinterpret_cast<uintptr_t>(__builtin_frame_address(0)); }

// Less than what the kernel puts on the stack for a handler, so that a wait in a handler is further down than this from the one
// that it interrupted; more than the frames of two hooks differ by.
constexpr uintptr_t kHandlerDistance = 512;

// Asked of the kernel: a handler's stack may be a piece of the thread's own, above the wait that it interrupted.
bool IsOnAlternateStack() {
  stack_t stack{};
  return RawSyscall(SYS_sigaltstack, nullptr, &stack) == 0 && (stack.ss_flags & SS_ONSTACK) != 0;
}

// Whether a wait that was begun at `frame` is over, because this thread is further up its stack now. On another stack than
// the thread's own (a handler's, a coroutine's) nothing is known: then it is not.
bool IsLeft(uintptr_t frame, uintptr_t here) {
  StackBounds own{t_state.stack_low, t_state.stack_high};
  return frame != 0 && frame <= here + kHandlerDistance && own.Holds(frame, 1) && own.Holds(here, 1) &&
         !IsOnAlternateStack();
}

// Who told its beginning, and with it its stack: thread_hooks.cc, or the agent's own for the main thread.
PROF_ALWAYS_INLINE bool WillTellItsEnd() { return t_state.stack_high != 0; }

// Who was woken from a condition variable and wants `mutex` back, as a lock of its own: an address inside the mutex, which
// no other lock can have.
const void* WokenFor(const void* mutex) { return static_cast<const char*>(mutex) + 4; }

void Add(ContentionSiteRecord* site, uint64_t count, uint64_t nanos) {
  site->count.fetch_add(count, std::memory_order_relaxed);
  site->nanos.fetch_add(nanos, std::memory_order_relaxed);
}

}  // namespace

constinit Contention g_contention;
__thread ThreadWaits t_waits __attribute__((tls_model("initial-exec")));

void Contention::Start(const Settings& settings) {
  settings_ = settings;
  main_stack_ = {t_state.stack_low, t_state.stack_high};
  StartMonotonicClock();
  own_module_ = settings.unwinder->FrameAt(CodeAddress{reinterpret_cast<uintptr_t>(&Add)}).module();
  if (settings.max_depth > kDefaultMaxDepth) deep_frames_.Start(settings.max_depth + kOwnFrames);
  SetRates(settings.block_rate, settings.mutex_fraction);
}

void Contention::SetRates(uint64_t block_rate, uint64_t mutex_fraction) {
  LedgerHeader* header = settings_.ledger->header();
  header->block_rate.store(block_rate, std::memory_order_relaxed);
  header->mutex_fraction.store(mutex_fraction, std::memory_order_relaxed);
  block_rate_.store(block_rate, std::memory_order_relaxed);
  mutex_fraction_.store(mutex_fraction, std::memory_order_relaxed);
}

void Contention::RestartAfterFork(bool record) {
  if (block_rate() == 0 && mutex_fraction() == 0) return;
  locks_.RestartAfterFork();
  conditions_.RestartAfterFork();
  deep_frames_.Reset();
  // This thread, the child's only one, may be inside a wait whose signal handler forked: that wait finds an empty slot.
  t_waits = {};
  if (record) {
    SetRates(block_rate(), mutex_fraction());
  } else {
    block_rate_.store(0, std::memory_order_relaxed);
    mutex_fraction_.store(0, std::memory_order_relaxed);
  }
}

uint64_t* Contention::Random() {
  ThreadWaits& mine = t_waits;
  if (mine.random == 0) [[unlikely]] {
    mine.random = SeedOfThread(MonotonicNow().value);
  }
  return &mine.random;
}

bool Contention::Draw(uint64_t fraction) { return fraction <= 1 || NextRandomBelow(fraction, Random()) == 0; }

// The stack of the hook's caller, under `primitive`. Inlined, so that the agent's own frames are few.
PROF_ALWAYS_INLINE StackId Contention::StackHere(Primitive primitive) {
  Ledger& ledger = *settings_.ledger;
  if (!ledger.CanRecord()) return kNoStack;
  HookFrames collected(&deep_frames_, settings_.max_depth + kOwnFrames);
  std::span<Frame> buffer = collected.buffer();

  StackBounds bounds{t_state.stack_low, t_state.stack_high};
  StackMemo memo(static_cast<uint64_t>(primitive));
  WalkResult walked = settings_.unwinder->WalkFromHere(bounds, 0, buffer.subspan(1), &memo);
  if (memo.known() != 0) return StackId{static_cast<RecordId>(memo.known())};
  size_t first = 0;  // where the primitive's frame goes: in the place of our last own one
  while (first < kOwnFrames && first < walked.depth && buffer[first + 1].module() == own_module_) ++first;
  buffer[first] = PrimitiveFrame(primitive);
  std::span<Frame> frames = buffer.subspan(first, walked.depth + 1 - first);
  if (frames.size() > settings_.max_depth) {
    frames = frames.first(settings_.max_depth);
    frames.back() = MakeSynthetic(SyntheticFrame::kTruncated);
    walked.end = WalkEnd::kDepthLimit;
  }
  CountWalkEnd(ledger, walked.end);
  StackId stack = ledger.InternStack(frames, walked.end);
  if (walked.end == WalkEnd::kOutermost) memo.Remember(stack.value);
  return stack;
}

TextId Contention::LabelOf(const void* object) {
  if (!settings_.lock_labels || object == nullptr) return kNoText;
  auto address = reinterpret_cast<uintptr_t>(object);
  LockLabel label;
  if (StackBounds{t_state.stack_low, t_state.stack_high}.Holds(address, 1) || main_stack_.Holds(address, 1)) {
    label.Add("stack ", Hex{address});
  } else if (Frame place = settings_.unwinder->FrameAt(CodeAddress{address});
             place.module() != ModuleId::kNone) {
    label = LabelOfStatic(place);
  } else {
    label.Add("heap ", Hex{address});
  }
  return settings_.ledger->InternText(label.view());
}

WaiterRecord* Contention::RecordOf(WaitSlot* slot) {
  if (slot->record == nullptr) {
    ThreadWaits& mine = t_waits;
    if (mine.tid == 0) mine.tid = static_cast<uint32_t>(RawSyscall(SYS_gettid));
    slot->record = settings_.ledger->TakeWaiter(mine.tid);
  }
  return slot->record;
}

void Contention::AddEnded(WaiterRecord* record) {
  // Whoever takes the site out adds: a signal handler of this thread may be at it too.
  RecordId site = record->site.exchange(0, std::memory_order_relaxed);
  uint64_t waited = record->waited_ns.load(std::memory_order_relaxed);
  if (site == 0 || waited == 0) return;
  ContentionSample sample = BlockSample(Nanos{waited}, block_rate());
  Add(settings_.ledger->At<ContentionSiteRecord>(site), sample.count, sample.nanos);
}

void Contention::GiveRecord(WaitSlot* slot) {
  WaiterRecord* record = slot->record;
  slot->record = nullptr;
  if (record == nullptr || !settings_.ledger->CanRecord()) return;
  AddEnded(record);
  settings_.ledger->GiveWaiter(record);
}

void Contention::TakeBackAbandoned(uintptr_t here) {
  ThreadWaits& mine = t_waits;
  while (mine.depth > 0 && IsLeft(mine.slots[mine.depth - 1].frame, here)) {
    Abandon(&mine.slots[mine.depth - 1]);
  }
}

__attribute__((noinline)) WaitSlot* Contention::Begin(Primitive primitive, const void* lock,
                                                      const void* object) {
  ThreadWaits& mine = t_waits;
  LeaveLate();  // that lock is held still, or was given up by a wait at a condition variable
  if (mine.depth > 0) [[unlikely]]
    TakeBackAbandoned(FrameHere());
  if (mine.depth >= ThreadWaits::kSlots) {
    settings_.ledger->Count(Loss::kWaitersFull);
    return nullptr;
  }
  // Ours from here on, also for a handler that interrupts; its `frame` is 0 and so it is not taken for an abandoned one.
  WaitSlot* slot = &mine.slots[mine.depth++];
  OrderForHandlers();
  slot->since = MonotonicNow().value;
  slot->recorded = false;
  slot->stack = 0;
  slot->lock = lock;
  slot->arrival = {};
  slot->condition_entry = 0;
  slot->frame = FrameHere();
  OrderForHandlers();
  // First, so that an unlock that comes while the stack is walked is charged already.
  if (uint64_t fraction = mutex_fraction(); lock != nullptr && fraction != 0) {
    bool drawn = Draw(fraction);
    slot->arrival = locks_.Arrive(lock, Nanos{slot->since}, drawn);
    if (drawn && slot->arrival.entry_plus_one == 0) settings_.ledger->Count(Loss::kWaitersFull);
  }
  uint64_t rate = block_rate();
  if (rate == 0) return slot;
  if (WaiterRecord* record = RecordOf(slot)) {
    AddEnded(record);
    StackId stack = StackHere(primitive);
    slot->stack = stack.value;
    if (ContentionSiteRecord* site =
            settings_.ledger->FindContentionSite(ContentionKind::kBlock, stack, LabelOf(object))) {
      slot->threshold = NextRandomBelow(rate, Random());
      record->since_ns.store(slot->since, std::memory_order_relaxed);
      record->threshold_ns.store(slot->threshold, std::memory_order_relaxed);
      record->waited_ns.store(0, std::memory_order_relaxed);
      // release: the fields above
      record->site.store(settings_.ledger->IdOf(site), std::memory_order_release);
      slot->recorded = true;
    }
  }
  return slot;
}

void Contention::End(WaitSlot* slot, bool waited, bool late) {
  if (slot == nullptr || slot->frame == 0) return;  // a fork inside the wait emptied it
  ThreadWaits& mine = t_waits;
  auto index = static_cast<uint32_t>(slot - mine.slots);
  // A handler of this thread began them and was left by a jump.
  while (mine.depth > index + 1) Abandon(&mine.slots[mine.depth - 1]);
  // Read once: a handler that forks here empties the slot in the child. What it pointed to stays mapped (Ledger).
  WaiterRecord* record = slot->recorded ? __atomic_load_n(&slot->record, __ATOMIC_RELAXED) : nullptr;
  if (record != nullptr) {
    uint64_t length = MonotonicNow().value - slot->since;
    if (waited && length >= slot->threshold && length != 0) {
      record->waited_ns.store(length, std::memory_order_release);
    } else {
      record->site.store(0, std::memory_order_relaxed);
    }
  }
  if (late && slot->arrival.is_other) {
    LeaveLate();  // a handler's, which has not unlocked
    mine.late = slot->lock;
  } else {
    locks_.Leave(slot->lock, slot->arrival);
  }
  if (slot->condition_entry != 0) LeaveCondition(slot, false);
  if (mine.ended || !WillTellItsEnd()) [[unlikely]]
    GiveRecord(slot);
  slot->frame = 0;
  OrderForHandlers();
  mine.depth = index;
}

void Contention::Abandon(WaitSlot* slot) {
  End(slot, false);
  t_waits.depth = static_cast<uint32_t>(slot - t_waits.slots);  // also of one that had not begun for good
}

__attribute__((noinline)) WaitSlot* Contention::BeginAtCondition(Primitive primitive, const void* condition,
                                                                 const void* mutex) {
  WaitSlot* slot = Begin(primitive, nullptr, condition);
  if (slot == nullptr || mutex_fraction() == 0) return slot;
  slot->lock = mutex;
  slot->condition = condition;
  slot->condition_entry = conditions_.Arrive(condition, mutex);
  if (slot->condition_entry == 0) settings_.ledger->Count(Loss::kWaitersFull);
  return slot;
}

void Contention::EndAtCondition(WaitSlot* slot, bool waited, bool was_woken) {
  if (slot != nullptr && slot->frame != 0) LeaveCondition(slot, was_woken);
  End(slot, waited);
}

void Contention::LeaveCondition(WaitSlot* slot, bool was_woken) {
  if (conditions_.Leave(slot->condition, slot->condition_entry, was_woken)) {
    locks_.LeaveAny(WokenFor(slot->lock));
  }
  slot->condition_entry = 0;
}

void Contention::Signal(const void* condition, uint32_t most) {
  // A condition has one entry but for accidents of timing and one for each mutex; a broadcast means them all.
  for (uint32_t entries = 0; entries < ConditionWaits::kWays && most > 0; ++entries) {
    ConditionWaits::Waiting waiting = conditions_.Look(condition);
    if (waiting.count == 0) return;
    uint32_t wanted = waiting.count < most ? waiting.count : most;
    const void* group = WokenFor(waiting.mutex);
    // They arrive before they are moved: whoever returns and takes a move finds that its arrival is there.
    if (!locks_.ArriveMany(group, wanted, MonotonicNow())) {
      settings_.ledger->Count(Loss::kWaitersFull, wanted);
      return;
    }
    uint32_t moved = conditions_.Move(condition, waiting.mutex, wanted);
    for (uint32_t i = moved; i < wanted; ++i) locks_.LeaveAny(group);
    most -= moved;
  }
}

UnlockCharge Contention::Unlock(const void* lock) {
  uint32_t others = locks_.CountOthers(lock);
  if (t_waits.late == lock && others > 0) --others;  // we hold it
  return {locks_.Unlock(lock), locks_.Unlock(WokenFor(lock)), others};
}

__attribute__((noinline)) void Contention::LeaveOthers() {
  // One exchange: a handler of this thread may be at it too.
  if (const void* lock = __atomic_exchange_n(&t_waits.late, nullptr, __ATOMIC_RELAXED))
    locks_.LeaveOthers(lock);
}

__attribute__((noinline)) void Contention::RecordUnlock(Primitive primitive, const void* lock,
                                                        const UnlockCharge& charge,
                                                        const WaitSlot* same_stack) {
  uint64_t fraction = mutex_fraction();
  if (fraction == 0) return;
  LockWaits::Charge of = charge.drawn;
  // Who was woken is not known one by one: not the wait is drawn, but the unlock.
  if (charge.woken.waited.value != 0 && Draw(fraction)) {
    of.waited.value += charge.woken.waited.value;
    of.waiters += charge.woken.waiters;
  }
  if (of.waited.value == 0) return;
  StackId stack{same_stack != nullptr ? same_stack->stack : 0};
  if (stack == kNoStack) stack = StackHere(primitive);
  ContentionSiteRecord* site =
      settings_.ledger->FindContentionSite(ContentionKind::kMutex, stack, LabelOf(lock));
  if (site == nullptr) return;
  uint64_t count = 0;
  uint64_t nanos = 0;
  if (__builtin_mul_overflow(fraction, kContentionUnit, &count)) count = UINT64_MAX;
  if (__builtin_mul_overflow(fraction, of.waited.value, &nanos)) nanos = UINT64_MAX;
  // Others were drawn from, too; in that, not even a count of them that is too high matters for a fraction of 1.
  uint32_t waiting = charge.drawn.waiters + charge.woken.waiters + charge.others;
  if (fraction > 1) {
    count = WithPlainFloats(
        [](uint64_t all, uint32_t drawn, uint32_t among) {
          return static_cast<uint64_t>(static_cast<double>(all) * drawn / among);
        },
        count, of.waiters, waiting);
  }
  Add(site, count, nanos);
}

uint32_t Contention::CountWaiters(const void* lock) const {
  return locks_.CountWaiters(lock) + locks_.CountWaiters(WokenFor(lock));
}

void Contention::EndThread() {
  ThreadWaits& mine = t_waits;
  while (mine.depth > 0) Abandon(&mine.slots[mine.depth - 1]);
  LeaveLate();
  for (WaitSlot& slot : mine.slots) GiveRecord(&slot);
  mine.ended = true;
}

}  // namespace profagent
