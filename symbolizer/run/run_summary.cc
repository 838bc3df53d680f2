#include "symbolizer/run/run_summary.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <map>
#include <string_view>
#include <vector>

#include "symbolizer/profile/measurement.h"
#include "symbolizer/profile/sample_values.h"
#include "symbolizer/report/report.h"
#include "symbolizer/run/heaviest_stacks.h"

namespace profagent {
namespace {

constexpr size_t kMaxProcessesNamed = 10;
// Stacks of a kind that was asked for; where all are taken without a word, fewer.
constexpr size_t kStacks = 5;
constexpr size_t kStacksNotAskedFor = 3;
constexpr size_t kLineWidth = 120;
constexpr size_t kColumn = 10;                 // as in pprof's tables
constexpr uint64_t kLongestTick = 10'000'000;  // of the kernels that there are; no period is shorter

// As short as it can be typed: relative when it is below the current directory.
std::string Shown(const std::string& path) {
  char current[4096];
  if (getcwd(current, sizeof current) == nullptr) return path;
  std::string prefix = std::string(current) + "/";
  return path.starts_with(prefix) && path.size() > prefix.size() ? path.substr(prefix.size()) : path;
}

// As a shell takes it, and no option.
std::string ForShell(const std::string& path) {
  std::string name = path.starts_with('-') ? "./" + path : path;
  const bool is_plain = std::ranges::all_of(name, [](char c) {
    return isalnum(static_cast<unsigned char>(c)) != 0 || strchr("_-./,:=@%+", c) != nullptr;
  });
  if (is_plain) return name;
  std::string quoted = "'";
  for (char c : name) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::string BytesText(int64_t bytes) { return bytes == 0 ? "0B" : ScaledLabel(bytes, "bytes", "auto"); }

std::string DurationText(int64_t nanos) {
  return SecondsText(static_cast<uint64_t>(std::max<int64_t>(nanos, 0)));
}

// What the value of RunKind says.
std::string Amount(ProfileKind kind, int64_t value) {
  switch (kind) {
    case ProfileKind::kCpu:
      return DurationText(value) + " of CPU time";
    case ProfileKind::kHeap:
    case ProfileKind::kAllocs:
      return BytesText(value) + " allocated";
    case ProfileKind::kHeapPeak:
      return BytesText(value) + " at the peak";
    case ProfileKind::kBlock:
    case ProfileKind::kMutex:
      return DurationText(value) + " of waiting";
  }
  return {};
}

std::string Padded(std::string text, size_t width) {
  if (text.size() < width) text.insert(0, width - text.size(), ' ');
  return text;
}

std::string Plural(int64_t count, const char* one) {
  return std::to_string(count) + " " + one + (count == 1 ? "" : "s");
}

class Summary {
 public:
  Summary(const std::deque<Output>& outputs, const WantedKinds& wanted, Nanos cpu_time, int lines,
          RunReport& report)
      : outputs_(outputs), wanted_(wanted), cpu_time_(cpu_time), lines_(lines), report_(report) {}

  void Print() {
    CpuTable();
    Heap();
    Waits(ProfileKind::kBlock, "block profile", "wait");
    Waits(ProfileKind::kMutex, "mutex profile", "contention");
    Files();
    LookFurther();
  }

 private:
  size_t CountOf(ProfileKind kind) const {
    return static_cast<size_t>(
        std::ranges::count_if(outputs_, [&](const Output& output) { return output.kind == kind; }));
  }
  // nullptr: nothing was sampled.
  const Output* Heaviest(ProfileKind kind) const {
    const Output* heaviest = nullptr;
    for (const Output& output : outputs_) {
      if (output.kind == kind && output.weight > 0 &&
          (heaviest == nullptr || output.weight > heaviest->weight))
        heaviest = &output;
    }
    return heaviest;
  }
  // The peak of the image (or all of them) that this heap profile is about.
  const Output* PeakOf(const Output& heap) const {
    for (const Output& output : outputs_) {
      if (output.kind == ProfileKind::kHeapPeak && output.image == heap.image) return &output;
    }
    return nullptr;
  }
  // " of git (pid 12), the largest of 5": where that is not plain.
  std::string Whose(const Output& output) const {
    const bool plain = std::ranges::all_of(
        outputs_, [&](const Output& other) { return other.image == outputs_.front().image; });
    const size_t count = CountOf(output.kind);
    if (plain) return {};
    return " of " + output.whose + (count > 1 ? ", the largest of " + std::to_string(count) : "");
  }
  size_t StackCount(const KindRequest& request) const {
    return std::min<size_t>(request.asked ? kStacks : kStacksNotAskedFor, static_cast<size_t>(lines_));
  }

  void CpuTable() const;
  uint64_t LongestPeriod() const;  // nanoseconds, between samples or ticks
  bool UsedCpuTime() const;
  std::string WhyNoCpuSamples() const;
  void Heap() const;
  void Waits(ProfileKind kind, const std::string& title, const char* unit) const;
  void Stacks(const std::vector<HeavyStack>& stacks, const char* value_unit, const char* count_unit) const;
  void Files() const;
  void LookFurther() const;

  const std::deque<Output>& outputs_;
  const WantedKinds& wanted_;
  const Nanos cpu_time_;
  const int lines_;
  RunReport& report_;
};

uint64_t Summary::LongestPeriod() const {
  uint64_t period = kLongestTick;
  for (const Output& output : outputs_) {
    if (output.kind == ProfileKind::kCpu)
      period = std::max(period, static_cast<uint64_t>(std::max<int64_t>(output.profile.period(), 0)));
  }
  return period;
}

// Many short processes may have no sample between them, each with less than a period; of ten periods in all that does not happen.
bool Summary::UsedCpuTime() const {
  constexpr uint64_t kPeriods = 10;
  return cpu_time_.value >= kPeriods * LongestPeriod();
}

std::string Summary::WhyNoCpuSamples() const {
  if (cpu_time_.value < LongestPeriod())
    return "no samples: the command used less CPU time than one sampling period";
  if (!UsedCpuTime())
    return "no samples: the command used " + SecondsText(cpu_time_.value) +
           " of CPU time, which in several short processes, or in programs without the agent, may give none";
  return "no samples: the command used " + SecondsText(cpu_time_.value) +
         " of CPU time, but in programs without the agent "
         "(static, or behind a cleaned environment, a chroot or a sandbox), or in threads that it did not "
         "find; profagent check PROGRAM says more";
}

void Summary::CpuTable() const {
  const Output* heaviest = Heaviest(ProfileKind::kCpu);
  if (heaviest == nullptr) {
    const bool anything =
        std::ranges::any_of(outputs_, [](const Output& output) { return output.weight > 0; });
    if (wanted_.cpu.asked || (wanted_.cpu.taken && (!anything || UsedCpuTime())))
      report_.Line(WhyNoCpuSamples());
    return;
  }
  if (lines_ == 0) return;
  ReportOptions options;
  options.node_count = lines_;
  const Result<ReportText> top = MakeReport(heaviest->profile, options);
  if (!top) return report_.Problem(std::string(top.error().text.view()));
  const size_t count = CountOf(ProfileKind::kCpu);
  if (count > 1)
    report_.Line("the heaviest of " + std::to_string(count) + " CPU profiles, " + heaviest->whose + ":");
  report_.Table(top->text);
}

void Summary::Heap() const {
  const Output* heap = Heaviest(ProfileKind::kHeap);
  if (heap == nullptr) {
    if (wanted_.heap.asked)
      report_.Line("no samples of the heap: the command allocated less than is sampled, or not by malloc");
    return;
  }
  const int64_t live = SumOfValues(heap->profile, "inuse_space");
  std::string at_peak;
  if (const Output* peak = PeakOf(*heap); peak != nullptr) {
    // Each one's own, added up: not all of it was there at the same time.
    at_peak = ", " + BytesText(peak->weight) + (peak->images > 1 ? " at their peaks" : " at its peak");
  }
  report_.Line("heap" + Whose(*heap) + ": " + BytesText(heap->weight) + " allocated, " + BytesText(live) +
               " live at the end" + at_peak);
  const auto stacks = HeaviestStacks(heap->profile, "inuse_space", "inuse_objects", StackCount(wanted_.heap));
  Stacks(stacks, "bytes", "object");
}

void Summary::Waits(ProfileKind kind, const std::string& title, const char* unit) const {
  const KindRequest& request = wanted_.Of(kind);
  const Output* heaviest = Heaviest(kind);
  if (heaviest == nullptr) {
    if (!request.asked) return;
    // Whose unlock ended a wait at one of those is not known (README).
    const std::string or_else =
        kind == ProfileKind::kMutex ? ", or those were at bare futexes (Rust's locks) or semaphores" : "";
    report_.Line("no samples: no " + std::string(unit) + " was long enough to be recorded" + or_else);
    return;
  }
  report_.Line(title + Whose(*heaviest) + ": " + DurationText(heaviest->weight) + " in " +
               Plural(SumOfValues(heaviest->profile, "contentions"), unit));
  Stacks(HeaviestStacks(heaviest->profile, "delay", "contentions", StackCount(request)), "nanoseconds", unit);
}

void Summary::Stacks(const std::vector<HeavyStack>& stacks, const char* value_unit,
                     const char* count_unit) const {
  size_t width = 0;
  for (const HeavyStack& stack : stacks) width = std::max(width, Plural(stack.count, count_unit).size());
  std::string text;
  for (const HeavyStack& stack : stacks) {
    std::string line = Padded(ScaledLabel(stack.weight, value_unit, "auto"), kColumn) + "  " +
                       Padded(Plural(stack.count, count_unit), width) + "  ";
    line += stack.Text(kLineWidth > line.size() ? kLineWidth - line.size() : 0);
    text.append(line).push_back('\n');
  }
  report_.Table(text);
}

// One line for each program that a process was, by CPU time; those that used none behind, by what else they did.
void Summary::Files() const {
  struct Image {
    std::vector<const Output*> files;
    ProfileKind first_kind = ProfileKind::kCpu;
    int64_t amount = 0;  // of its first kind
  };
  std::vector<Image> images;
  std::map<std::string_view, size_t> known;
  for (const Output& output : outputs_) {
    if (!output.written) continue;  // which was said
    const auto [place, added] = known.emplace(output.image, images.size());
    if (added) images.emplace_back();
    images[place->second].files.push_back(&output);
  }
  for (Image& image : images) {
    std::ranges::stable_sort(image.files, {}, &Output::kind);
    image.first_kind = image.files.front()->kind;
    image.amount = image.files.front()->weight;
  }
  std::ranges::stable_sort(images, [](const Image& a, const Image& b) {
    return a.first_kind != b.first_kind ? a.first_kind < b.first_kind : a.amount > b.amount;
  });
  for (size_t i = 0; i < images.size() && i < kMaxProcessesNamed; ++i) {
    std::string names;
    for (const Output* output : images[i].files) names += (names.empty() ? "" : ", ") + Shown(output->file);
    report_.Line("wrote " + names + ": " + images[i].files.front()->whose + ", " +
                 Amount(images[i].first_kind, images[i].amount));
  }
  if (images.size() > kMaxProcessesNamed)
    report_.Line("and those of " + std::to_string(images.size() - kMaxProcessesNamed) +
                 " more programs beside them");
}

void Summary::LookFurther() const {
  bool first = true;
  auto suggest = [&](const std::string& command) {
    report_.Line((first ? "look further: " : "              ") + command);
    first = false;
  };
  for (const RunKind& kind : kRunKinds) {
    const Output* heaviest = Heaviest(kind.kind);
    if (heaviest == nullptr || !heaviest->written || kind.kind == ProfileKind::kHeapPeak) continue;
    const std::string file = ForShell(Shown(heaviest->file));
    const bool main_kind = first;
    // Beside others, the line above it has said what was live.
    const bool is_heap = kind.kind == ProfileKind::kHeap;
    if (main_kind || !is_heap) suggest("profagent -top -cum " + file);
    if (is_heap) suggest("profagent -top -cum -alloc_space " + file);
    if (!main_kind) continue;
    suggest("profagent -traces " + file);
    suggest("go tool pprof -http=: " + file);
  }
}

}  // namespace

void Summarize(const std::deque<Output>& outputs, const WantedKinds& wanted, Nanos cpu_time, int lines,
               RunReport& report) {
  if (report.quiet() || outputs.empty()) return;
  Summary(outputs, wanted, cpu_time, lines, report).Print();
}

std::string SecondsText(uint64_t nanos) {
  return nanos == 0 ? "0s" : ScaledLabel(static_cast<int64_t>(nanos), "nanoseconds", "auto");
}

}  // namespace profagent
