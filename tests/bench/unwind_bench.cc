// What one walk of 30 warm frames costs inside a signal handler, ours beside the others, in one interleaved run; and what
// ours costs from a hook (malloc, pthread_mutex_lock), which is no other walk but begins in the hook's own frames.
//
// Bound: ours <= 600 ns median (design.md section 4). For scale: unw_backtrace 0.3 us, libgcc 6-9, unw_step 27.
// How:   a chain of 30 calls without frame pointers raises a signal; the handler walks its own interrupted stack
//        in batches, the four unwinders in turn, a few hundred rounds. Then the chain's last function calls a hook as
//        often. A batch's time divided by its walks is one value; printed are their minimum, median and 99th
//        percentile. The stack's bounds are at hand, as they are in the agent.
#include <unwind.h>

#include <algorithm>
#include <vector>

#include "tests/bench/unwind_sampler.h"

namespace profagent {
namespace {

constexpr int kChain = 30;
constexpr int kRounds = 300;
constexpr int kBatch = 20;
constexpr int kMaxFrames = 256;
constexpr int kMethodCount = 5;
constexpr int kHook = 4;

struct Bench {
  Ledger ledger;
  Unwinder unwinder;
  LibUnwind libunwind;
  Frame frames[kMaxFrames];
  void* addresses[kMaxFrames];
  StackBounds bounds;
  uint32_t depth[kMethodCount];
  std::vector<double> nanos[kMethodCount];
};
Bench g_bench;

uint32_t Ours(const ucontext_t& context) {
  return g_bench.unwinder.Walk(context, g_bench.bounds, g_bench.frames).depth;
}

// As malloc in front of its sampler: the frame in between is the hook's, too.
__attribute__((noinline)) uint32_t Sampler() {
  WalkResult result = g_bench.unwinder.WalkFromHere(g_bench.bounds, 1, g_bench.frames);
  asm volatile("" ::: "memory");  // no tail call
  return result.depth;
}
__attribute__((noinline)) uint32_t Hook() {
  uint32_t depth = Sampler();
  asm volatile("" : "+r"(depth));
  return depth;
}

uint32_t UnwStep(const ucontext_t& context) {
  unw_cursor_t cursor;
  unw_context_t copy = context;
  if (g_bench.libunwind.init_local2(&cursor, &copy, UNW_INIT_SIGNAL_FRAME) != 0) return 0;
  uint32_t depth = 0;
  do {
    unw_word_t pc = 0;
    g_bench.libunwind.get_reg(&cursor, UNW_REG_IP, &pc);
    g_bench.addresses[depth++] = reinterpret_cast<void*>(pc);
  } while (depth < kMaxFrames && g_bench.libunwind.step(&cursor) > 0);
  return depth;
}

uint32_t UnwBacktrace(const ucontext_t&) {
  return static_cast<uint32_t>(g_bench.libunwind.backtrace(g_bench.addresses, kMaxFrames));
}

uint32_t LibGcc(const ucontext_t&) {
  uint32_t depth = 0;
  _Unwind_Backtrace(
      [](_Unwind_Context* context, void* count) {
        auto& at = *static_cast<uint32_t*>(count);
        if (at == kMaxFrames) return _URC_END_OF_STACK;
        g_bench.addresses[at++] = reinterpret_cast<void*>(_Unwind_GetIP(context));
        return _URC_NO_REASON;
      },
      &depth);
  return depth;
}

using Method = uint32_t (*)(const ucontext_t&);
constexpr Method kMethods[] = {Ours, UnwBacktrace, LibGcc, UnwStep};
constexpr const char* kNames[kMethodCount] = {"profagent", "unw_backtrace", "libgcc", "unw_step",
                                              "profagent-hook"};

template <class Walk>
PROF_ALWAYS_INLINE void Measure(int method, bool counts, Walk walk) {
  uint64_t start = NowNanos();
  for (int i = 0; i < kBatch; ++i) g_bench.depth[method] = walk();
  uint64_t end = NowNanos();
  if (counts) g_bench.nanos[method].push_back(static_cast<double>(end - start) / kBatch);
}

void OnSignal(int, siginfo_t*, void* raw) {
  auto& context = *static_cast<ucontext_t*>(raw);
  g_bench.bounds = InterruptedStackBounds(context);
  g_bench.bounds.low -= 64 * 1024;  // the hook may stand lower on the stack
  for (int round = 0; round < kRounds; ++round) {
    for (int method = 0; method < kHook; ++method) {
      Measure(method, round > 0, [&] { return kMethods[method](context); });
    }
  }
}

template <int kDepth>
__attribute__((noinline)) int Chain(int value) {
  if constexpr (kDepth == 0) {
    raise(SIGUSR1);
    for (int round = 0; round < kRounds; ++round) Measure(kHook, round > 0, Hook);
    return value;
  } else {
    int result = Chain<kDepth - 1>(value + 1);
    asm volatile("" : "+r"(result));  // no tail call
    return result + kDepth;
  }
}

int Run() {
  if (!g_bench.libunwind.Load()) {
    fprintf(stderr, "unwind_bench: libunwind.so.8 cannot be loaded\n");
    return 77;
  }
  if (!g_bench.ledger.CreateAnonymous(Bytes{kLedgerDefaultSize}) || !g_bench.unwinder.Start(&g_bench.ledger))
    return 1;
  for (auto& values : g_bench.nanos) values.reserve(kRounds);
  struct sigaction action = {};
  action.sa_sigaction = OnSignal;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGUSR1, &action, nullptr);
  Chain<kChain - 6>(0);  // with raise's frames, main and the start: 30 or so

  printf("warm walk in a signal handler and from a hook, ns\n%-14s %7s %9s %9s %9s %10s\n", "", "frames",
         "min", "median", "p99", "ns/frame");
  for (int method = 0; method < kMethodCount; ++method) {
    auto& values = g_bench.nanos[method];
    std::sort(values.begin(), values.end());
    double median = values[values.size() / 2];
    printf("%-14s %7u %9.0f %9.0f %9.0f %10.1f\n", kNames[method], g_bench.depth[method], values.front(),
           median, values[values.size() * 99 / 100], median / g_bench.depth[method]);
  }
  return 0;
}

}  // namespace
}  // namespace profagent

int main() { return profagent::Run(); }
