#!/usr/bin/env python3
"""How much the agent weighs: the stripped library, and the memory that it adds to a program.

Memory: python3 under its workload at default settings (a CPU profile of 100 Hz), paired with plain runs. Before it ends it reads its own
peak (VmHWM) and its share of memory (PSS of smaps_rollup); the peak that the kernel reports after the end also holds what
writing the profile took. Pages of the library itself count.
Bounds (design.md section 4): 400 KiB, 8 MiB.
"""

import subprocess

from common import Bench, median, run
from workloads import python3

LIBRARY_KIB = 400
MEMORY_MIB = 8.0

# The kernel's peak counts from before the exec, so it holds this interpreter's size as well: the program must be larger.
REPORT = """
import re
ballast = b"x" * (64 << 20)
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1],
      re.search(r"Pss:\\s+(\\d+)", open("/proc/self/smaps_rollup").read())[1])
"""


def measure(bench, argv, env):
    out = bench.dir / "out"
    _, _, status, usage = run(argv, env, bench.dir, out=out)
    if status != 0:
        raise SystemExit("python3 ended with status %#x" % status)
    peak, share = out.read_text().split()[-2:]
    return {"VmHWM": int(peak), "PSS": int(share), "peak after the end": usage.ru_maxrss}


def main():
    with Bench(__doc__.split("\n")[0], pairs=7, quick_pairs=2) as bench:
        stripped = bench.dir / "stripped.so"
        subprocess.run([bench.need("strip"), "-o", stripped, bench.tools.agent], check=True)
        kib = stripped.stat().st_size / 1024
        print()
        bench.verdict(kib <= LIBRARY_KIB, True, "libprofagent.so, stripped: %.1f KiB, bound %d KiB" % (kib, LIBRARY_KIB))
        sections = subprocess.run([bench.need("size"), stripped], check=True, capture_output=True, text=True).stdout.split()
        print("      of these text %s, data %s; bss %s bytes" % tuple(sections[6:9]))

        argv = python3(bench, 0.5)
        argv = [*argv[:-1], argv[-1] + REPORT]
        plain, agent = [], []
        for _ in range(bench.pairs):
            plain.append(measure(bench, argv, bench.environment()))
            agent.append(measure(bench, argv, bench.agent(bench.dir / "cpu.prof")))
        print("\npython3 at default settings, %d pairs, medians in KiB" % bench.pairs)
        for what in plain[0]:
            before, after = (median([r[what] for r in runs]) for runs in (plain, agent))
            added = median([a[what] - p[what] for p, a in zip(plain, agent)]) / 1024
            bench.verdict(added <= MEMORY_MIB, True, "memory, %s: %d plain, %d with the agent: %+.2f MiB, bound %.0f MiB" %
                          (what, before, after, added, MEMORY_MIB))


if __name__ == "__main__":
    main()
