"""What the benchmarks share: the machine's description, statistics of paired runs, verdicts.

Context: tests/bench only; python3 and its standard library. Each benchmark prints the conditions of its run, tables, and for
every bound of design.md section 4 that it measures one line that begins with PASS, MISS or NOISE. MISS: the bound is broken, and
the exit status is 1. NOISE: the figure is above the bound, but the spread of the runs does not show that the truth is;
a quieter machine or more pairs can tell.
"""

import argparse
import json
import math
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
sys.dont_write_bytecode = True

from harness import PATH, Skip, Tools, signal_tick_hz  # noqa: E402


class Bench:
    """One benchmark's run: its options, its scratch directory in memory, its verdicts."""

    def __init__(self, description, pairs, quick_pairs, needs=("agent",)):
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--build", default=os.environ.get("PROFAGENT_BUILD", "build"), help="the meson build directory")
        parser.add_argument("--quick", action="store_true", help="few pairs: shows that it works, not what it costs")
        parser.add_argument("--pairs", type=int, help="paired runs; default %d, with --quick %d" % (pairs, quick_pairs))
        parser.add_argument("only", nargs="*", help="programs to measure; default: all")
        self.options = parser.parse_args()
        self.tools = Tools(self.options.build)
        self.pairs = self.options.pairs or (quick_pairs if self.options.quick else pairs)
        self.counts = {"PASS": 0, "MISS": 0, "NOISE": 0, "SKIP": 0}
        self.broken = 0
        for name in needs:
            path = getattr(self.tools, name)
            if not path.exists():
                parser.error("%s is not built" % path)
        # Profiles go to memory: no disk is measured.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="profagent-bench-", dir=memory))
        os.chmod(self.dir, 0o755)

    def __enter__(self):
        print_conditions(self)
        return self

    def __exit__(self, kind, error, trace):
        shutil.rmtree(self.dir, ignore_errors=True)
        if kind is None:
            print("%d pass, %d miss, %d noise, %d skipped" % tuple(self.counts[k] for k in ("PASS", "MISS", "NOISE", "SKIP")))
            sys.exit(1 if self.counts["MISS"] or self.broken else 0)

    # What workloads ask of a case.

    def need(self, name):
        path = shutil.which(name, path=PATH)
        if path is None:
            raise Skip("%s is not installed" % name)
        return path

    # Running.

    def environment(self, **added):
        """Nothing of the caller's leaks in."""
        return {"PATH": PATH, "HOME": str(self.dir), "LANG": "C.UTF-8", **{k: str(v) for k, v in added.items()}}

    def agent(self, profile, hz=None, verbose=None):
        added = {"LD_PRELOAD": self.tools.agent, "CPUPROFILE": profile}
        if hz is not None:
            added["CPUPROFILE_FREQUENCY"] = hz
        if verbose is not None:
            added["PROFAGENT_VERBOSE"] = verbose
        return self.environment(**added)

    # Judging.

    def verdict(self, bound_holds, shown_broken, text):
        word = "PASS" if bound_holds else "MISS" if shown_broken else "NOISE"
        self.counts[word] += 1
        print("%-5s %s" % (word, text), flush=True)

    def skip(self, what, why):
        self.counts["SKIP"] += 1
        print("SKIP  %s: %s" % (what, why), flush=True)


def command_output(*argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env={"PATH": PATH})
        return done.stdout if done.returncode == 0 else ""
    except OSError:
        return ""


def print_conditions(bench):
    def first(path, key):
        try:
            for line in pathlib.Path(path).read_text().splitlines():
                if line.startswith(key):
                    return line.split(":", 1)[1].strip()
        except OSError:
            pass
        return "?"

    comment = command_output("readelf", "-p", ".comment", str(bench.tools.agent))
    compiler = " ".join(comment.split("]")[-1].split()) or "?"
    build_type = "?"
    options = command_output("meson", "introspect", "--buildoptions", str(bench.tools.build))
    if options:
        build_type = next((o["value"] for o in json.loads(options) if o["name"] == "buildtype"), "?")
    hypervisor = ", in a virtual machine" if "hypervisor" in first("/proc/cpuinfo", "flags").split() else ""
    print("machine   %d x %s%s, %s" % (os.cpu_count(), first("/proc/cpuinfo", "model name"), hypervisor, first("/proc/meminfo", "MemTotal")))
    print("kernel    %s, CONFIG_HZ=%d; glibc %s" % (platform.release(), signal_tick_hz(), platform.libc_ver()[1]))
    print("compiler  %s, buildtype %s" % (compiler, build_type))
    policies = {os.SCHED_OTHER: "ordinary scheduling", os.SCHED_FIFO: "SCHED_FIFO", os.SCHED_RR: "SCHED_RR", os.SCHED_BATCH: "SCHED_BATCH"}
    cpus = len(os.sched_getaffinity(0))
    print("command   %s; %s, %s" %
          (" ".join([os.path.relpath(sys.argv[0]), *sys.argv[1:]]), policies.get(os.sched_getscheduler(0), "?"),
           "not pinned" if cpus == os.cpu_count() else "pinned to %d of %d processors" % (cpus, os.cpu_count())))
    print("date      %s, load %.2f" % (time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), os.getloadavg()[0]), flush=True)
    if os.getloadavg()[0] > 0.5 * os.cpu_count():
        print("WARNING   the machine is busy: the figures are worth little")


def start(argv, env, cwd, out=None, err=None):
    """A program's pid. posix_spawn, because a fork of this interpreter would be part of what is measured."""
    opened = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
               (os.POSIX_SPAWN_OPEN, 1, str(out or "/dev/null"), opened, 0o600),
               (os.POSIX_SPAWN_OPEN, 2, str(err or "/dev/null"), opened, 0o600)]
    before = os.getcwd()
    os.chdir(cwd)
    try:
        return os.posix_spawn(argv[0], list(map(str, argv)), env, file_actions=actions)
    finally:
        os.chdir(before)


def run(argv, env, cwd, out=None, err=None):
    """Runs a program; answers (wall seconds, CPU seconds, status, rusage) of it and of the children that it waited for."""
    started = time.perf_counter_ns()
    _, status, usage = os.wait4(start(argv, env, cwd, out, err), 0)
    wall = (time.perf_counter_ns() - started) / 1e9
    return wall, usage.ru_utime + usage.ru_stime, status, usage


class Place:
    """A directory with a program's input, in which one run works while another one works beside it."""

    def __init__(self, bench, number):
        self.dir = bench.dir / ("place%d" % number)
        self.dir.mkdir(exist_ok=True)
        self.err = self.dir / "err"
        self.need = bench.need


class SideBySide:
    """Pairs of runs of a workload at the same time on one processor.

    The kernel lets them take turns of some milliseconds, so that whatever the machine does to one (another clock, a busy neighbour on its
    core) it does to the other. What they do to each other, they do to both alike.
    """

    def __init__(self, bench, workload, scale):
        self.places = [Place(bench, number) for number in range(2)]
        self.argv = [workload(place, scale) for place in self.places][0]
        self.count = 0

    def run(self, commands):
        """CPU seconds of two `(prefix, environment)`, the first one in the first place. Each is started first as often as the other."""
        allowed = os.sched_getaffinity(0)
        processors = sorted(allowed)
        order = [0, 1] if self.count % 2 == 0 else [1, 0]
        which = {}
        os.sched_setaffinity(0, {processors[self.count // 2 % len(processors)]})
        try:
            for i in order:
                prefix, env = commands[i]
                which[start([*prefix, *self.argv], env, self.places[i].dir, err=self.places[i].err)] = i
        finally:
            os.sched_setaffinity(0, allowed)
        self.count += 1
        seconds = [0, 0]
        for _ in order:
            pid, status, usage = os.wait3(0)
            i = which[pid]
            if status != 0:
                said = self.places[i].err.read_text(errors="replace")
                raise SystemExit("%s ended with status %#x:\n%s" % (" ".join([*commands[i][0], self.argv[0]]), status, said[-2000:]))
            seconds[i] = usage.ru_utime + usage.ru_stime
        return seconds


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def quantile(values, q):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def interval_text(low, high, form):
    """`low .. high`, or that it is not known."""
    return "%s .. %s" % tuple(form % value if math.isfinite(value) else "?" for value in (low, high))


def median_interval(values, confidence=0.95):
    """Between these two values the true median lies, with at least this confidence, whatever the distribution.

    Order statistics: the k-th smallest of n is above the median with the probability of fewer than k heads in n throws.
    """
    ordered, n = sorted(values), len(values)
    k, tail = 0, 0.0
    while k < n // 2:
        tail += math.comb(n, k) / 2 ** n
        if 2 * tail > 1 - confidence:
            break
        k += 1
    if k == 0:  # too few values for this confidence: all that is known is that nothing is
        return -math.inf, math.inf
    return ordered[k - 1], ordered[n - k]
