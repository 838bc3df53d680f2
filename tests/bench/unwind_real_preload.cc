// What one sample's walk costs in a real program, where the caches are the program's: preloaded, it walks each SIGPROF
// with one of four unwinders (UNWIND_REAL_METHOD) and writes the times.
//
// Bound: ours at p50 <= half of libgcc's on clang, cc1plus and xz (design.md section 4).
// Use:   LD_PRELOAD=libunwind_real.so UNWIND_REAL_OUT=FILE PROGRAM; FILE gets a line `PROGRAM METHOD NANOS DEPTH` for
//        each sample. tests/bench/unwind_bench.py runs the programs and prints the table.
// Fair:  each unwinder starts from the interrupted context's frame or, where it cannot (unw_backtrace, libgcc), from
//        the handler's: three frames more.
#include <fcntl.h>
#include <unwind.h>

#include <atomic>

#include "tests/bench/unwind_sampler.h"

namespace profagent {
namespace {

constexpr int kMaxFrames = 512;
constexpr uint32_t kMaxSamples = 1u << 16;
constexpr const char* kNames[] = {"profagent", "libgcc", "unw_backtrace", "unw_step"};

struct Sample {
  uint32_t nanos;
  uint16_t depth;
  uint16_t method;
};

struct Bench {
  Ledger ledger;
  Unwinder unwinder;
  LibUnwind libunwind;
  int out = -1;
  uint32_t method = 0;
  Frame frames[kMaxFrames];
  void* addresses[kMaxFrames];
  std::atomic<uint32_t> count{0};
  std::atomic_flag busy = ATOMIC_FLAG_INIT;
  Sample samples[kMaxSamples];
};
Bench* g_bench = nullptr;

uint32_t UnwStep(const ucontext_t& context) {
  unw_cursor_t cursor;
  unw_context_t copy = context;
  if (g_bench->libunwind.init_local2(&cursor, &copy, UNW_INIT_SIGNAL_FRAME) != 0) return 0;
  uint32_t depth = 0;
  do {
    unw_word_t pc = 0;
    g_bench->libunwind.get_reg(&cursor, UNW_REG_IP, &pc);
    g_bench->addresses[depth++] = reinterpret_cast<void*>(pc);
  } while (depth < kMaxFrames && g_bench->libunwind.step(&cursor) > 0);
  return depth;
}

uint32_t LibGcc() {
  uint32_t depth = 0;
  _Unwind_Backtrace(
      [](_Unwind_Context* context, void* count) {
        auto& at = *static_cast<uint32_t*>(count);
        if (at == kMaxFrames) return _URC_END_OF_STACK;
        g_bench->addresses[at++] = reinterpret_cast<void*>(_Unwind_GetIP(context));
        return _URC_NO_REASON;
      },
      &depth);
  return depth;
}

uint32_t Walk(uint32_t method, const ucontext_t& context, StackBounds bounds) {
  switch (method) {
    case 0:
      return g_bench->unwinder.Walk(context, bounds, g_bench->frames).depth;
    case 1:
      return LibGcc();
    case 2:
      return static_cast<uint32_t>(g_bench->libunwind.backtrace(g_bench->addresses, kMaxFrames));
    default:
      return UnwStep(context);
  }
}

void OnSample(int, siginfo_t*, void* raw) {
  int saved_errno = errno;
  Bench* bench = g_bench;
  uint32_t count = bench->count.load(std::memory_order_relaxed);
  if (count < kMaxSamples && !bench->busy.test_and_set(std::memory_order_acquire)) {
    uint32_t method = bench->method;
    auto& context = *static_cast<ucontext_t*>(raw);
    // The agent has them from its table of threads: no part of the walk. (They are two system calls here.)
    StackBounds bounds = InterruptedStackBounds(context);
    uint64_t start = NowNanos();
    uint32_t depth = Walk(method, context, bounds);
    uint64_t nanos = NowNanos() - start;
    bench->samples[count] = {static_cast<uint32_t>(nanos), static_cast<uint16_t>(depth),
                             static_cast<uint16_t>(method)};
    bench->count.store(count + 1, std::memory_order_relaxed);
    bench->busy.clear(std::memory_order_release);
  }
  errno = saved_errno;
}

void Report() {
  signal(SIGPROF, SIG_IGN);
  FILE* out = fdopen(g_bench->out, "a");
  if (out == nullptr) return;
  for (uint32_t i = 0; i < g_bench->count; ++i) {
    const Sample& sample = g_bench->samples[i];
    fprintf(out, "%s %s %u %u\n", program_invocation_short_name, kNames[sample.method], sample.nanos,
            sample.depth);
  }
  fclose(out);
}

__attribute__((constructor)) void StartBench() {
  const char* path = getenv("UNWIND_REAL_OUT");
  if (path == nullptr) return;
  static Bench bench;
  const char* method = getenv("UNWIND_REAL_METHOD");
  for (uint32_t i = 0; method != nullptr && i < 4; ++i) {
    if (strcmp(kNames[i], method) == 0) bench.method = i;
  }
  g_bench = &bench;
  bench.out = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (bench.out < 0 || !bench.libunwind.Load()) return;
  if (!bench.ledger.CreateAnonymous(Bytes{kLedgerDefaultSize}) || !bench.unwinder.Start(&bench.ledger))
    return;
  pthread_atfork(nullptr, nullptr, [] { signal(SIGPROF, SIG_IGN); });
  atexit(Report);
  StartSampling(OnSample);
}

}  // namespace
}  // namespace profagent
