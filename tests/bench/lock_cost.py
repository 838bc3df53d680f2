#!/usr/bin/env python3
"""What block and mutex profiles cost a program that locks.

Uncontended: a pair of lock and unlock, each thread with a lock of its own, or main alone, for which libc does without atomic
instructions. The figure is the difference of the minima of all runs, which are interleaved: what a pair costs when nothing
disturbs it. Bound: 2.5 ns with both profiles at their default rates.
Contended: pairs a second of four threads that fight for one lock; the figure is the median of ratios within rounds. Bound: 5 %.
For scale: a preload that reads the clock around every lock.
"""

import sys

from common import Bench, interval_text, median, median_interval

PAIR_NS = 2.5
CONTENDED = 0.95


def variants(bench):
    agent = bench.tools.agent
    profiles = {"BLOCKPROFILE": bench.dir / "block.prof", "MUTEXPROFILE": bench.dir / "mutex.prof"}
    timing = bench.tools.build / "tests" / "bench" / "libalways_timing.so"
    return {
        "plain": bench.environment(),
        "plain again": bench.environment(),
        "agent, rates 0": bench.environment(LD_PRELOAD=agent, BLOCKRATE=0, MUTEXFRACTION=0),
        "block": bench.environment(LD_PRELOAD=agent, BLOCKPROFILE=profiles["BLOCKPROFILE"]),
        "block and mutex": bench.environment(LD_PRELOAD=agent, **profiles),
        "every lock timed": bench.environment(LD_PRELOAD=timing),
    }


def measure(bench, arguments):
    """{variant: [figure of each round]}"""
    import subprocess
    program = str(bench.tools.build / "tests" / "bench" / "lock_cost")
    environments = variants(bench)
    names = list(environments)
    found = {name: [] for name in names}
    for i in range(bench.pairs):
        for name in names[i % len(names):] + names[:i % len(names)]:
            done = subprocess.run([program, *map(str, arguments)], env=environments[name], cwd=bench.dir, check=True,
                                  capture_output=True, text=True)
            found[name].append(float(done.stdout))
    return found


def pairs(bench, kind, threads):
    found = measure(bench, [kind, threads, 150])
    plain = min(found["plain"] + found["plain again"])
    who = ["main alone", "1 thread", "2 threads"][threads]
    print("\n%s, %s: nanoseconds a pair, minimum and median of %d runs" %
          ({"pair": "mutex", "rwpair": "rwlock, read"}[kind], who, bench.pairs))
    for name, values in found.items():
        print("  %-18s %7.2f %7.2f   %+6.2f" % (name, min(values), median(values), min(values) - plain))
    for name in "agent, rates 0", "block and mutex":
        added = min(found[name]) - plain
        low, high = median_interval([a - min(b, c) for a, b, c in zip(found[name], found["plain"], found["plain again"])])
        bench.verdict(added <= PAIR_NS, low > PAIR_NS, "%s, %s, %s: %+.2f ns a pair, bound %.1f (median of rounds %s)" %
                      (kind, who, name, added, PAIR_NS, interval_text(low, high, "%+.2f")))


def contended(bench, threads):
    found = measure(bench, ["contended", threads, 300])
    print("\none lock, %d threads: pairs a second, median of %d runs, and as a share of plain in the same round" % (threads, bench.pairs))
    for name, values in found.items():
        ratios = [value / plain for value, plain in zip(values, found["plain"])]
        low, high = median_interval(ratios)
        print("  %-18s %10.0f   %6.3f   %s" % (name, median(values), median(ratios), interval_text(low, high, "%.3f")))
        if name == "block and mutex":
            bench.verdict(median(ratios) >= CONTENDED, high < CONTENDED,
                          "contended, %d threads, block and mutex: %.3f of plain, bound %.2f (95 %% of the median %s)" %
                          (threads, median(ratios), CONTENDED, interval_text(low, high, "%.3f")))


def main():
    with Bench(__doc__, 15, 3) as bench:
        wanted = bench.options.only or ["pair", "rwpair", "contended"]
        for kind in "pair", "rwpair":
            if kind in wanted:
                for threads in 0, 1, 2:
                    pairs(bench, kind, threads)
        if "contended" in wanted:
            contended(bench, 4)


if __name__ == "__main__":
    sys.exit(main())
