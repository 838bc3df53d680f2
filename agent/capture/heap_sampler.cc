#include "agent/capture/heap_sampler.h"

#include <time.h>

#include <algorithm>

#include "agent/base/logarithm.h"
#include "agent/base/plain_floats.h"
#include "agent/base/random.h"
#include "agent/capture/cpu_timers.h"
#include "agent/capture/hook_frames.h"
#include "agent/capture/walk_losses.h"
#include "agent/ledger/heap_sites.h"

namespace profagent {
namespace {

// A thread that has nothing to count asks again after so many bytes: by then a rate may have been set.
constexpr uint64_t kIdleBytes = uint64_t{1} << 40;
// Go's limit of the mean: beyond it the gap would not fit 32 bits there. Here it keeps the sums of gaps and sizes small.
constexpr double kLongestMean = 1e15;

// A stack that is recorded, and what is left out of it later.
constexpr uint32_t kExtraFrames = HookFrames::kOwn + kHiddenLeafRoom;

// Up to here (bytes a sample), or from so many samples on, it pays to remember their stacks.
constexpr uint64_t kMemoRate = 4096;
constexpr uint32_t kManySamples = 1024;

uint64_t Seed() { return SeedOfThread(ReadClock(CLOCK_MONOTONIC).value); }

}  // namespace

constinit HeapSampler g_heap_sampler;

void HeapSampler::Start(const Settings& settings) {
  settings_ = settings;
  if (settings.rate > 0) {
    live_.Start(settings.ledger);
    own_module_ = settings.unwinder->FrameAt(CodeAddress{reinterpret_cast<uintptr_t>(&Seed)}).module();
    if (settings.max_depth > kDefaultMaxDepth) deep_frames_.Start(settings.max_depth + kExtraFrames);
    settings.ledger->header()->heap_rate.store(settings.rate, std::memory_order_relaxed);
    running_.store(true, std::memory_order_release);
  }
  decided_.store(true, std::memory_order_release);
}

void HeapSampler::RestartAfterFork(bool record) {
  if (!running()) return;
  live_.RestartAfterFork();
  deep_frames_.Reset();
  if (record) {
    settings_.ledger->header()->heap_rate.store(settings_.rate, std::memory_order_relaxed);
    t_state.heap_random = Seed();  // or every child would draw what its parent draws next
  } else {
    running_.store(false, std::memory_order_release);
  }
}

// -ln(U) * rate, rounded up: P(gap <= s) = 1 - e^(-s/rate) for whole numbers of bytes.
uint64_t HeapSampler::DrawGap() {
  if (settings_.rate == 1) return 0;
  return WithPlainFloats(
      [](uint64_t random, uint64_t rate) {
        double uniform = (static_cast<double>(random >> 11) + 1) * 0x1p-53;  // (0, 1]
        double mean = std::min(static_cast<double>(rate), kLongestMean);
        return static_cast<uint64_t>(-NaturalLog(uniform) * mean) + 1;
      },
      NextRandom(&t_state.heap_random), settings_.rate);
}

bool HeapSampler::Draws(size_t size) {
  ThreadState& thread = t_state;
  thread.asked_for_sample = true;
  if (!running()) {
    if (decided_.load(std::memory_order_acquire)) thread.heap_countdown = kIdleBytes;
    return false;
  }
  if (suspended_.load(std::memory_order_acquire)) [[unlikely]] {
    thread.heap_started = false;  // a new gap, should it be lifted
    thread.heap_countdown = settings_.rate;
    return false;
  }
  // The real allocator asked for memory by a public name. Should the call have been left by a jump, then its place on the
  // stack is soon that of a caller.
  auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  if (thread.in_allocator != 0 && here < thread.in_allocator) return false;
  if (!thread.heap_started) {
    thread.heap_started = true;
    thread.heap_random = Seed();
    thread.heap_countdown = DrawGap();
    if (Covers(size)) return false;
  }
  thread.heap_countdown = DrawGap();
  return true;
}

__attribute__((noinline)) void HeapSampler::Record(void* block, size_t size) {
  Ledger& ledger = *settings_.ledger;
  if (!ledger.CanRecord()) return;
  live_.Prefetch(block);
  HookFrames collected(&deep_frames_, settings_.max_depth + kExtraFrames);
  std::span<Frame> buffer = collected.buffer();
  StackBounds bounds{t_state.stack_low, t_state.stack_high};
  StackMemo memo(size);
  bool memorable = HasMany();
  WalkResult walked = settings_.unwinder->WalkFromHere(bounds, 0, buffer, memorable ? &memo : nullptr);
  HeapSiteRecord* site = ledger.At<HeapSiteRecord>(static_cast<RecordId>(memo.known()));
  if (memo.known() == 0) {
    ledger.PopulateAhead();
    StackId stack = Intern(buffer.first(walked.depth), &walked.end);
    site = ledger.FindHeapSite(stack, Bytes{size});
    if (site == nullptr) return;
    if (walked.end == WalkEnd::kOutermost) memo.Remember(ledger.IdOf(site));
  }
  // Its free went past us (a library that was not bound to us, __libc_free): it is over by now.
  if (HeapSiteRecord* before = live_.Take(block)) {
    ledger.Count(Loss::kMissedFree);
    CountFree(ledger.header(), before);
  }
  if (live_.Insert(block, site)) CountAllocation(ledger.header(), site);
}

// True of a process that samples much: its stacks come again.
bool HeapSampler::HasMany() {
  if (settings_.rate <= kMemoRate) return true;
  if (samples_.load(std::memory_order_relaxed) >= kManySamples) return true;
  samples_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

StackId HeapSampler::Intern(std::span<Frame> frames, WalkEnd* end) {
  Ledger& ledger = *settings_.ledger;
  while (frames.size() > 1 && frames[0].module() == own_module_) frames = frames.subspan(1);
  if (frames.size() > settings_.max_depth + kHiddenLeafRoom) {
    frames = frames.first(settings_.max_depth + kHiddenLeafRoom);
    *end = WalkEnd::kDepthLimit;
  }
  CountWalkEnd(ledger, *end);
  Frame unknown = MakeSynthetic(SyntheticFrame::kUnknown);
  if (frames.empty()) frames = {&unknown, 1};
  return ledger.InternStack(frames, *end);
}

void HeapSampler::CountFreed(HeapSiteRecord* site) { CountFree(settings_.ledger->header(), site); }

void HeapSampler::PutBack(void* block, HeapSiteRecord* site) {
  // Without room for it (another thread took the place meanwhile, and the ledger is full) the block is given up: counted
  // there, and not as live here.
  if (!live_.Insert(block, site)) CountFreed(site);
}

}  // namespace profagent
