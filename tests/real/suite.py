#!/usr/bin/env python3
"""Where real programs spend their time, against perf record in the same run.

perf samples the program (event cpu-clock) while the agent does. Of a sample in the kernel, the user frame that entered it
counts: that is what the agent, whose signal is delivered on the way back, can see. Functions are told apart by the tables
of the ELF files (support/elf.py), the same for both, so names and symbol tables play no part; that our names are right
is a test of its own here.

Allowed: 2 points of share plus three standard errors, sqrt(p (1 - p) (1 / signals + 1 / perf samples)).
"""

import collections
import functools
import math
import os
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
sys.dont_write_bytecode = True

from elf import Elf  # noqa: E402
from harness import PATH, Deviation, Skip, signal_tick_hz  # noqa: E402
from pprof_reader import names_of  # noqa: E402
from runner import each, main, test  # noqa: E402
from workloads import WORKLOADS  # noqa: E402

import heap_tests  # noqa: E402,F401
import lock_tests  # noqa: E402,F401


@functools.lru_cache(maxsize=None)
def elf_of(path):
    try:
        return Elf(path)
    except (OSError, ValueError):
        return None


def function_of(path, file_offset):
    """(file, start of the function); of what is no file, the name alone. perf resolves symbolic links, the loader does not."""
    path = os.path.realpath(path) if path.startswith("/") else path
    elf = elf_of(path) if path.startswith("/") else None
    address = elf.address_of(file_offset) if elf else None
    if address is None:
        return os.path.basename(path), 0
    return os.path.basename(path), elf.function_start(address)


def shown(function):
    name, start = function
    for path in list(loaded_paths):
        if os.path.basename(path) == name and elf_of(path):
            names = elf_of(path).names(start)
            if names:
                return "%s:%s" % (name, sorted(names)[0])
    return "%s+%#x" % (name, start)


loaded_paths = set()


def perf_shares(t, data, command):
    """Samples by function from perf.data: the innermost user frame of every sample of the process named `command`."""
    script = subprocess.run(["perf", "script", "-i", str(data), "-F", "comm,pid,time,event,ip,dso"], capture_output=True, text=True,
                            errors="replace", env={"PATH": PATH, "HOME": str(t.dir)}, check=False)
    t.expect(script.returncode == 0, "perf script fails: %s" % script.stderr[-500:])
    counts = collections.Counter()
    pending = None  # a sample whose innermost user frame has not come yet
    for line in script.stdout.splitlines():
        if re.search(r"cpu-clock\S*:\s*$", line):
            pending = line.split()[0]
            continue
        found = re.match(r"\s+([0-9a-f]+) \((.*)\)$", line)
        if not found or pending is None:
            continue
        ip, dso = int(found.group(1), 16), found.group(2)
        if ip >= 1 << 47 or dso.startswith("[kernel"):
            continue
        if pending[:15] == command[:15]:
            if dso.startswith("/"):  # perf prints the offset in the file
                loaded_paths.add(os.path.realpath(dso))
                counts[function_of(dso, ip)] += 1
            else:
                counts[(dso if dso == "[vdso]" else "?", 0)] += 1
        pending = None
    return counts


def agent_shares(profile):
    counts = collections.Counter()
    for sample in profile.samples:
        leaf = sample.locations[0]
        if leaf.mapping is None or not leaf.mapping.filename:
            counts[("?", 0)] += sample.values[0]
        else:
            loaded_paths.add(os.path.realpath(leaf.mapping.filename))
            counts[function_of(leaf.mapping.filename, leaf.address - leaf.mapping.start + leaf.mapping.offset)] += sample.values[0]
    return counts


def compare_with_perf(t, name, scale, hz):
    perf = t.need("perf")
    argv = WORKLOADS[name](t, scale)
    data = t.dir / "perf.data"
    probe = subprocess.run([perf, "record", "-q", "-e", "cpu-clock", "-o", str(data), "true"], capture_output=True, text=True,
                           env={"PATH": PATH, "HOME": str(t.dir)}, check=False)
    if probe.returncode != 0:
        raise Skip("perf cannot record here: %s" % probe.stderr.strip()[:200])
    run = t.run(*argv, hz=hz, timeout=300,
                prefix=[perf, "record", "-q", "-e", "cpu-clock", "-F", "1000", "--call-graph", "fp", "-o", data, "--"])
    t.expect_exit(run)
    profile = run.profile()
    ours, theirs = agent_shares(profile), perf_shares(t, data, os.path.basename(os.path.realpath(argv[0]))
                                                      if name != "clang" else os.path.basename(argv[0]))
    if not theirs:
        theirs = perf_shares(t, data, os.path.basename(argv[0]))
    our_sum, their_sum = sum(ours.values()), sum(theirs.values())
    t.expect(their_sum >= 500, "perf took only %d samples of %s" % (their_sum, argv[0]), run)
    signals = our_sum * min(1, signal_tick_hz() / hz)
    t.note("%d signals, %d perf samples" % (signals, their_sum))
    hottest = [f for f, _ in theirs.most_common(10)] + [f for f, _ in ours.most_common(10)]
    problems = []
    for function in dict.fromkeys(hottest):
        a, b = ours[function] / our_sum, theirs[function] / their_sum
        p = (ours[function] + theirs[function]) / (our_sum + their_sum)
        allowed = 0.02 + 3 * math.sqrt(p * (1 - p) * (1 / signals + 1 / their_sum))
        t.note("%s %.1f/%.1f" % (shown(function), 100 * a, 100 * b))
        if abs(a - b) > allowed:
            problems.append("%s: %.2f %% here, %.2f %% in perf, %.2f points allowed" %
                            (shown(function), 100 * a, 100 * b, 100 * allowed))
    t.expect(not problems, "\n".join(problems), kind=Deviation)
    t.expect_near("CPU seconds a perf sample", profile.cpu_seconds() / (their_sum / 1000), 1, 0.1)
    return profile


@each(sorted(WORKLOADS))
def hottest_functions_are_those_of_perf(t, name):
    profile = compare_with_perf(t, name, 1, 250)
    t.expect_pprof_agrees(t.dir / "cpu.prof")
    expect_right_names(t, profile)


@each(sorted(WORKLOADS), full=True)
def hottest_functions_in_a_longer_run(t, name):
    for hz in 100, 1000:
        (t.dir / "cpu.prof").unlink(missing_ok=True)
        compare_with_perf(t, name, 4, hz)


def expect_right_names(t, profile):
    """Where a symbol covers an address, one of its names is ours; nowhere a name that belongs to another place."""
    wrong, checked, total = collections.Counter(), 0, 0
    for sample in profile.samples:
        for location in sample.locations[:8]:
            total += 1
            mapping = location.mapping
            elf = elf_of(mapping.filename) if mapping and mapping.filename.startswith("/") else None
            address = elf.address_of(location.address - mapping.start + mapping.offset) if elf else None
            names = elf.names(address) if address is not None else set()
            if not names or not location.lines:
                continue
            checked += 1
            got = {location.lines[-1].function.name, location.lines[-1].function.system_name}
            if not got & names:
                wrong[(sorted(got)[-1], sorted(names)[0])] += 1
    t.note("%d of %d names checked" % (checked, total))
    # Of what is stripped (liblzma) only exported functions and the outermost frames have one.
    t.expect(checked >= 30 and checked * 20 >= total, "only %d of %d addresses have a symbol" % (checked, total))
    t.expect(sum(wrong.values()) <= 0.001 * checked, "wrong names: %s" % wrong.most_common(5))


@each(sorted(WORKLOADS))
def stacks_reach_the_outermost_frame(t, name):
    # A walk that ends early puts time on the wrong branch of the call tree; every difference from libunwind is looked at
    # in unwind_oracle, here only that nearly all stacks are whole.
    argv = WORKLOADS[name](t, 1)
    run = t.run(*argv, hz=1000, timeout=300, env={"PROFAGENT_MAXDEPTH": 1024})
    t.expect_exit(run)
    profile = run.profile()
    ends, whole = collections.Counter(), 0
    for sample in profile.samples:
        root = sample.locations[-1]
        elf = elf_of(root.mapping.filename) if root.mapping and root.mapping.filename.startswith("/") else None
        address = elf.address_of(root.address - root.mapping.start + root.mapping.offset) if elf else None
        if address is not None and elf.function_start(address) == elf.function_start(elf.entry):
            whole += sample.values[0]  # the program's entry point, or the loader's own before it
        else:
            ends[names_of(sample)[-1]] += sample.values[0]
    t.note("%.2f %% whole; other ends: %s" % (100 * whole / profile.ticks(), ends.most_common(3)))
    # One odd stack in a run of 1000 signals is below the bound already: then it is measured once more.
    t.expect(whole >= 0.9995 * profile.ticks(), "stacks end in %s; losses %s" % (ends.most_common(8), profile.losses()), run,
             Deviation)


@test(full=True)
def redis_and_other_servers(t):
    # A server ends by SIGTERM, with threads of its own.
    server = t.need("redis-server")
    running = t.start(server, "--port", "0", "--unixsocket", "s", "--save", "", hz=250)
    running.wait_for_output(b"eady to accept")
    subprocess.run([t.need("redis-benchmark"), "-s", "s", "-q", "-n", "50000", "-t", "set,get"], cwd=t.dir, check=True,
                   stdout=subprocess.DEVNULL, env={"PATH": PATH})
    running.signal(15)
    run = running.finish()
    t.expect_exit(run)
    t.expect(run.profile().cpu_seconds() > 0.1, "no time was recorded", run)


if __name__ == "__main__":
    main("real")
