#!/usr/bin/env python3
"""What it costs to write a CPU or heap profile of 100 000 distinct stacks: judges what tests/bench/encode_bench measures.

Bound (design.md section 4): 300 ms, compressed. What writing the profile of a real program costs is in cpu_cost.py's tables.
"""

import json
import subprocess

from common import Bench, median, quantile

BOUND_MS = 300
CASES = ["cpu, 100000 stacks, gzip", "heap, 100000 stacks, gzip"]


def main():
    with Bench(__doc__.split("\n")[0], pairs=9, quick_pairs=2) as bench:
        program = bench.tools.build / "tests" / "bench" / "encode_bench"
        if not program.exists():
            bench.skip("encoding", "%s is not built (libbenchmark-dev)" % program)
            return
        report = bench.dir / "encode.json"
        subprocess.run([program, "--benchmark_repetitions=%d" % bench.pairs, "--benchmark_min_time=0.1", "--benchmark_out=%s" % report,
                        "--benchmark_out_format=json"], env=bench.environment(), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        runs = [r for r in json.loads(report.read_text())["benchmarks"] if r["run_type"] == "iteration"]
        print("\n%-28s %10s %10s %10s   ms of CPU time, %d runs" % ("", "median", "p10", "p90", bench.pairs))
        for case in dict.fromkeys(r["run_name"] for r in runs):
            mine = [r for r in runs if r["run_name"] == case]
            ms = [r["cpu_time"] for r in mine]
            more = "".join(", %s %.1f MB" % (what, mine[0][what] / 1e6) for what in ("bytes", "arena_bytes") if what in mine[0])
            print("%-28s %10.1f %10.1f %10.1f%s" % (case, median(ms), quantile(ms, 0.1), quantile(ms, 0.9), more))
        for case in CASES:
            ms = [r["cpu_time"] for r in runs if r["run_name"] == case]
            bench.verdict(median(ms) <= BOUND_MS, min(ms) > BOUND_MS, "%s: %.1f ms, bound %d ms" % (case, median(ms), BOUND_MS))


if __name__ == "__main__":
    main()
