// What one CPU timer signal costs before and after its handler: the part that no handler can see.
//
// Method: a thread does nothing but read the cycle counter, under the agent's kind of timer and an empty handler. It sees each
// interruption as a gap. A CPU timer is looked at by the kernel's tick: a gap in which the handler ran held a tick, the timer's
// expiry, the delivery, the handler and the return from it; a gap at the same phase of the tick's period without the handler held
// a tick alone. The difference of their medians is the cost of a signal. Other gaps (interrupts between ticks, the machine's own
// business) do not count, nor do those in which another process had the processor.
// Caches: `quiet` leaves them to the kernel, which flatters it. `evicted` walks through 64 MiB between two looks at the counter:
// that is what a real program does to the kernel's lines. Rounds of both alternate. scripts/bench charges the second.
//
// Output: lines `quiet|evicted tick_ns signal_ns cost_ns signals ticks`.
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { kMostGaps = 1 << 18, kBufferWords = (64 << 20) / sizeof(uint64_t), kWalk = 4, kSlackNs = 50000 };

struct Gap {
  double ns;
  int64_t start_ns;
  int with_signal;
};

struct Gaps {
  struct Gap gap[kMostGaps];
  size_t count;
};

static volatile sig_atomic_t delivered;
static uint64_t* buffer;
static struct Gaps all[2];
static int64_t tick_ns;
static double cycles_a_ns;

static void OnSignal(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)info, (void)context;
  delivered = 1;
}

static void Require(int condition, const char* what) {
  if (condition) return;
  perror(what);
  exit(1);
}

static int64_t NowNs(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static long Preemptions(void) {
  struct rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nivcsw;
}

static uint64_t Walk(uint64_t at) {
  for (int i = 0; i < kWalk; ++i) {
    at = at * 6364136223846793005u + 1442695040888963407u;
    at += buffer[(at >> 33) % kBufferWords];
  }
  return at;
}

static void Round(int evicted, int64_t nanoseconds) {
  // A walk whose lines all miss takes less than 1 us; a tick comes on top of it.
  uint64_t shortest_gap = (uint64_t)((evicted ? 1500 : 500) * cycles_a_ns);
  struct Gaps* gaps = &all[evicted];
  int64_t end = NowNs() + nanoseconds;
  uint64_t at = 1;
  long preemptions = Preemptions();
  uint64_t before = __rdtsc();
  for (;;) {
    if (evicted) at = Walk(at);
    uint64_t now = __rdtsc(), gap = now - before;
    before = now;
    // A handler that ran since `now` was read shows in the next gap: `delivered` stays.
    if (gap < shortest_gap) continue;
    int64_t now_ns = NowNs();
    int with_signal = delivered;
    delivered = 0;
    double ns = (double)gap / cycles_a_ns;
    long switches = Preemptions();
    if (switches == preemptions && gaps->count < kMostGaps) {
      gaps->gap[gaps->count++] = (struct Gap){ns, now_ns - (int64_t)ns, with_signal};
    }
    preemptions = switches;
    if (now_ns > end) break;
    before = __rdtsc();
  }
  buffer[0] = at;
}

static int Compare(const void* a, const void* b) {
  double x = *(const double*)a, y = *(const double*)b;
  return x < y ? -1 : x > y;
}

static double Median(double* values, size_t count) {
  qsort(values, count, sizeof *values, Compare);
  return count > 0 ? values[count / 2] : 0;
}

static int64_t PhaseDistance(int64_t a, int64_t b) {
  int64_t distance = llabs(a - b) % tick_ns;
  return distance < tick_ns - distance ? distance : tick_ns - distance;
}

// A moment at which a tick came: the gap with a signal that most others are in phase with.
static int64_t SomeTick(const struct Gaps* gaps) {
  int64_t best = 0;
  size_t most = 0;
  for (size_t i = 0; i < gaps->count; ++i) {
    if (!gaps->gap[i].with_signal) continue;
    size_t near = 0;
    for (size_t k = 0; k < gaps->count; ++k) {
      near +=
          gaps->gap[k].with_signal && PhaseDistance(gaps->gap[i].start_ns, gaps->gap[k].start_ns) < kSlackNs;
    }
    if (near > most) {
      most = near;
      best = gaps->gap[i].start_ns;
    }
  }
  return best;
}

static void Report(const char* name, const struct Gaps* gaps) {
  static double found[2][kMostGaps];
  size_t count[2] = {0, 0};
  int64_t some_tick = SomeTick(gaps);
  // Of all gaps around one tick the longest is the tick's.
  int64_t tick = -1;
  struct Gap longest = {0};
  for (size_t i = 0; i <= gaps->count; ++i) {
    const struct Gap* gap = &gaps->gap[i];
    if (i < gaps->count && PhaseDistance(gap->start_ns, some_tick) >= kSlackNs) continue;
    int64_t its_tick =
        i < gaps->count ? (gap->start_ns - some_tick + 1000000 * tick_ns + tick_ns / 2) / tick_ns : 0;
    if (its_tick != tick) {
      if (longest.ns > 0) found[longest.with_signal][count[longest.with_signal]++] = longest.ns;
      tick = its_tick;
      longest = (struct Gap){0};
    }
    if (i < gaps->count && gap->ns > longest.ns) longest = *gap;
  }
  double alone = Median(found[0], count[0]), with_signal = Median(found[1], count[1]);
  printf("%s %.0f %.0f %.0f %zu %zu\n", name, alone, with_signal, with_signal - alone, count[1], count[0]);
}

int main(int argc, char** argv) {
  int seconds = argc > 1 ? atoi(argv[1]) : 4;
  buffer = mmap(NULL, kBufferWords * sizeof *buffer, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  Require(buffer != MAP_FAILED, "mmap");
  struct timespec resolution;
  clock_getres(CLOCK_MONOTONIC_COARSE, &resolution);
  tick_ns = resolution.tv_nsec;

  struct sigaction action = {.sa_sigaction = OnSignal, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
  sigfillset(&action.sa_mask);
  Require(sigaction(SIGPROF, &action, NULL) == 0, "sigaction");
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF};
  event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
  timer_t timer;
  Require(timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer) == 0, "timer_create");
  // Every second or third tick delivers; the others are the comparison.
  struct itimerspec period = {{0, tick_ns * 5 / 2}, {0, tick_ns * 5 / 2}};
  Require(timer_settime(timer, 0, &period, NULL) == 0, "timer_settime");

  uint64_t cycles = __rdtsc();
  int64_t start = NowNs();
  while (NowNs() - start < 50000000) {
  }
  cycles_a_ns = (double)(__rdtsc() - cycles) / (double)(NowNs() - start);
  for (int i = 0; i < 5 * seconds; ++i) {
    for (int evicted = 0; evicted < 2; ++evicted) Round(evicted, 100000000);
  }
  Report("quiet", &all[0]);
  Report("evicted", &all[1]);
  return 0;
}
