#!/usr/bin/env python3
"""What the agent adds to the start of a program that does nothing, and to its end.

Paired and interleaved: without the agent, preloaded (the heap is sampled, as always, and no file is asked for), with a CPU
profile. Wall time from posix_spawn to the end of the wait; the loader's work for one more library is in it.
Bound (design.md section 4): a start at most 1 ms slower, by the median of the pairs. It is taken of a program that ends in the
first line of main by a raw system call, and of /bin/true, which ends as programs do: with the CPU profile written. For scale: a
page fault and a system call of this machine, and, without a bound, what a child costs that is forked and ends at once.
"""

import os
import subprocess

from common import Bench, interval_text, median, median_interval, quantile, run

BOUND_MS = 1.0
TRUE = "/bin/true"


def measure(bench, program, variants, profile, writes_at_end):
    """Seconds by variant, a list each, and CPU seconds."""
    names = list(variants)
    seconds = {name: [] for name in names}
    cpu = {name: [] for name in names}
    for round_number in range(bench.pairs + 5):
        for at in range(len(names)):  # each variant comes first, second and third equally often
            name = names[(at + round_number) % len(names)]
            profile.unlink(missing_ok=True)
            wall, used, status, _ = run([program], variants[name], bench.dir)
            if status != 0:
                raise SystemExit("%s ended with status %#x (%s)" % (program, status, name))
            if profile.exists() != (name == "profiling" and writes_at_end):
                raise SystemExit("%s (%s): %s" % (program, name, "wrote a profile" if profile.exists() else "wrote no profile"))
            if round_number >= 5:  # the first ones warm the page cache
                seconds[name].append(wall)
                cpu[name].append(used)
    return seconds, cpu


def measure_forks(bench, start_only, variants):
    """Microseconds of CPU time a child, by variant: lists of (its own, its parent's)."""
    in_run = [str(bench.tools.profagent), "run", "-q", "--cpu=100", "-o", str(bench.dir / "forks") + "/", "--"]
    commands = {**{name: ([], variants[name]) for name in variants}, "profagent run": (in_run, variants["plain"])}
    micros = {name: [] for name in commands}
    for _ in range(max(3, bench.pairs // 30)):
        for name, (before, environment) in commands.items():
            said = subprocess.run(before + [start_only, "forks"], env=environment, cwd=bench.dir, text=True, check=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
            micros[name].append([float(word) for word in said.split()])
    print("\nfork, _exit, wait, us of CPU time a child, medians of %d runs of 300" % max(3, bench.pairs // 30))
    print("%-14s %8s %8s" % ("", "child's", "parent's"))
    for name, pairs in micros.items():
        print("%-14s %8.1f %8.1f" % (name, median([child for child, _ in pairs]), median([parent for _, parent in pairs])))


def main():
    with Bench(__doc__.split("\n")[0], pairs=300, quick_pairs=40) as bench:
        profile = bench.dir / "cpu.prof"
        variants = {
            "plain": bench.environment(),
            "inert": bench.environment(LD_PRELOAD=bench.tools.agent),
            "profiling": bench.agent(profile),
        }
        start_only = str(bench.tools.build / "tests" / "bench" / "start_only")
        print("\n" + subprocess.check_output([start_only, "costs"], text=True).strip())
        for program, writes_at_end, what in (start_only, False, "start"), (TRUE, True, "start and end"):
            seconds, cpu = measure(bench, program, variants, profile, writes_at_end)
            print("\n%s (%s), %d interleaved rounds, ms" % (os.path.realpath(program), what, bench.pairs))
            print("%-10s %8s %8s %8s %8s" % ("", "median", "p10", "p90", "CPU mean"))
            for name in variants:
                ms = [1e3 * s for s in seconds[name]]
                print("%-10s %8.3f %8.3f %8.3f %8.3f" % (name, median(ms), quantile(ms, 0.1), quantile(ms, 0.9),
                                                        1e3 * sum(cpu[name]) / len(cpu[name])))
            for name in list(variants)[1:]:
                added = [1e3 * (with_agent - plain) for with_agent, plain in zip(seconds[name], seconds["plain"])]
                low, high = median_interval(added)
                bench.verdict(median(added) <= BOUND_MS, low > BOUND_MS,
                              "%s, %s: %+.3f ms (95 %% of the median: %s), bound %.1f ms" %
                              (what, name, median(added), interval_text(low, high, "%+.3f"), BOUND_MS))
        measure_forks(bench, start_only, variants)


if __name__ == "__main__":
    main()
