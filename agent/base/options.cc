#include "agent/base/options.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <cstring>
#include <iterator>
#include <span>

#include "agent/base/profile_names.h"
#include "agent/base/raw_syscall.h"
#include "agent/base/signal_text.h"

namespace profagent {
namespace {

struct Value {
  std::string_view name;
  std::string_view text;
  bool set = false;
};

// Everything that a single variable needs: where to look, whom to tell.
struct Source {
  const char* const* environment;
  OptionReporter report;

  Value Find(std::string_view name) const {
    for (const char* const* entry = environment; entry != nullptr && *entry != nullptr; ++entry) {
      const char* text = *entry;
      if (std::strncmp(text, name.data(), name.size()) == 0 && text[name.size()] == '=') {
        return {name, text + name.size() + 1, true};
      }
    }
    return {name, {}, false};
  }

  template <class... Parts>
  void Refuse(const Value& value, const Parts&... what_is_accepted) const {
    char memory[1024];
    TextWriter line(memory, sizeof memory);
    BeginRefusal(value, line);
    line.Add(what_is_accepted...);
    report(line.view());
  }

 private:
  // Once, not for each line that there is: half a kilobyte of the library.
  __attribute__((noinline)) static void BeginRefusal(const Value& value, TextWriter& line) {
    line.Add(value.name, "=", value.text.substr(0, 256), " cannot be used: ");
  }
};

// Digits only: no sign, no blank, no exponent, nothing behind. False also when it does not fit.
bool ParseNumber(std::string_view text, uint64_t* number) {
  if (text.empty()) return false;
  uint64_t result = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return false;
    uint64_t digit = static_cast<uint64_t>(c - '0');
    if (result > (UINT64_MAX - digit) / 10) return false;
    result = result * 10 + digit;
  }
  *number = result;
  return true;
}

// False: not set, or refused; the default stays.
bool ReadNumber(const Source& source, std::string_view name, uint64_t low, uint64_t high, uint64_t* number) {
  Value value = source.Find(name);
  if (!value.set) return false;
  uint64_t parsed = 0;
  if (!ParseNumber(value.text, &parsed) || parsed < low || parsed > high) {
    source.Refuse(value, "a whole number from ", low, " to ", high, " is accepted; using ", *number);
    return false;
  }
  *number = parsed;
  return true;
}

// The copy; empty: not set, or refused.
std::span<char> ReadText(const Source& source, std::string_view name, Options* options) {
  Value value = source.Find(name);
  if (!value.set || value.text.empty()) return {};
  if (value.text.size() > kMaxOptionText) {
    source.Refuse(value, "up to ", kMaxOptionText, " bytes are accepted; ignored");
    return {};
  }
  char* copy = options->texts + options->texts_used;
  std::memcpy(copy, value.text.data(), value.text.size());
  copy[value.text.size()] = '\0';
  options->texts_used += value.text.size() + 1;
  return {copy, value.text.size()};
}

void ReadText(const Source& source, std::string_view name, std::string_view Options::*text,
              Options* options) {
  std::span<char> copy = ReadText(source, name, options);
  options->*text = {copy.data(), copy.size()};
}

// `profagent run` names a file by `own`: CPUPROFILE and HEAPPROFILE are gperftools' variables, too, and would start its
// profilers in a program that has them. gperftools sets the highest bit of the first byte to remember, across
// exec, that it was there. What follows then is no UTF-8.
void ReadFileName(const Source& source, std::string_view own, std::string_view name,
                  std::string_view Options::*text, Options* options) {
  std::span<char> copy = ReadText(source, source.Find(own).set ? own : name, options);
  options->*text = {copy.data(), copy.size()};
  if (copy.empty()) return;
  auto first = static_cast<unsigned char>(copy.data()[0]);
  auto second = static_cast<unsigned char>(copy.data()[1]);
  if ((first & 0x80) != 0 && (second & 0xc0) != 0x80) copy[0] = static_cast<char>(first & 0x7f);
}

struct SignalName {
  std::string_view name;
  int number;
};
constexpr SignalName kSignalNames[] = {
    {"HUP", SIGHUP},       {"INT", SIGINT},     {"QUIT", SIGQUIT}, {"TRAP", SIGTRAP}, {"ABRT", SIGABRT},
    {"USR1", SIGUSR1},     {"USR2", SIGUSR2},   {"PIPE", SIGPIPE}, {"ALRM", SIGALRM}, {"TERM", SIGTERM},
    {"STKFLT", SIGSTKFLT}, {"CHLD", SIGCHLD},   {"CONT", SIGCONT}, {"TSTP", SIGTSTP}, {"TTIN", SIGTTIN},
    {"TTOU", SIGTTOU},     {"URG", SIGURG},     {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ}, {"VTALRM", SIGVTALRM},
    {"PROF", SIGPROF},     {"WINCH", SIGWINCH}, {"IO", SIGIO},     {"POLL", SIGPOLL}, {"PWR", SIGPWR},
};
constexpr int kFirstRealTime = 34;  // libc keeps 32 and 33 to itself
constexpr int kLastSignal = 64;

// SIGKILL and SIGSTOP cannot be handled; SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGSYS are the processor's and
// the kernel's own words to the program.
bool IsUsableSignal(uint64_t number) {
  switch (number) {
    case SIGKILL:
    case SIGSTOP:
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGSYS:
    case 32:
    case 33:
      return false;
    default:
      return number >= 1 && number <= kLastSignal;
  }
}

// "PROF", "SIGPROF", "27", "RTMIN", "RTMIN+3", "RTMAX-1". 0: none of these.
int ParseSignal(std::string_view text) {
  uint64_t number = 0;
  if (ParseNumber(text, &number)) return IsUsableSignal(number) ? static_cast<int>(number) : 0;
  if (text.substr(0, 3) == "SIG") text.remove_prefix(3);
  for (const SignalName& known : kSignalNames) {
    if (text == known.name) return known.number;
  }
  bool from_low = text.substr(0, 5) == "RTMIN";
  if (!from_low && text.substr(0, 5) != "RTMAX") return 0;
  text.remove_prefix(5);
  if (!text.empty()) {
    if (text[0] != (from_low ? '+' : '-') || !ParseNumber(text.substr(1), &number)) return 0;
    if (number > kLastSignal - kFirstRealTime) return 0;
  }
  return from_low ? kFirstRealTime + static_cast<int>(number) : kLastSignal - static_cast<int>(number);
}

// False: not set, or refused; the default stays.
bool ReadSignal(const Source& source, std::string_view name, bool zero_is_none, int* signal) {
  Value value = source.Find(name);
  if (!value.set) return false;
  uint64_t number = 0;
  if (zero_is_none && ParseNumber(value.text, &number) && number == 0) {
    *signal = 0;
    return true;
  }
  int parsed = ParseSignal(value.text);
  if (parsed == 0) {
    source.Refuse(value,
                  "a signal's name or number (1 to 64; not KILL, STOP, SEGV, BUS, FPE, ILL, SYS, 32, 33)",
                  zero_is_none ? " or 0 for none" : "", " is accepted; using ", SignalText(*signal).view());
    return false;
  }
  *signal = parsed;
  return true;
}

// Bytes, with K, M or G (powers of 1024), or KiB, MiB or GiB behind the number if that reads better.
void ReadSize(const Source& source, std::string_view name, uint64_t low, uint64_t high, Bytes* size) {
  Value value = source.Find(name);
  if (!value.set) return;
  std::string_view digits = value.text;
  uint32_t shift = 0;
  bool is_long = digits.ends_with("iB");
  if (is_long) digits.remove_suffix(2);
  if (!digits.empty()) {
    char unit = digits.back();
    shift = unit == 'K' || unit == 'k'   ? 10
            : unit == 'M' || unit == 'm' ? 20
            : unit == 'G' || unit == 'g' ? 30
                                         : 0;
    if (shift != 0) digits.remove_suffix(1);
  }
  uint64_t number = 0;
  if (!ParseNumber(digits, &number) || (is_long && shift == 0) || number > (high >> shift) ||
      (number << shift) < low) {
    source.Refuse(value, "a number of bytes from ", low, " to ", high,
                  " is accepted, also with K, M or G (KiB, MiB, GiB); using ", size->value);
    return;
  }
  *size = Bytes(number << shift);
}

// A kind whose file is written at the end of the process.
struct NamedFile {
  std::string_view variable, kind;
  bool written;
  std::string_view* file;
  bool* wanted;  // nullptr: goes on without a file, for dumps
};

// Before the extension, as `profagent run` calls them: "x.prof", "heap": "x.heap.prof". False: too long.
bool WithKind(std::string_view file, std::string_view kind, Options* options, std::string_view* result) {
  if (file.size() + 1 + kind.size() > kMaxOptionText) return false;
  std::string_view extension = ExtensionOf(file);
  TextWriter name(options->texts + options->texts_used, sizeof options->texts - options->texts_used);
  name.Add(file.substr(0, file.size() - extension.size()), '.', kind, extension);
  options->texts_used += name.size() + 1;
  *result = name.view();
  return true;
}

// What is written to as it is: of two profiles there the later does not replace the earlier. /dev/shm holds files as any other.
bool IsDevice(std::string_view file) {
  return (file.starts_with("/dev/") && !file.starts_with("/dev/shm/")) || file.starts_with("/proc/");
}

// The next part of a path that leads somewhere: not "" (of "a//b") and not ".". Empty: the end.
std::string_view TakePart(std::string_view* path) {
  for (;;) {
    while (path->starts_with('/')) path->remove_prefix(1);
    std::string_view part = path->substr(0, path->find('/'));
    path->remove_prefix(part.size());
    if (part != ".") return part;
  }
}

// "x" and "./x".
bool AreSpelledAlike(std::string_view one, std::string_view other) {
  if (one.starts_with('/') != other.starts_with('/')) return false;
  for (;;) {
    std::string_view part = TakePart(&one);
    if (part != TakePart(&other)) return false;
    if (part.empty()) return true;
  }
}

void Look(std::string_view path, struct stat* status) {
  static constinit char memory[kMaxOptionText + 3];  // the stack may be a small one
  TextWriter text(memory, sizeof memory);
  text.Add(path.starts_with('/') ? "" : "./", path);
  RawSyscall(SYS_newfstatat, AT_FDCWD, memory, status, 0);
}

// Whether both lead to one that is there, and of that type.
bool LeadToOne(mode_t type, std::string_view one, std::string_view other) {
  struct stat status[2] = {};
  Look(one, &status[0]);
  Look(other, &status[1]);
  return (status[0].st_mode & S_IFMT) == type && status[0].st_ino == status[1].st_ino &&
         status[0].st_dev == status[1].st_dev;
}

// By their spelling, by a link, or of one directory under two names ("x" and "$PWD/x").
bool NameOneFile(std::string_view one, std::string_view other) {
  if (AreSpelledAlike(one, other) || LeadToOne(S_IFREG, one, other)) return true;
  const size_t name = one.rfind('/') + 1, others = other.rfind('/') + 1;
  return one.substr(name) == other.substr(others) &&
         LeadToOne(S_IFDIR, one.substr(0, name), other.substr(0, others));
}

// Of two kinds with one file the later would overwrite the earlier.
void KeepFilesApart(const Source& source, Options* options) {
  const NamedFile files[] = {
      {"CPUPROFILE", "cpu", true, &options->cpu_profile, nullptr},
      {"HEAPPROFILE", "heap", options->heap_rate > 0, &options->heap_profile, nullptr},
      {"PEAKPROFILE", "heap-peak", options->heap_rate > 0, &options->peak_profile, nullptr},
      {"BLOCKPROFILE", "block", options->block_wanted, &options->block_profile, &options->block_wanted},
      {"MUTEXPROFILE", "mutex", options->mutex_wanted, &options->mutex_profile, &options->mutex_wanted},
  };
  for (size_t later = 1; later < std::size(files); ++later) {
    const NamedFile& profile = files[later];
    const std::string_view named = *profile.file;
    if (!profile.written || named.empty() || IsDevice(named)) continue;
    std::string_view taken_by;
    for (size_t earlier = 0; earlier < later && !profile.file->empty(); ++earlier) {
      if (!files[earlier].written || !NameOneFile(*files[earlier].file, *profile.file)) continue;
      if (taken_by.empty()) taken_by = files[earlier].variable;
      if (!WithKind(*profile.file, profile.kind, options, profile.file)) *profile.file = {};
      earlier = SIZE_MAX;  // the new name may be another one's, too: from the first again
    }
    if (taken_by.empty()) continue;
    if (!profile.file->empty()) {
      source.Refuse({profile.variable, named}, taken_by, " names the same file; using ", *profile.file);
    } else {
      source.Refuse({profile.variable, named}, taken_by, " names the same file; ignored");
      if (profile.wanted != nullptr) *profile.wanted = false;
    }
  }
}

constexpr uint32_t kMaxCpuFrequency = 10000;
constexpr uint64_t kDefaultBlockRate = 10000;
constexpr uint64_t kDefaultMutexFraction = 10;
constexpr uint64_t kMaxRate = uint64_t{1} << 62;

// 0 or 1.
bool ReadSwitch(const Source& source, std::string_view name, bool default_value) {
  uint64_t number = default_value ? 1 : 0;
  ReadNumber(source, name, 0, 1, &number);
  return number != 0;
}

void ReadCpu(const Source& source, Options* options) {
  ReadFileName(source, "PROFAGENT_CPUPROFILE", "CPUPROFILE", &Options::cpu_profile, options);
  uint64_t hz = 100;
  ReadNumber(source, "CPUPROFILE_FREQUENCY", 1, kMaxCpuFrequency, &hz);
  options->cpu_frequency = Hertz(static_cast<uint32_t>(hz));

  Value engine = source.Find("PROFAGENT_CPU_ENGINE");
  if (engine.set && engine.text == "perf") {
    options->cpu_engine = WantedCpuEngine::kPerf;
  } else if (engine.set && engine.text != "timer") {
    source.Refuse(engine, "timer or perf is accepted; using timer");
  }
}

void ReadHeap(const Source& source, Options* options) {
  ReadFileName(source, "PROFAGENT_HEAPPROFILE", "HEAPPROFILE", &Options::heap_profile, options);
  ReadText(source, "PEAKPROFILE", &Options::peak_profile, options);
  options->heap_rate = 524288;
  options->heap_rate_given = ReadNumber(source, "MEMPROFILERATE", 0, kMaxRate, &options->heap_rate);
}

void ReadLocks(const Source& source, Options* options) {
  ReadText(source, "BLOCKPROFILE", &Options::block_profile, options);
  options->block_rate = kDefaultBlockRate;
  ReadNumber(source, "BLOCKRATE", 0, kMaxRate, &options->block_rate);
  // A typing error in the rate costs the rate, not the profile.
  bool block_rate_set = !source.Find("BLOCKRATE").text.empty();
  options->block_wanted = (block_rate_set || !options->block_profile.empty()) && options->block_rate > 0;

  ReadText(source, "MUTEXPROFILE", &Options::mutex_profile, options);
  options->mutex_fraction = kDefaultMutexFraction;
  ReadNumber(source, "MUTEXFRACTION", 0, kMaxRate, &options->mutex_fraction);
  bool fraction_set = !source.Find("MUTEXFRACTION").text.empty();
  options->mutex_wanted = (fraction_set || !options->mutex_profile.empty()) && options->mutex_fraction > 0;

  if (options->block_wanted && options->block_profile.empty()) options->block_profile = "block.prof";
  if (options->mutex_wanted && options->mutex_profile.empty()) options->mutex_profile = "mutex.prof";

  options->lock_labels = ReadSwitch(source, "PROFAGENT_LOCK_LABELS", false);
}

void ReadSignals(const Source& source, Options* options) {
  options->cpu_signal = SIGPROF;
  options->dump_signal = SIGUSR2;
  ReadSignal(source, "PROFAGENT_CPU_SIGNAL", false, &options->cpu_signal);
  options->dump_signal_named = ReadSignal(source, "PROFAGENT_SIGNAL", true, &options->dump_signal);
  if (options->cpu_signal == options->dump_signal) {
    if (Value named = source.Find("PROFAGENT_SIGNAL"); named.set) {
      source.Refuse(named, "it is the signal of the CPU samples; no dump signal is used");
    } else {
      source.report(
          "PROFAGENT_CPU_SIGNAL is the usual dump signal: no dump signal is used, unless PROFAGENT_SIGNAL "
          "names another");
    }
    options->dump_signal = 0;
  }
}

}  // namespace

void ParseOptions(const char* const* environment, OptionReporter report, Options* options) {
  Source source{environment, report};

  // First, so that the other lines may depend on it.
  uint64_t verbose = 0;
  ReadNumber(source, "PROFAGENT_VERBOSE", 0, 2, &verbose);
  options->verbosity = static_cast<Verbosity>(verbose);

  ReadCpu(source, options);
  ReadHeap(source, options);
  ReadLocks(source, options);
  ReadText(source, "PROFAGENT_HTTP", &Options::http, options);
  ReadText(source, "PROFAGENT_LEDGER_DIR", &Options::ledger_directory, options);
  // Under `profagent run` the names are its own: each kind has another, or all of them one pipe.
  if (options->ledger_directory.empty()) KeepFilesApart(source, options);

  ReadSignals(source, options);
  options->follow_children = ReadSwitch(source, "PROFAGENT_CHILDREN", true);

  uint64_t depth = kOptionDefaultDepth;
  ReadNumber(source, "PROFAGENT_MAXDEPTH", 2, kOptionMaxDepth, &depth);
  options->max_depth = static_cast<uint32_t>(depth);

  options->memory = Bytes(kOptionDefaultMemory);
  ReadSize(source, "PROFAGENT_MEMORY", kOptionMinMemory, kOptionMaxMemory, &options->memory);
}

}  // namespace profagent
