#!/usr/bin/env python3
"""What a walk costs inside a signal handler, beside libgcc's and libunwind's two.

Warm: 30 frames without frame pointers, the same stack again and again (tests/bench/unwind_bench.cc). Bound: 0.6 us, in
a handler and from a hook.
Real: preloaded into clang, cc1plus and xz, each CPU signal walked by one unwinder a run, runs of the four in turn
(unwind_real_preload.cc). The caches are the program's, so this is what a sample costs. Bound: p50 at most half of libgcc's.
"""

import collections
import subprocess

from common import Bench, Skip, median, quantile, run
from workloads import clang, xz

WARM_NS = 600
RATIO = 0.5
METHODS = ("profagent", "libgcc", "unw_backtrace", "unw_step")


def cc1plus(bench, scale):
    clang(bench, scale)  # for the source
    # No assembler: unw_backtrace makes it abort, see below.
    return [bench.need("g++"), "-std=c++17", "-O2", "-S", "a.cc", "-o", "a.s"]


PROGRAMS = {"clang": clang, "cc1plus": cc1plus, "xz": xz}


def warm(bench, program):
    seen = collections.defaultdict(list)
    for _ in range(bench.pairs):
        text = subprocess.run([program], env=bench.environment(), check=True, capture_output=True, text=True).stdout
        for line in text.splitlines()[2:]:
            name, frames, least, middle, late, _ = line.split()
            seen[name].append((int(frames), float(least), float(middle), float(late)))
    print("\nwarm, 30 frames or so, %d runs, ns a walk\n%-14s %7s %9s %9s %9s" % (bench.pairs, "", "frames", "min", "median", "p99"))
    for name in (*METHODS, "profagent-hook"):
        rows = list(zip(*seen[name]))
        print("%-14s %7d %9.0f %9.0f %9.0f" % (name, rows[0][0], min(rows[1]), median(rows[2]), median(rows[3])))
    for name, where in (("profagent", "in a handler"), ("profagent-hook", "from a hook")):
        frames, _, middles, _ = zip(*seen[name])
        thirty = [30 * m / f for m, f in zip(middles, frames)]
        bench.verdict(median(thirty) <= WARM_NS, min(thirty) > WARM_NS,
                      "warm walk of 30 frames %s: %.0f ns, bound %d ns" % (where, median(thirty), WARM_NS))


def real(bench, library, name, workload):
    argv = workload(bench, 0.5)
    out = bench.dir / "samples"
    out.unlink(missing_ok=True)
    for _ in range(bench.pairs):
        for method in METHODS:
            env = bench.environment(LD_PRELOAD=library, UNWIND_REAL_OUT=out, UNWIND_REAL_METHOD=method)
            _, _, status, _ = run(argv, env, bench.dir)
            if status != 0 and method != "profagent":
                # libunwind calls malloc where it finds no .eh_frame: in a handler that
                # interrupted malloc this aborts the program now and then ("sysmalloc assertion"). Its other runs count.
                print("%s died under %s (status %#x): that run does not count" % (name, method, status))
                continue
            if status != 0:
                raise SystemExit("%s ended with status %#x under %s" % (name, status, method))
    times, depths = collections.defaultdict(list), collections.defaultdict(list)
    for line in out.read_text().splitlines():
        program, method, nanos, depth = line.split()
        if program.startswith(name):  # not the compiler's driver
            times[method].append(int(nanos) / 1e3)
            depths[method].append(int(depth))
    print("\n%s, %d runs of each, us a sample\n%-14s %8s %7s %8s %8s %8s" % (name, bench.pairs, "", "samples", "frames", "p50", "p95", "mean"))
    for method in METHODS:
        if times[method]:
            print("%-14s %8d %7d %8.1f %8.1f %8.1f" % (method, len(times[method]), median(depths[method]), median(times[method]),
                                                      quantile(times[method], 0.95), sum(times[method]) / len(times[method])))
    ours, libgcc = times["profagent"], times["libgcc"]
    if min(len(ours), len(libgcc)) < 50:
        bench.skip(name, "too few samples")
        return
    ratio = median(ours) / median(libgcc)
    bench.verdict(ratio <= RATIO, True, "%s: p50 %.1f us, %.2f of libgcc's %.1f us, bound %.1f" %
                  (name, median(ours), ratio, median(libgcc), RATIO))


def main():
    with Bench(__doc__.split("\n")[0], pairs=5, quick_pairs=1) as bench:
        here = bench.tools.build / "tests" / "bench"
        if not (here / "unwind_bench").exists():
            bench.skip("unwinding", "unwind_bench is not built (libunwind-dev)")
            return
        if not bench.options.only:
            warm(bench, here / "unwind_bench")
        for name in bench.options.only or PROGRAMS:
            try:
                real(bench, here / "libunwind_real.so", name, PROGRAMS[name])
            except Skip as skip:
                bench.skip(name, skip)


if __name__ == "__main__":
    main()
