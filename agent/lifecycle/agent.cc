#include "agent/lifecycle/agent.h"

#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/base/lineage.h"
#include "agent/base/log.h"
#include "agent/base/raw_syscall.h"
#include "agent/base/thread_state.h"
#include "agent/capture/contention.h"
#include "agent/capture/cpu_capture.h"
#include "agent/capture/cpu_timers.h"
#include "agent/capture/heap_sampler.h"
#include "agent/capture/thread_starts.h"
#include "agent/capture/virtual_signals.h"
#include "agent/interpose/allocator.h"
#include "agent/interpose/foreign_allocator.h"
#include "agent/interpose/gprof_hooks.h"
#include "agent/interpose/library_hooks.h"
#include "agent/interpose/lock_hooks.h"
#include "agent/interpose/real_functions.h"
#include "agent/interpose/slot_patch.h"
#include "agent/lifecycle/process_life.h"
#include "agent/lifecycle/program_path.h"
#include "agent/lifecycle/wanted_profiles.h"

extern "C" void* __libc_stack_end;  // where the kernel put the first thread's stack pointer; ld.so's

namespace profagent {
namespace {

static_assert(kOptionMinMemory == kLedgerMinSize && kOptionMaxMemory == kLedgerMaxSize &&
              kOptionDefaultMemory == kLedgerDefaultSize);
static_assert(kOptionMaxDepth == kMaxDepthLimit && kOptionDefaultDepth == kDefaultMaxDepth);

// The kernel keeps at least this much below a stack free of mappings, whatever the limit says.
constexpr uintptr_t kStackGap = uintptr_t{128} << 20;
constexpr uint32_t kMostImages = 1000;  // process images of one pid under `profagent run`

StackBounds MainStack() {
  struct rlimit limit = {};
  RawSyscall(SYS_prlimit64, 0, RLIMIT_STACK, nullptr, &limit);
  uintptr_t size = limit.rlim_cur < kStackGap ? limit.rlim_cur : kStackGap;
  // argc and the first argument's pointer stand there.
  uintptr_t high = reinterpret_cast<uintptr_t>(__libc_stack_end) + 2 * sizeof(void*);
  return {high > size ? high - size : 0, high};
}

void ReportOption(std::string_view line) { WriteLogLine(line); }

template <size_t kSize>
std::string_view ReadLink(const char* path, char (&memory)[kSize]) {
  long size = RawSyscall(SYS_readlinkat, AT_FDCWD, path, memory, kSize);
  return size > 0 ? std::string_view(memory, static_cast<size_t>(size)) : std::string_view();
}

template <size_t kSize>
std::string_view ReadFile(const char* path, char (&memory)[kSize]) {
  long fd = RawSyscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  long size = RawSyscall(SYS_read, fd, memory, kSize);
  RawSyscall(SYS_close, fd);
  return size > 0 ? std::string_view(memory, static_cast<size_t>(size)) : std::string_view();
}

constinit Options g_options;  // 68 KiB of zeroes: not in the Agent, which is initialised data

constexpr LibraryEvents kLibraryEvents{[] {
                                         BeforeObjectsClose();
                                         g_agent.unwinder().BeforeLibraryClose();
                                       },
                                       [] {
                                         g_agent.unwinder().AfterLibraryClose();
                                         AfterObjectsClose();
                                       }};

std::string_view WhyNoHeap(const FoundAllocator& allocator) {
  return allocator.place == AllocatorPlace::kSanitizer
             ? "a sanitizer has the allocator"
             : "the program has an allocator of its own linked into it";
}

}  // namespace

constinit Agent g_agent;

const Options& Agent::options() const { return g_options; }

void Agent::Start(const char* const* arguments) {
  if (getauxval(AT_SECURE) != 0) return;
  ResolveRealFunctions();
  ResolveLockFunctions();
  ParseOptions(__environ, ReportOption, &g_options);
  g_verbosity = g_options.verbosity;
  Lineage lineage = ReadLineage(__environ);
  // What the first process becomes by exec is the first process still.
  bool follow = lineage != Lineage::kLater || g_options.follow_children;
  if (!follow || !WantedBy(g_options).any_taken() || !OpenLedger()) {
    StartHeapSampler(0);
    StepAside();
    return;
  }
  RememberStandardError();
  // A smaller ledger loses nothing until it is full, which profiles say. One line is enough for a tree of processes.
  if (!ledger_.note().empty()) {
    Log(lineage == Lineage::kFirst ? Verbosity::kErrors : Verbosity::kDebug, ledger_.note());
  }
  DescribeProcess(arguments);
  Status unwinder = unwinder_.Start(&ledger_);
  if (!unwinder) Log(Verbosity::kErrors, "stacks have one frame: ", unwinder.error().text.view());
  SetLibraryEvents(&kLibraryEvents);
  if (!Real().signal_actions_are_libcs) g_virtual_signals.UseInterposer(Real().sigaction);
  StackBounds stack = MainStack();
  t_state.stack_low = stack.low;
  t_state.stack_high = stack.high;
  g_thread_starts.Start();
  active_.store(true, std::memory_order_release);
  if (g_options.cpu_wanted()) StartCpuCapture();
  StartHeapSampler(g_options.heap_rate);
  if (g_options.block_wanted || g_options.mutex_wanted) StartContention();
  StartProcessLife(lineage);
  UseHooks();
  StepAside();
}

bool Agent::OpenLedger() {
  if (!g_options.ledger_directory.empty()) {
    FixedText<240> reason;
    for (uint32_t serial = 0; serial < kMostImages; ++serial) {
      // Not on the stack: a child's may be that of a signal handler which forked, of 8 KiB.
      static constinit char memory[kMaxOptionText + 65];
      TextWriter path(memory, sizeof memory);
      path.Add(g_options.ledger_directory, '/', static_cast<uint32_t>(RawSyscall(SYS_getpid)), '.', serial,
               ".ledger");
      Status made = ledger_.CreateInFile(path.c_str(), g_options.memory);
      if (made) return true;
      reason = {};
      reason.Add(made.error().text.view());
      // The run that made the directory is over, and nobody will look for a profile: a daemon's later children.
      if (made.error().code == ENOENT) {
        Log(Verbosity::kFiles, "nothing is recorded: ", reason.view());
        return false;
      }
      if (made.error().code != EEXIST) break;
    }
    Log(Verbosity::kErrors, "the ledger is kept in memory: ", reason.view());
  }
  Status made = ledger_.CreateAnonymous(g_options.memory);
  if (!made) Log(Verbosity::kErrors, "nothing is recorded: ", made.error().text.view());
  return static_cast<bool>(made);
}

// `arguments`: the program's, as it was started; nullptr: it may have changed them.
void Agent::DescribeProcess(const char* const* arguments) {
  LedgerHeader* header = ledger_.header();
  header->pid = static_cast<uint32_t>(RawSyscall(SYS_getpid));
  header->parent_pid = static_cast<uint32_t>(RawSyscall(SYS_getppid));
  header->start_realtime_ns = ReadClock(CLOCK_REALTIME).value;
  header->start_monotonic_ns = ReadClock(CLOCK_MONOTONIC).value;
  // Found out once: a child may be in a chroot, or where a relative name leads elsewhere.
  static constinit char executable[4096], cwd[4096];
  static constinit std::string_view path, name, directory;  // in there
  if (arguments != nullptr) {
    path = FindProgramPath(ProgramClues::OfThisProcess(arguments[0]), executable);
    name = ProgramNameOf(path);
    directory = ReadLink("/proc/self/cwd", cwd);
    if (directory.empty() && RawSyscall(SYS_getcwd, cwd, sizeof cwd) > 0 && cwd[0] == '/') directory = cwd;
  }
  header->executable = ledger_.InternText(path).value;
  header->program = ledger_.InternText(name).value;
  header->working_directory = ledger_.InternText(directory).value;
  // Not on the stack: this may run on the small one of a thread that forked.
  static constinit char memory[4096];
  std::string_view text = ReadFile("/proc/self/cmdline", memory);
  while (!text.empty() && text.back() == '\0') text.remove_suffix(1);
  for (size_t i = 0; i < text.size(); ++i) {
    if (memory[i] == '\0') memory[i] = ' ';
  }
  header->command_line = ledger_.InternText(text).value;
  header->agent_version = ledger_.InternText(PROFAGENT_VERSION).value;
  header->max_depth = g_options.max_depth;
}

void Agent::StartHeapSampler(uint64_t rate) {
  if (g_options.heap_rate == 0 && !g_options.heap_profile.empty()) {
    Log(Verbosity::kErrors, "no heap profile: MEMPROFILERATE is 0");
  }
  FoundAllocator allocator{};
  if (rate != 0) {
    allocator = FindAllocator();
    if (!allocator.can_be_followed()) {
      // `profagent run` sets these variables itself, and has said it before the program started.
      bool asked_for = g_options.ledger_directory.empty() &&
                       (!g_options.heap_profile.empty() || g_options.heap_rate_given);
      Log(asked_for ? Verbosity::kErrors : Verbosity::kFiles,
          "the heap profile will be empty: ", WhyNoHeap(allocator));
      ledger_.Count(Loss::kHeapNotFollowed);
      rate = 0;
    }
  }
  g_heap_sampler.Start({&ledger_, &unwinder_, rate, g_options.max_depth});
  if (rate != 0) FollowAllocator(allocator);
}

void Agent::StartContention() {
  if (HasThreadSanitizer()) {
    Log(Verbosity::kErrors, "no block and mutex profiles: the program is built with the thread sanitizer");
    return;
  }
  g_contention.Start({&ledger_, &unwinder_, g_options.block_wanted ? g_options.block_rate : 0,
                      g_options.mutex_wanted ? g_options.mutex_fraction : 0, g_options.max_depth,
                      g_options.lock_labels});
  watches_locks_ = true;
}

void Agent::UseHooks() {
  UseLockHooks(watches_locks_ && g_options.block_wanted, watches_locks_ && g_options.mutex_wanted);
}

// Takes the hooks that no profile wants out of the program's way.
void Agent::StepAside() {
  IdleHooks idle;
  if (!g_heap_sampler.running()) AddAllocatorHooks(&idle);
  AddIdleLockHooks(watches_locks_ && g_options.block_wanted, watches_locks_ && g_options.mutex_wanted, &idle);
  TakeOutOfTheWay(idle);
}

void Agent::StartCpuCapture() {
  CpuCapture::Settings settings{};
  settings.ledger = &ledger_;
  settings.unwinder = &unwinder_;
  settings.frequency = g_options.cpu_frequency;
  settings.signo = g_options.cpu_signal;
  settings.want_perf_events = g_options.cpu_engine == WantedCpuEngine::kPerf;
  settings.max_depth = g_options.max_depth;
  settings.measure_handler = g_options.verbosity >= Verbosity::kDebug;
  settings.main_stack = {t_state.stack_low, t_state.stack_high};
  settings.before_death = EndBySignal;
  GprofPaused paused(settings.signo);
  g_cpu_capture.Start(settings);
}

void Agent::StopCpu() {
  if (active()) g_cpu_capture.Stop();
}

void Agent::SettleCpu() {
  if (active()) g_cpu_capture.SettleAll();
}

void Agent::TurnOff() {
  StopCpu();
  g_heap_sampler.Stop();
  UseLockHooks(false, false);
  active_.store(false, std::memory_order_release);
}

void Agent::BeforeFork() {
  g_cpu_capture.HoldThisThread();
  ledger_.BeforeFork();
}

void Agent::AfterForkParent() { g_cpu_capture.ReleaseThisThread(); }

// Behind a chroot there is no way to a ledger of its own. The parent's file is mapped still, and will be read (unless the run is
// over, and its directory gone with it).
void Agent::TellParentOfHiddenChild() {
  if (!g_options.follow_children || !ledger_.in_file()) return;
  const char* directory = g_options.ledger_directory.data();  // ends with a null byte, as all texts there
  if (RawSyscall(SYS_faccessat, AT_FDCWD, directory, F_OK) != -ENOENT) return;
  ledger_.header()->losses[static_cast<uint32_t>(Loss::kChildHidden)].fetch_add(1, std::memory_order_relaxed);
}

void Agent::RestartAfterForkInChild() {
  if (!active()) return g_cpu_capture.ReleaseThisThread();
  ForgetWhoLooksAtObjects();
  TellParentOfHiddenChild();
  ledger_.Vacate();  // in the child this is the parent's file, or memory that fork emptied
  bool record = g_options.follow_children && OpenLedger();
  if (record) {
    DescribeProcess(nullptr);
    unwinder_.RestartAfterFork(&ledger_);
  } else {
    active_.store(false, std::memory_order_release);
    UseLockHooks(false, false);
  }
  g_virtual_signals.ResetAfterFork();
  g_heap_sampler.RestartAfterFork(record);
  g_contention.RestartAfterFork(record);
  g_cpu_capture.RestartInForkedChild(record);
}

void Agent::PauseThisThreadForExec() { g_cpu_capture.PauseThisThreadForExec(); }

void Agent::BeforeSpawn() { g_cpu_capture.ShowSignalToChild(); }

void Agent::AfterSpawn() { g_cpu_capture.HideSignalAgain(); }

void Agent::ResumeAfterFailedExec() { g_cpu_capture.ResumeAfterFailedExec(); }

void Agent::StopSampling() {
  g_heap_sampler.Suspend(true);
  UseLockHooks(false, false);
  WantNewObjects(false);
  g_cpu_capture.Retreat();
}

void Agent::GiveSignalsBack(const AllSignalsBlocked& blocked) {
  // A tick may still be on its way to a thread (before Linux 6.13), and who asks for a dump does not mean to kill.
  uint64_t kept = g_options.cpu_wanted() ? SignalBit(g_options.cpu_signal) : 0;
  if (g_options.dump_signal != 0) kept |= SignalBit(g_options.dump_signal);
  g_virtual_signals.Retreat(blocked, kept);
  ledger_.Suspend(true);
}

void Agent::Return() {
  ledger_.Suspend(false);
  g_virtual_signals.Return(AllSignalsBlocked());
  g_cpu_capture.Return();
  if (!active()) return;
  WantNewObjects(true);
  UseHooks();
  g_heap_sampler.Suspend(false);
}

namespace {

// Before the constructors of the program and, as far as the loader's order allows it, of its libraries. libc hands over what main
// gets. (Before all constructors, by DF_1_INITFIRST, was tried: what other libraries' make ready is called by our own.)
__attribute__((constructor(101))) void StartAgent(int, char** arguments, char**) { g_agent.Start(arguments); }

}  // namespace
}  // namespace profagent
