#include "symbolizer/run/run.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <deque>
#include <exception>
#include <filesystem>
#include <new>
#include <set>
#include <system_error>

#include "agent/base/signal_text.h"
#include "symbolizer/check/check_binary.h"
#include "symbolizer/profile/write_profile.h"
#include "symbolizer/run/agent_library.h"
#include "symbolizer/run/child_process.h"
#include "symbolizer/run/harvest.h"
#include "symbolizer/run/jit_names.h"
#include "symbolizer/run/ledger_directory.h"
#include "symbolizer/run/ledger_watch.h"
#include "symbolizer/run/output_names.h"
#include "symbolizer/run/outputs.h"
#include "symbolizer/run/program_file.h"
#include "symbolizer/run/run_environment.h"
#include "symbolizer/run/run_report.h"
#include "symbolizer/run/run_summary.h"
#include "symbolizer/run/symbolize_together.h"

namespace profagent {
namespace {

constexpr int kExitFailure = 1;
constexpr int kExitNotExecutable = 126;
constexpr int kExitNotFound = 127;

// A path that LD_PRELOAD can carry: the loader splits it at spaces and colons and expands $ORIGIN and its like.
Result<std::string> PreloadablePath(const std::string& library, const std::string& directory) {
  if (library.find_first_of(" :$") == std::string::npos) return library;
  std::string link = directory + "/libprofagent.so";
  std::error_code error;
  std::filesystem::create_symlink(library, link, error);
  if (error) return Error::Of("cannot make ", link, ": ", error.message());
  return link;
}

// What `profagent check` knows against it; empty: nothing. The program is run in any case.
struct Obstacles {
  std::string any_profile;
  std::string heap_profile;
  bool dies_of_agent = false;
};

Obstacles FindObstacles(const std::string& program) {
  Obstacles obstacles;
  Result<CheckReport> report = CheckBinary(program);
  if (!report) return obstacles;  // neither ELF nor script: execvp gives it to /bin/sh
  for (const Finding& finding : report->findings) {
    if (finding.verdict == Verdict::kBlocked && obstacles.any_profile.empty())
      obstacles.any_profile = finding.meaning;
    obstacles.dies_of_agent |= finding.dies_of_agent;
    if (!finding.empty_heap.empty()) obstacles.heap_profile = "will be empty: it " + finding.empty_heap;
    if (!finding.small_heap.empty())
      obstacles.heap_profile = "will have only what it allocates by malloc: it " + finding.small_heap;
  }
  return obstacles;
}

void TellObstacles(const Obstacles& obstacles, const RunOptions& options, RunReport& report) {
  if (!obstacles.any_profile.empty()) {
    report.Problem(
        options.command[0] + " cannot be profiled: " + obstacles.any_profile +
        (obstacles.dies_of_agent ? "; running it without the agent" : "; running it all the same"));
  } else if (!obstacles.heap_profile.empty() && options.kinds.heap.taken) {
    const std::string sentence = "the heap profile of " + options.command[0] + " " + obstacles.heap_profile;
    options.kinds.heap.asked ? report.Problem(sentence) : report.Line(sentence);
  }
}

// False: at least one could not be written.
bool WriteAll(std::deque<Output>& outputs, RunReport& report) {
  bool all_written = true;
  for (Output& output : outputs) {
    Status status = WriteProfile(output.profile, output.file);
    output.written |= static_cast<bool>(status);
    if (status) continue;
    report.Problem(std::string(status.error().text.view()));
    all_written = false;
  }
  return all_written;
}

// "a, b, c, ...": enough to know them by, never a screenful.
class ShortList {
 public:
  void Add(const std::string& item) {
    if (++count_ <= kShown) text_ += (count_ > 1 ? ", " : "") + item;
  }
  size_t count() const { return count_; }
  std::string text() const { return count_ > kShown ? text_ + ", ..." : text_; }

 private:
  static constexpr size_t kShown = 5;
  size_t count_ = 0;
  std::string text_;
};

std::string Counted(size_t count, const std::string& one, const std::string& many) {
  return std::to_string(count) + " " + (count == 1 ? one : many);
}

// A shell would have said it of its own child, which is now us. After an exec the last image that has records may not be the
// program that died: that one could not be profiled.
void TellDeath(const std::string& command, const ProcessProfiles* main_image, int wait_status,
               RunReport& report) {
  const bool recorded = main_image != nullptr && main_image->end != ProcessEnd::kExecuted;
  report.Line((recorded ? ProcessText(*main_image) : command) + " was killed by " +
              std::string(SignalText(WTERMSIG(wait_status)).view()) +
              (WCOREDUMP(wait_status) ? " (core dumped)" : "") +
              (recorded ? "; its profiles have all samples up to then" : ""));
}

// A daemon that was just forked when the command ended, or a program that the agent is not in: of those that are running
// still, the ones that the records know nothing of.
ShortList RunningWithoutRecords(const Harvest& harvest, const std::string& ledger_directory) {
  ShortList running;
  for (const ToldProcess& process : ProcessesToldOf(ledger_directory)) {
    const bool recorded = std::ranges::any_of(harvest.processes, [&](const ProcessProfiles& image) {
      return image.pid == process.pid && image.still_records;
    });
    if (!recorded) running.Add(process.name + " (pid " + std::to_string(process.pid) + ")");
  }
  return running;
}

// How the processes ended, as far as it says something about their profiles, and what is missing from these.
void TellProcesses(const std::string& command, const Harvest& harvest, const ShortList& without_records,
                   pid_t main_pid, int wait_status, bool heap_is_told, RunReport& report) {
  for (const std::string& problem : harvest.problems) report.Problem(problem);
  const ProcessProfiles* main_image = MainImage(harvest, main_pid);
  if (WIFSIGNALED(wait_status)) TellDeath(command, main_image, wait_status, report);
  size_t empty = 0;
  ShortList running;
  ShortList abrupt;
  ShortList sandboxed;
  ShortList with_own_allocator;
  for (const ProcessProfiles& process : harvest.processes) {
    if (process.still_records) running.Add(ProcessText(process));
    // Of others than our own child nobody tells us how they ended.
    const bool is_child = process.pid == static_cast<uint32_t>(main_pid);
    if (!is_child && process.ended_abruptly() && process.has_samples) abrupt.Add(ProcessText(process));
    // What a process was before an exec is no process.
    if (!process.has_samples && !process.became_another && &process != main_image) ++empty;
    if (process.end == ProcessEnd::kSandboxed && process.has_samples) sandboxed.Add(ProcessText(process));
    // Of the command itself it was said before it started.
    if (process.has_own_allocator && !(heap_is_told && is_child))
      with_own_allocator.Add(ProcessText(process));
    if (process.lost_nanos > 0) {
      report.Line(ProcessText(process) + ": " + SecondsText(process.lost_nanos) +
                  " of CPU time could not be recorded; the profile's comments say why");
    }
    if (process.unseen_nanos > 0) {
      report.Line(
          ProcessText(process) + ": " + SecondsText(process.unseen_nanos) +
          " of CPU time is in no profile: it was spent in threads that were made past "
          "pthread_create, or by one that the program got from dlsym, or in the kernel's for io_uring");
    }
    if (process.hidden_children > 0) {
      report.Line(ProcessText(process) + ": " + Counted(process.hidden_children, "child is", "children are") +
                  " in no profile: a chroot hides the records from what is forked in it");
    }
  }
  if (abrupt.count() > 0) {
    report.Line(Counted(abrupt.count(), "process was", "processes were") +
                " killed or ended past libc: " + abrupt.text() + "; all samples up to then are there");
  }
  if (with_own_allocator.count() > 0) {
    report.Line(Counted(with_own_allocator.count(), "process has", "processes have") +
                " an allocator inside, and no heap profile: " + with_own_allocator.text());
  }
  if (sandboxed.count() > 0) {
    report.Line(Counted(sandboxed.count(), "process", "processes") +
                " entered a sandbox (seccomp): " + sandboxed.text() + "; profiled up to there");
  }
  if (running.count() > 0) {
    report.Line(Counted(running.count(), "process is", "processes are") +
                " still running: " + running.text() + "; profiled up to now (--wait waits for them)");
  }
  if (without_records.count() > 0) {
    report.Line(Counted(without_records.count(), "process is", "processes are") + " still running: " +
                without_records.text() + "; without records so far (--wait waits for them)");
  }
  if (empty > 0) {
    report.Line(Counted(empty, "process", "processes") +
                " of the tree did too little for a sample and got no file");
  }
}

// The ".PROGRAM.PID" of all that left records.
std::set<std::string> RecordedProcesses(const Harvest& harvest) {
  std::set<std::string> suffixes;
  for (const ProcessProfiles& process : harvest.processes)
    suffixes.insert(ProcessSuffix(process.program, process.pid));
  return suffixes;
}

// False: nothing has changed.
bool SymbolizeAll(std::deque<Output>& outputs, RunReport& report) {
  std::vector<Profile*> profiles;
  size_t locations = 0;
  for (Output& output : outputs) {
    if (output.profile.sample_size() == 0) continue;
    profiles.push_back(&output.profile);
    locations += static_cast<size_t>(output.profile.location_size());
  }
  if (profiles.empty()) return false;
  report.Progress("finding functions, files and lines of " + std::to_string(locations) + " addresses...");
  if (Status status = SymbolizeTogether(profiles, SymbolizeOptions::FromEnvironment(), nullptr); !status) {
    report.ClearProgress();
    report.Problem(std::string(status.error().text.view()));
    return false;
  }
  report.ClearProgress();
  return true;
}

void KeepRecords(LedgerDirectory& directory, RunReport& report) {
  std::string places;
  for (const std::string& path : directory.paths()) places += (places.empty() ? "" : " and ") + path;
  report.Line("the records are kept for a day, in " + places);
  directory.Keep();
}

// All that comes after the command's end. `obstacles`: what was said before, so that no records may be no surprise.
void Conclude(const RunOptions& options, OutputNames& names, LedgerDirectory& directory, LedgerWatch& watch,
              ChildProcess& child, int wait_status, const Obstacles& obstacles, RunReport& report) {
  watch.Note();
  const std::string records = directory.path();
  const bool records_removed = access(records.c_str(), F_OK) != 0;  // by who cleans up temporary files
  Harvest harvest = HarvestLedgers(directory.List(), watch, options.kinds.Written());
  Outputs outputs(options.kinds);
  for (const OutputNames::SelfWritten& written : names.TakeSelfWritten(RecordedProcesses(harvest))) {
    if (!outputs.AddSelfWritten(written)) continue;  // no profile: somebody else's file
    report.Line(written.file +
                " was written by the process itself: it could not use the directory of the records");
  }
  outputs.AddHarvest(harvest, child.pid(), names);
  NameJitCode(outputs.all(), report);
  if (options.merge) {
    if (Status merged = outputs.Merge(); !merged) report.Problem(std::string(merged.error().text.view()));
  }
  const ShortList without_records = RunningWithoutRecords(harvest, directory.path());
  // What went down a pipe cannot be replaced: there is one writing then, the last, in which a signal may end us.
  const bool once = names.is_device() && options.symbolize;
  bool written = !once && WriteAll(outputs.all(), report);
  const auto let_records_go = [&] {
    if (options.keep_ledgers || !written) KeepRecords(directory, report);
    directory.Remove();
  };
  if (!once) let_records_go();
  child.ReleaseSignals();

  const bool symbolized = options.symbolize && (written || once) && SymbolizeAll(outputs.all(), report);
  if (symbolized || once) written = WriteAll(outputs.all(), report);
  if (once) let_records_go();
  if (records_removed) {
    report.Problem("somebody removed " + records + ", where the records were; what they held is lost");
  } else if (outputs.all().empty() && obstacles.any_profile.empty()) {
    report.Problem("the command left no records: the agent was not loaded into it, or could not start");
  }
  TellProcesses(options.command[0], harvest, without_records, child.pid(), wait_status,
                !obstacles.heap_profile.empty(), report);
  Summarize(outputs.all(), options.kinds, child.cpu_time(), options.top, report);
}

}  // namespace

int Run(const RunOptions& wanted) {
  const WriteSignals write_signals = IgnoreWriteSignals();
  RunOptions options = wanted;
  options.kinds.HeedEnvironment(environ);
  const std::vector<ProfileKind> kinds = options.kinds.Written();
  RunReport report(options.quiet);

  // All that can go wrong, before the command starts.
  Result<std::string> program = FindProgram(options.command[0], getenv("PATH"));
  if (!program) {
    report.Problem(std::string(program.error().text.view()));
    return program.error().code == ENOENT ? kExitNotFound : kExitNotExecutable;
  }
  Result<OutputNames> names = OutputNames::Prepare(options.output, kinds);
  Result<std::string> library = FindAgentLibrary();
  if (!names || !library) {
    report.Problem(std::string((!names ? names.error() : library.error()).text.view()));
    return kExitFailure;
  }
  for (const std::string& left : TidyLeftOvers()) {
    report.Line("a run that was killed left its records in " + left +
                "; remove the directory if you do not need them");
  }
  Result<LedgerDirectory> directory = LedgerDirectory::Create();
  if (!directory) {
    report.Problem(std::string(directory.error().text.view()));
    return kExitFailure;
  }
  if (directory->on_disk()) {
    report.Line("recording to " + directory->path() + ", on a disk, which may slow the command down");
  }
  Result<std::string> preload = PreloadablePath(*library, directory->path());
  if (!preload) {
    report.Problem(std::string(preload.error().text.view()));
    return kExitFailure;
  }
  const Obstacles obstacles = FindObstacles(*program);
  TellObstacles(obstacles, options, report);

  LedgerWatch watch(directory->path(), [&](const std::string& ledger) { directory->MakeRoomOf(ledger); });
  if (options.wait_for_all) prctl(PR_SET_CHILD_SUBREAPER, 1);
  const AgentSettings settings{*preload, directory->path(), options.kinds, names->patterns()};
  Result<ChildProcess> child = ChildProcess::Start(
      *program, options.command,
      obstacles.dies_of_agent ? CopyEnvironment(environ) : MakeRunEnvironment(environ, settings),
      write_signals);
  if (!child) {
    report.Problem(std::string(child.error().text.view()));
    if (child.error().code == 0) return kExitFailure;
    return child.error().code == ENOENT ? kExitNotFound : kExitNotExecutable;
  }
  const int wait_status = child->Wait(&watch);
  if (options.wait_for_all) child->WaitForOrphans(&watch);

  try {
    Conclude(options, *names, *directory, watch, *child, wait_status, obstacles, report);
  } catch (const std::exception& error) {
    // The command's end stands, whatever becomes of its profiles.
    const bool no_memory = dynamic_cast<const std::bad_alloc*>(&error) != nullptr;
    report.Problem(std::string("not all is done: ") + (no_memory ? "out of memory" : error.what()));
    if (!directory->path().empty()) KeepRecords(*directory, report);
  }
  child->ReleaseSignals();
  const bool died_of_interrupt = WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGINT;
  if (died_of_interrupt && child->interrupted_at_terminal()) DieOfInterrupt();
  return ExitStatusOf(wait_status);
}

}  // namespace profagent
