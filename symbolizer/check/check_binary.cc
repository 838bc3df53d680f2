#include "symbolizer/check/check_binary.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "symbolizer/check/elf_facts.h"
#include "symbolizer/symbolize/binaries.h"
#include "symbolizer/symbolize/symbolize.h"

namespace profagent {
namespace {

// Interpreters that are scripts themselves: the kernel follows four.
constexpr int kLongestScriptChain = 4;
constexpr char kLoader[] = "/lib64/ld-linux-x86-64.so.2";

Error ErrnoError(const std::string& path, int code) {
  Error error = Error::Of(path, ": ", strerror(code));
  error.code = code;
  return error;
}

bool IsRegularFile(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

bool IsSameFile(const std::string& one, const std::string& other) {
  struct stat a, b;
  return stat(one.c_str(), &a) == 0 && stat(other.c_str(), &b) == 0 && a.st_dev == b.st_dev &&
         a.st_ino == b.st_ino;
}

std::string FindAlongPath(const std::string& program) {
  if (program.find('/') != std::string::npos) return program;
  const char* path = getenv("PATH");
  std::string_view rest = path != nullptr ? path : "/usr/local/bin:/usr/bin:/bin";
  while (!rest.empty()) {
    size_t colon = std::min(rest.find(':'), rest.size());
    std::string candidate(rest.substr(0, colon));
    if (!candidate.empty()) candidate += '/';
    candidate += program;
    if (IsRegularFile(candidate) && access(candidate.c_str(), X_OK) == 0) return candidate;
    rest.remove_prefix(std::min(colon + 1, rest.size()));
  }
  return program;  // perhaps a file of the current directory
}

// The first bytes of a file, enough for `#!` and its line.
Result<std::string> HeadOf(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return ErrnoError(path, errno);
  if (S_ISDIR(status.st_mode)) return Error::Of(path, ": is a directory");
  if (!S_ISREG(status.st_mode)) return Error::Of(path, ": not a regular file");
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoError(path, errno);
  std::string head(512, '\0');
  ssize_t got = pread(fd, head.data(), head.size(), 0);
  int code = errno;
  close(fd);
  if (got < 0) return ErrnoError(path, code);
  if (got == 0) return Error::Of(path, ": is empty");
  head.resize(static_cast<size_t>(got));
  return head;
}

// The program that runs a script with this first line; of `/usr/bin/env -S LANG=C python3 -u` it is python3.
std::string InterpreterOf(std::string_view head) {
  std::string_view line = head.substr(2, head.find('\n') - 2);
  std::vector<std::string> words;
  for (size_t start; (start = line.find_first_not_of(" \t")) != std::string_view::npos;) {
    line.remove_prefix(start);
    const size_t end = std::min(line.find_first_of(" \t"), line.size());
    words.emplace_back(line.substr(0, end));
    line.remove_prefix(end);
  }
  if (words.empty()) return {};
  if (!words[0].ends_with("/env")) return words[0];
  // Its own options, and variables that it sets, come first.
  for (size_t i = 1; i < words.size(); ++i) {
    std::string_view word = words[i];
    if (word.starts_with("-S")) word.remove_prefix(2);  // maybe without a blank behind it
    if (word == "-u" || word == "-C") ++i;              // of a variable, of a directory
    if (word.empty() || word.starts_with('-') || word.find('=') != word.npos) continue;
    return FindAlongPath(std::string(word));
  }
  return words[0];
}

class Checker {
 public:
  Checker(const ElfFile& file, CheckReport* report) : file_(file), facts_(FactsOf(file)), report_(report) {}

  void Run() {
    // These settle it: what else there is to say of a 32-bit or static program does not matter.
    if (!IsForThisMachine() || !IsProgramOrLibrary() || !IsWhole() || !HasLoader() || !HasRightLibc()) return;
    if (facts_.is_go) {
      Add(Verdict::kLimited,
          "a Go program: goroutines move between threads, and Go's own code has no unwind tables",
          "use the profiler that Go has: runtime/pprof, net/http/pprof");
    }
    CheckPrivileges();
    CheckSanitizers();
    CheckGprof();
    CheckUnwindTables();
    CheckAllocator();
    CheckNames();
  }

 private:
  void Add(Verdict verdict, std::string meaning, std::string remedy = "") {
    report_->findings.push_back({verdict, std::move(meaning), std::move(remedy), {}});
  }
  bool Defines(std::string_view name) const { return facts_.defined.contains(name); }
  bool Has(std::string_view name) const { return Defines(name) || facts_.undefined.contains(name); }

  bool IsForThisMachine() {
    if (facts_.machine == EM_X86_64 && facts_.is_64_bit) return true;
    std::string name =
        facts_.machine == EM_X86_64 ? "x32 (x86-64 with 32-bit pointers)" : MachineName(facts_.machine);
    Add(Verdict::kBlocked, "built for " + name + ": the agent is x86-64 code and cannot be loaded into it",
        "build it for x86-64");
    return false;
  }

  bool IsProgramOrLibrary() {
    if ((facts_.type == ET_EXEC || facts_.type == ET_DYN) && !facts_.is_debug_file) return true;
    std::string kind = facts_.is_debug_file     ? "a separate debug file"
                       : facts_.type == ET_REL  ? "an object file"
                       : facts_.type == ET_CORE ? "a core dump"
                                                : "an ELF file of an unknown kind";
    Add(Verdict::kBlocked, kind + ": it cannot be run", "name the program that it belongs to");
    return false;
  }

  // The rest of a file that a full disk or a broken download cut short could not be trusted: what is missing
  // looks like what was never there.
  bool IsWhole() {
    if (facts_.loaded_size <= facts_.size) return true;
    Add(Verdict::kBlocked,
        "cut short: it has " + std::to_string(facts_.size) + " bytes of the " +
            std::to_string(facts_.loaded_size) + " that its program headers ask for: it cannot be loaded",
        "get it again, whole");
    return false;
  }

  bool HasLoader() {
    if (!facts_.interpreter.empty()) return true;
    // A library asks for no loader either; a static PIE says that it is a program.
    if (facts_.type == ET_DYN && facts_.is_dynamic && !facts_.is_pie) {
      Add(Verdict::kFine, "a shared library: it is profiled in every program that loads it",
          "check the program, too");
      return true;
    }
    Add(Verdict::kBlocked,
        std::string(facts_.is_go ? "a static Go program" : "statically linked") +
            ": there is no loader that could load the agent",
        facts_.is_go ? "Go has a profiler of its own: runtime/pprof, net/http/pprof"
                     : "link it without -static");
    return false;
  }

  bool HasRightLibc() {
    const std::string& loader = facts_.interpreter;
    if (loader.empty()) return true;
    if (loader.find("ld-musl") != std::string::npos) {
      Add(Verdict::kBlocked, "linked with musl (" + loader + "): the agent needs glibc 2.35 or newer",
          "build it on a system with glibc");
      report_->findings.back().dies_of_agent = true;
      return false;
    }
    if (!IsRegularFile(loader)) {
      Add(Verdict::kBlocked,
          "asks for the loader " + loader + ", which is not on this machine: it cannot start",
          "check it where it runs");
      return false;
    }
    if (!IsSameFile(loader, kLoader)) {
      Add(Verdict::kLimited, "has a loader and a libc of its own (" + loader + ")",
          "make sure that they are glibc 2.35 or newer: older ones cannot load the agent");
      return true;
    }
    Add(Verdict::kFine, "dynamically linked, x86-64, glibc");
    return true;
  }

  // Privileges that come from the file set AT_SECURE, and then the loader ignores LD_PRELOAD. Not for those who have
  // them anyway.
  void CheckPrivileges() {
    struct stat status;
    if (stat(file_.path().c_str(), &status) != 0) return;
    std::string names;
    bool gains = false;
    auto add = [&](const char* name, bool is_gain) {
      names += std::string(names.empty() ? "" : ", ") + name;
      gains |= is_gain;
    };
    if ((status.st_mode & S_ISUID) != 0) add("setuid", status.st_uid != getuid());
    // Without the group's execute bit, this one once meant mandatory locks.
    if ((status.st_mode & S_ISGID) != 0 && (status.st_mode & S_IXGRP) != 0)
      add("setgid", status.st_gid != getgid());
    if (getxattr(file_.path().c_str(), "security.capability", nullptr, 0) > 0)
      add("file capabilities", getuid() != 0);
    if (names.empty()) return;
    if (gains) {
      Add(Verdict::kBlocked, names + ": for the sake of safety the loader ignores LD_PRELOAD",
          "run it as its owner, or profile a copy (cp leaves the privilege behind)");
    } else {
      Add(Verdict::kLimited,
          names + ": works for you, but for those who gain a privilege by it the loader ignores LD_PRELOAD",
          "profile it as the user you are now");
    }
  }

  // As the runtime will read it.
  static bool AsanBearsPreload() {
    const char* options = getenv("ASAN_OPTIONS");
    return options != nullptr &&
           std::string_view(options).find("verify_asan_link_order=0") != std::string_view::npos;
  }

  void CheckSanitizers() {
    if ((facts_.Needs("libasan.") || facts_.Needs("libclang_rt.asan")) && !AsanBearsPreload()) {
      Add(Verdict::kBlocked,
          "built with -fsanitize=address: its runtime refuses to start behind a preloaded library",
          "build it without, or set ASAN_OPTIONS=verify_asan_link_order=0");
      report_->findings.back().dies_of_agent = true;
    } else if (Has("__asan_init") || Has("__msan_init") || Has("__hwasan_init")) {
      Add(Verdict::kLimited,
          "built with a sanitizer: its checks and its allocator take most of the time and memory",
          "build it without -fsanitize");
    }
    if (Has("__tsan_init")) {
      Add(Verdict::kLimited,
          "built with -fsanitize=thread: its runtime puts signals off, so CPU samples land in the wrong "
          "place",
          "build it without -fsanitize");
    }
  }

  // profil() sets its handler and its timer from inside libc, where nothing can step in between.
  void CheckGprof() {
    // libc, which has them, calls none.
    const auto calls = [&](std::string_view name) { return facts_.undefined.contains(name); };
    if (!calls("mcount") && !calls("_mcount") && !calls("__fentry__") && !calls("__monstartup")) return;
    Add(Verdict::kLimited, "built with -pg: gprof takes SIGPROF, the signal of our CPU samples, for itself",
        "build it without -pg, or set PROFAGENT_CPU_SIGNAL to another signal");
  }

  void CheckUnwindTables() {
    if (facts_.has_eh_frame_header || facts_.is_go) return;
    std::string what = facts_.has_eh_frame ? "no .eh_frame_hdr, the index of its unwind tables"
                                           : "no .eh_frame, the unwind tables";
    std::string remedy = facts_.has_eh_frame ? "link it with -Wl,--eh-frame-hdr"
                                             : "compile it with -fasynchronous-unwind-tables";
    Add(Verdict::kLimited, what + ": stacks through its functions are right only if they keep frame pointers",
        remedy + ", or with -fno-omit-frame-pointer");
  }

  void CheckAllocator() {
    if (!Defines("malloc") || !Defines("free")) {
      CheckAllocatorBesideLibcs();
      return;
    }
    // libc, jemalloc: what a library exports is called by way of the agent.
    if (facts_.exports_malloc && (facts_.has_soname || facts_.interpreter.empty())) return;
    std::string name = "its own";
    if (Defines("mallctl") || Defines("je_malloc") || Defines("je_mallctl")) name = "jemalloc";
    if (Defines("tc_malloc") || Defines("MallocExtension_Initialize")) name = "tcmalloc";
    if (Defines("mi_malloc")) name = "mimalloc";
    const std::string what = "defines malloc and free itself (" + name + ")";
    Add(Verdict::kLimited, what + ": heap profiles do not see its allocations; CPU profiles are complete",
        "link the allocator as a shared library");
    report_->findings.back().empty_heap = what;
  }

  // Under names of its own: jemalloc in Rust programs and in redis.
  void CheckAllocatorBesideLibcs() {
    for (const char* name : {"_rjem_malloc", "_rjem_je_malloc", "je_malloc", "mi_malloc", "tc_malloc"}) {
      if (!Defines(name)) continue;
      const std::string what = std::string("has an allocator linked into it (") + name + ")";
      Add(Verdict::kLimited,
          what + ": heap profiles see only what it allocates by malloc; CPU profiles are complete",
          "build it with the system's allocator, or link the allocator as a shared library");
      report_->findings.back().small_heap = what;
      return;
    }
  }

  void CheckNames() {
    SymbolizeOptions options = SymbolizeOptions::FromEnvironment();
    // Without debuginfod: a check does not go to the network.
    Binary binary = BinaryFinder(options.debug_path, false).Find(file_.path(), file_.build_id());
    std::string note = binary.problem.empty() ? "" : " (" + binary.problem + ")";
    if (binary.dwarf() != nullptr && binary.dwarf()->HasUnreadableDebugInfo()) {
      Add(Verdict::kLimited, kUnreadableDebugInfo + note, kUnreadableDebugInfoRemedy);
    } else if (file_.HasDebugInfo()) {
      Add(Verdict::kFine, "has debug information: functions, files, lines and inlined calls" + note);
    } else if (binary.dwarf() != nullptr) {
      Add(Verdict::kFine, "its debug information is installed: " + binary.dwarf()->path() + note);
    } else if (facts_.has_symbol_table) {
      Add(Verdict::kLimited,
          "no debug information: names of functions, but no files, lines and inlined calls" + note,
          "compile it with -g, or install its debug symbols");
    } else if (file_.HasSection(".gnu_debugdata")) {
      Add(Verdict::kLimited,
          "its symbol table is compressed (.gnu_debugdata), and there is no debug information: names of "
          "functions by profagent run or symbolize, but no files, lines and inlined calls" +
              note,
          "install its debug symbols, or set DEBUGINFOD_URLS");
    } else if (facts_.is_go && file_.HasSection(".gopclntab")) {
      Add(Verdict::kLimited,
          "no symbol table and no debug information: names of functions from Go's own table, but no files, "
          "lines and inlined calls" +
              note,
          "do not strip it, or install its debug symbols");
    } else {
      Add(Verdict::kLimited,
          "no symbol table and no debug information: functions that it does not export appear as " +
              BaseName() + "+0x1f" + note,
          "do not strip it, install its debug symbols, or set DEBUGINFOD_URLS");
    }
    if (file_.build_id().empty()) {
      Add(Verdict::kLimited, "no build-id: nothing can tell whether a file is the one that was profiled",
          "link it with -Wl,--build-id");
    }
  }

  std::string BaseName() const { return file_.path().substr(file_.path().rfind('/') + 1); }

  const ElfFile& file_;
  const ElfFacts facts_;
  CheckReport* report_;
};

bool LooksLikeLibrary(const std::string& path) {
  return path.ends_with(".so") || path.find(".so.") != std::string::npos;
}

}  // namespace

std::string Finding::Text() const {
  static constexpr std::array<const char*, 3> kWords = {"ok       ", "limited  ", "blocked  "};
  std::string text = kWords[static_cast<size_t>(verdict)] + meaning;
  if (!remedy.empty()) text += "; " + remedy;
  return text;
}

Verdict CheckReport::verdict() const {
  Verdict worst = Verdict::kFine;
  for (const Finding& finding : findings) worst = std::max(worst, finding.verdict);
  return worst;
}

std::string CheckReport::VerdictText() const {
  switch (verdict()) {
    case Verdict::kFine:
      return "verdict: profiling works";
    case Verdict::kLimited:
      return "verdict: profiling works, within the limits above";
    case Verdict::kBlocked:
      break;
  }
  return "verdict: profiling does not work";
}

Result<CheckReport> CheckBinary(const std::string& program) {
  CheckReport report;
  std::string path = FindAlongPath(program);
  for (int step = 0;; ++step) {
    Result<std::string> head = HeadOf(path);
    if (!head) return head.error();
    bool is_script = head->starts_with("#!");
    if (!is_script && !head->starts_with(ELFMAG))
      return Error::Of(path, ": neither an ELF file nor a script with #!");
    if (access(path.c_str(), X_OK) != 0 && !LooksLikeLibrary(path)) {
      report.findings.push_back({Verdict::kBlocked, path + " is not executable for you", "chmod +x it"});
    }
    if (!is_script) break;
    std::string interpreter = InterpreterOf(*head);
    if (interpreter.empty() || step == kLongestScriptChain) {
      return Error::Of(path, ": a script whose #! line names no interpreter");
    }
    if (interpreter.ends_with('\r')) {
      return Error::Of(
          path, ": its #! line ends in CR LF, and to the kernel the CR is part of the interpreter's name; ",
          "sed -i 's/\\r$//' mends it");
    }
    report.findings.push_back(
        {Verdict::kFine,
         "a script: what is profiled is its interpreter, " + interpreter + ", and what that executes", ""});
    path = interpreter;
  }
  report.path = path;
  Result<std::unique_ptr<ElfFile>> file = ElfFile::Open(path);
  if (!file) return file.error();
  Checker(**file, &report).Run();
  return report;
}

}  // namespace profagent
