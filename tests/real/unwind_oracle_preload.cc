// The oracle: in a real program, each SIGPROF is walked by us and by libunwind's unw_step, and the frames compared.
//
// Use:     LD_PRELOAD=libunwind_oracle.so UNWIND_ORACLE_OUT=FILE PROGRAM; tests/real/unwind_oracle.py does that
//          for the programs of the issue. FILE gets one line a process: samples, equal ones, and the differences
//          that have a name, then up to 20 of those that have none, both stacks each.
// Compared: every address, leaf exact, callers one byte back (not behind signal frames), and where the stack ends.
// Classes of differences that are known (each is counted by its name, and is not an equal sample). The programs of
// unwind_oracle.py show but the last: 12 643 samples of its --full mode, all others equal:
//   deeper     libunwind stopped early: ours begins with all of its frames and goes on to a proper end. Its
//              fallback without unwind information knows neither return instructions nor direct calls.
//   no_cfi     the stacks part at a frame that no FDE covers: nobody can know; both guess.
//   at_return  libunwind follows rules that are wrong, to a word that is no code: the leaf is a return instruction, whose
//              return address is on top of the stack whatever they say (libcrypto's x25519, one sample in some 1000 of
//              `openssl speed`). Ours goes on to a proper end. The one class that is taken off: nobody's rule is right there.
#include <fcntl.h>
#include <link.h>

#include <atomic>

#include "tests/bench/unwind_sampler.h"

namespace profagent {
namespace {

constexpr int kMaxFrames = 1024;
constexpr int kMaxShown = 20;

struct Oracle {
  Ledger ledger;
  Unwinder unwinder;
  LibUnwind libunwind;
  int out = -1;
  std::atomic<uint64_t> samples{0}, equal{0}, deeper{0}, no_cfi{0}, at_return{0}, shown{0};
  std::atomic<uint64_t> ends[8] = {};
  std::atomic_flag busy = ATOMIC_FLAG_INIT;
  Frame frames[kMaxFrames];
  uintptr_t ours[kMaxFrames], theirs[kMaxFrames];
};
Oracle* g_oracle = nullptr;

int WalkWithLibUnwind(const ucontext_t& context, uintptr_t* addresses) {
  unw_cursor_t cursor;
  unw_context_t copy = context;
  LibUnwind& libunwind = g_oracle->libunwind;
  if (libunwind.init_local2(&cursor, &copy, UNW_INIT_SIGNAL_FRAME) != 0) return 0;
  int depth = 0;
  do {
    // True of the interrupted frame itself, the leaf and those behind a signal restorer.
    bool exact = depth == 0 || libunwind.is_signal_frame(&cursor) > 0;
    unw_word_t pc = 0;
    libunwind.get_reg(&cursor, UNW_REG_IP, &pc);
    if (pc == 0) break;
    addresses[depth++] = exact ? pc : pc - 1;
  } while (depth < kMaxFrames && libunwind.step(&cursor) > 0);
  return depth;
}

void Show(const char* whose, const uintptr_t* addresses, int depth) {
  for (int i = 0; i < depth; ++i) {
    dl_find_object found;
    char line[4400];
    int size;
    if (_dl_find_object(reinterpret_cast<void*>(addresses[i]), &found) == 0) {
      const char* name = found.dlfo_link_map->l_name;
      size = snprintf(line, sizeof line, "  %s %3d %s+0x%lx\n", whose, i, *name != '\0' ? name : "program",
                      addresses[i] - found.dlfo_link_map->l_addr);
    } else {
      size = snprintf(line, sizeof line, "  %s %3d 0x%lx\n", whose, i, addresses[i]);
    }
    if (write(g_oracle->out, line, static_cast<size_t>(size)) < 0) return;
  }
}

bool HasFde(uintptr_t address) {
  ModuleMap::Reader reader(&g_oracle->unwinder.modules());
  const Module* module = g_oracle->unwinder.modules().Find(address);
  FrameEntry entry;
  if (module == nullptr) return false;
  const EhFrameTables& tables = g_oracle->unwinder.modules().TablesOf(*module);
  return !tables.segment.empty() && FindFrameEntry(tables, nullptr, address, &entry);
}

bool IsReturn(uintptr_t address) {
  auto* code = reinterpret_cast<const uint8_t*>(address);
  return code[0] == 0xc3 || code[0] == 0xc2 || (code[0] == 0xf3 && code[1] == 0xc3);
}

bool IsInObject(uintptr_t address) {
  dl_find_object found;
  return _dl_find_object(reinterpret_cast<void*>(address), &found) == 0;
}

void OnSample(int, siginfo_t*, void* raw) {
  int saved_errno = errno;
  Oracle* oracle = g_oracle;
  auto& context = *static_cast<ucontext_t*>(raw);
  if (!oracle->busy.test_and_set(std::memory_order_acquire)) {
    WalkResult result = oracle->unwinder.Walk(context, InterruptedStackBounds(context), oracle->frames);
    int depth = static_cast<int>(result.depth);
    for (int i = 0; i < depth; ++i) {
      Frame frame = oracle->frames[i];
      uintptr_t bias =
          frame.module() == ModuleId::kSynthetic ? 0 : oracle->unwinder.modules().load_bias(frame.module());
      oracle->ours[i] = bias + frame.offset();
    }
    int their_depth = WalkWithLibUnwind(context, oracle->theirs);
    ++oracle->samples;
    ++oracle->ends[static_cast<int>(result.end)];
    int common = 0;
    while (common < depth && common < their_depth && oracle->ours[common] == oracle->theirs[common]) ++common;
    if (common == depth && common == their_depth) {
      ++oracle->equal;
    } else {
      if (common == their_depth && common < depth && result.end == WalkEnd::kOutermost) {
        ++oracle->deeper;
      } else if (common == 1 && their_depth > 1 && result.end == WalkEnd::kOutermost &&
                 IsReturn(oracle->ours[0]) && !IsInObject(oracle->theirs[1])) {
        ++oracle->at_return;
      } else if (common > 0 && !HasFde(oracle->ours[common - 1])) {
        ++oracle->no_cfi;
      }
      if (oracle->shown++ < kMaxShown) {
        char line[200];
        int size =
            snprintf(line, sizeof line, "difference: first %d frames equal, ours %d end %d, theirs %d\n",
                     common, depth, static_cast<int>(result.end), their_depth);
        if (write(oracle->out, line, static_cast<size_t>(size)) > 0) {
          Show("ours", oracle->ours, depth);
          Show("theirs", oracle->theirs, their_depth);
        }
      }
    }
    oracle->busy.clear(std::memory_order_release);
  }
  errno = saved_errno;
}

void Report() {
  Oracle* oracle = g_oracle;
  signal(SIGPROF, SIG_IGN);
  dprintf(oracle->out, "program %s samples %lu equal %lu deeper %lu no_cfi %lu at_return %lu ends",
          program_invocation_short_name, oracle->samples.load(), oracle->equal.load(), oracle->deeper.load(),
          oracle->no_cfi.load(), oracle->at_return.load());
  for (int i = 0; i < 5; ++i) dprintf(oracle->out, " %lu", oracle->ends[i].load());
  dprintf(oracle->out, "\n");
}

__attribute__((constructor)) void StartOracle() {
  const char* path = getenv("UNWIND_ORACLE_OUT");
  if (path == nullptr) return;
  static Oracle oracle;
  g_oracle = &oracle;
  oracle.out = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (oracle.out < 0 || !oracle.libunwind.Load()) return;
  if (!oracle.ledger.CreateAnonymous(Bytes{kLedgerDefaultSize}) || !oracle.unwinder.Start(&oracle.ledger))
    return;
  pthread_atfork(nullptr, nullptr, [] { signal(SIGPROF, SIG_IGN); });
  atexit(Report);
  StartSampling(OnSample);
}

}  // namespace
}  // namespace profagent
