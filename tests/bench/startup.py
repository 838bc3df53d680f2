#!/usr/bin/env python3
"""What the agent adds to the start and end of a program that does nothing.

/bin/true, paired and interleaved: without the agent, preloaded but inert (no profile asked for), with a CPU profile that is
written to memory. Wall time from posix_spawn to the end of the wait; the loader's work for one more library is in it.
Bound (design.md section 4): at most 1 ms, by the median of the pairs.
"""

import os

from common import Bench, interval_text, median, median_interval, quantile, run

BOUND_MS = 1.0
TRUE = "/bin/true"


def main():
    with Bench(__doc__.split("\n")[0], pairs=300, quick_pairs=30) as bench:
        profile = bench.dir / "cpu.prof"
        variants = {
            "plain": bench.environment(),
            "inert": bench.environment(LD_PRELOAD=bench.tools.agent),
            "profiling": bench.agent(profile),
        }
        names = list(variants)
        seconds = {name: [] for name in names}
        cpu = {name: [] for name in names}
        for round_number in range(bench.pairs + 5):
            for at in range(len(names)):  # each variant comes first, second and third equally often
                name = names[(at + round_number) % len(names)]
                profile.unlink(missing_ok=True)
                wall, used, status, _ = run([TRUE], variants[name], bench.dir)
                if status != 0:
                    raise SystemExit("%s ended with status %#x (%s)" % (TRUE, status, name))
                if profile.exists() != (name == "profiling"):
                    raise SystemExit("%s (%s): %s" % (TRUE, name, "wrote a profile" if profile.exists() else "wrote no profile"))
                if round_number >= 5:  # the first ones warm the page cache
                    seconds[name].append(wall)
                    cpu[name].append(used)
        print("\n%s, %d interleaved rounds, ms" % (os.path.realpath(TRUE), bench.pairs))
        print("%-10s %8s %8s %8s %8s" % ("", "median", "p10", "p90", "CPU mean"))
        for name in names:
            ms = [1e3 * s for s in seconds[name]]
            print("%-10s %8.3f %8.3f %8.3f %8.3f" % (name, median(ms), quantile(ms, 0.1), quantile(ms, 0.9),
                                                    1e3 * sum(cpu[name]) / len(cpu[name])))
        for name in names[1:]:
            added = [1e3 * (with_agent - plain) for with_agent, plain in zip(seconds[name], seconds["plain"])]
            low, high = median_interval(added)
            bench.verdict(median(added) <= BOUND_MS, low > BOUND_MS,
                          "start-up, %s: %+.3f ms (95 %% of the median: %s), bound %.1f ms" %
                          (name, median(added), interval_text(low, high, "%+.3f"), BOUND_MS))


if __name__ == "__main__":
    main()
