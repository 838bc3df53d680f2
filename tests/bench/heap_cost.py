#!/usr/bin/env python3
"""What a heap profile costs: nanoseconds a malloc+free pair, CPU time and memory of real programs, other tools beside it.

Pairs: tests/bench/malloc_pairs, 16 to 256 bytes, 1 and 2 threads, every variant once a round, each round beginning with another
one. The figure is the difference of the minima over all rounds: what a virtual machine adds is never negative, and the
difference is a few cycles. Bounds (design.md section 4): +4 ns at the default rate, +2 ns with MEMPROFILERATE=0.

Programs: CPU time of the process against a plain run that takes turns with it on the same processor (cpu_cost.py says why);
redis-server, which needs its clients, against a plain one before it.
Bounds (issue 3): 1 % at the default rate, all but noise; 8 MiB of memory; at rate 1 less CPU time than heaptrack.
Beside that, what cannot be noise: the program's allocations (a profile at rate 1 counts them) times what a pair costs more
here. python3 with PYTHONMALLOC=malloc does nothing else for longer than 40 ns at a time: there a nanosecond is 2 %. `bare jumps` is
a preload that does nothing but jump on to libc's functions (bare_jumps_preload.c): what no interposer can do for less.
"""

import glob
import os
import subprocess
import sys

from common import Bench, Place, SideBySide, Skip, interval_text, median, median_interval
from redis_server import RedisServer
from workloads import clang, python3, sqlite3

PAIR_BOUND_NS = {"agent": 4.0, "agent, rate 0": 2.0}
CPU_BOUND, MEMORY_MIB = 1.0, 8.0
SCALE = 0.25  # of the workloads


def library(name):
    found = glob.glob("/usr/lib/*/" + name) + glob.glob("/usr/lib/heaptrack/" + name)
    return found[0] if found else None


def variants_of(bench):
    """name -> environment."""
    agent = {"LD_PRELOAD": bench.tools.agent, "HEAPPROFILE": bench.dir / "heap.prof"}
    found = {"plain": {}, "plain again": {}, "agent": agent, "agent, rate 0": {**agent, "HEAPPROFILE": "", "MEMPROFILERATE": 0},
             "agent, rate 1": {**agent, "MEMPROFILERATE": 1},
             "bare jumps": {"LD_PRELOAD": bench.tools.build / "tests" / "bench" / "libbare_jumps.so"}}
    for name, file, env in [("tcmalloc, sampling", "libtcmalloc.so.4", {"TCMALLOC_SAMPLE_PARAMETER": 524288}),
                            ("jemalloc, prof", "libjemalloc.so.2", {"MALLOC_CONF": "prof:true,lg_prof_sample:19,prof_final:false"}),
                            ("heaptrack", "libheaptrack_preload.so", {"DUMP_HEAPTRACK_OUTPUT": "/dev/null"})]:
        path = library(file)
        if path is None:
            bench.skip(name, "%s is not installed" % file)
        else:
            found[name] = {"LD_PRELOAD": path, **env}
    return found


def pairs(bench, variants):
    """What a pair of one thread, in random order, costs more at the default rate: nanoseconds."""
    costs = {}
    program = bench.tools.build / "tests" / "bench" / "malloc_pairs"
    slices = 5 if bench.options.quick else 30
    for threads in 1, 2:
        for how in "immediate", "random":
            least = {name: [] for name in variants}
            middle = {name: [] for name in variants}
            order = list(variants)
            for round_number in range(bench.pairs):
                for at in range(len(order)):
                    name = order[(at + round_number) % len(order)]
                    # What takes 50 times as long needs no precision.
                    count = max(1, slices // 15) if name in ("heaptrack", "agent, rate 1") else slices
                    env = bench.environment(**variants[name])
                    done = subprocess.run([program, str(threads), how, str(count)], env=env, capture_output=True, text=True, check=True,
                                          cwd=bench.dir)
                    low, mid = map(float, done.stdout.split())
                    least[name].append(low)
                    middle[name].append(mid)
            plain = min(least["plain"] + least["plain again"])
            print("\n%d thread%s, %s: ns a pair (minimum, median) and over plain, %d rounds" %
                  (threads, "s"[:threads > 1], how, bench.pairs))
            for name in order:
                print("  %-20s %8.2f %8.2f   %+8.2f" % (name, min(least[name]), median(middle[name]), min(least[name]) - plain))
            for name, bound in PAIR_BOUND_NS.items():
                added = min(least[name]) - plain
                noise = abs(min(least["plain"]) - min(least["plain again"]))
                costs[threads, how, name] = added
                bench.verdict(added <= bound, added - noise > bound, "malloc+free, %d thread%s, %s, %s: %+.2f ns, bound %.0f ns" %
                              (threads, "s"[:threads > 1], how, name, added, bound))
    return costs[1, "random", "agent"]


def measured(bench, place, env):
    """What to put before a command that is to have `env`, so that `used` can tell what it took."""
    return [str(bench.tools.build / "tests" / "bench" / "measured_run"), str(place.dir / "used"),
            *("%s=%s" % pair for pair in bench.environment(**env).items()), "--"]


def used(place):
    """CPU seconds, KiB at the peak."""
    user, system, kib = map(int, (place.dir / "used").read_text().split())
    return (user + system) / 1e6, kib


def pairs_of(bench, workload, change=lambda env: env):
    """Answers pairs of runs: what `used` says of a plain one and of one with that environment beside it."""
    program = SideBySide(bench, workload, SCALE)

    def pair(plain, env):
        program.run([(measured(bench, place, change(each)), bench.environment()) for place, each in zip(program.places, (plain, env))])
        return [used(place) for place in program.places]
    return pair


def redis_pairs_of(bench):
    """The same of one server after the other, each with a fixed number of requests."""
    place = Place(bench, 0)

    def once(env):
        server = RedisServer(bench, {}, prefix=measured(bench, place, env))
        server.benchmark("-n", "60000", "-P", "8", "-r", "10000", "-t", "set,get,lpush,lpop,sadd,hset")
        server.stop()
        return used(place)
    return lambda plain, env: [once(plain), once(env)]


def with_malloc(env):
    return {**env, "PYTHONMALLOC": "malloc"}


def count_allocations(bench, pair, variants):
    pair(variants["plain"], variants["agent, rate 1"])
    # In another process: the kernel counts this one's memory as a child's that it starts.
    script = "import sys, pprof_reader; print(pprof_reader.read(sys.argv[1]).total('alloc_objects'))"
    return int(subprocess.check_output([sys.executable, "-c", script, bench.dir / "heap.prof"],
                                       env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, text=True))


def programs(bench, variants, pair_ns):
    works = {"clang": lambda: pairs_of(bench, clang), "python3": lambda: pairs_of(bench, python3, with_malloc),
             "sqlite3": lambda: pairs_of(bench, sqlite3), "redis-server": lambda: redis_pairs_of(bench)}
    every = [variant for variant in variants if variant != "plain again"]  # `plain` has a plain run beside it
    for name, make in works.items():
        if bench.options.only and name not in bench.options.only:
            continue
        try:
            pair = make()
            pair(variants["plain"], variants["plain"])  # warms the page cache
        except Skip as skip:
            bench.skip(name, skip)
            continue
        # The jumps lead to libc, redis is linked with jemalloc.
        order = [variant for variant in every if name != "redis-server" or variant != "bare jumps"]
        added, more, plain_seconds = {v: [] for v in order}, {v: [] for v in order}, []
        for round_number in range(bench.pairs):
            for at in range(len(order)):
                variant = order[(at + round_number) % len(order)]
                (plain_cpu, plain_kib), (cpu, kib) = pair(variants["plain"], variants[variant])
                added[variant].append(100 * (cpu / plain_cpu - 1))
                more[variant].append((kib - plain_kib) / 1024)
                plain_seconds.append(plain_cpu)
        print("\n%s: plain %.3f s of CPU time, %d rounds" % (name, median(plain_seconds), bench.pairs))
        for variant in order:
            low, high = median_interval(added[variant])
            memory = median(more[variant])
            print("  %-20s %+8.2f %%  (%s)  memory %+7.2f MiB" %
                  (variant, median(added[variant]), interval_text(low, high, "%+.2f"), memory))
            if variant == "agent":
                bench.verdict(median(added[variant]) <= CPU_BOUND, low > CPU_BOUND,
                              "%s, heap profile at the default rate: %+.2f %% (%s), bound %.0f %%" %
                              (name, median(added[variant]), interval_text(low, high, "%+.2f"), CPU_BOUND))
                bench.verdict(memory <= MEMORY_MIB, True, "%s, memory at the default rate: %+.2f MiB, bound %.0f MiB" % (name, memory, MEMORY_MIB))
        if pair_ns is not None:
            count, seconds = count_allocations(bench, pair, variants), median(plain_seconds)
            print("      %s: %d allocations, at %+.2f ns a pair %.2f %%" %
                  (name, count, pair_ns, 100 * count * max(0, pair_ns) / 1e9 / seconds))
        if "heaptrack" in added:
            ours, theirs = median(added["agent, rate 1"]), median(added["heaptrack"])
            difference = [a - b for a, b in zip(added["agent, rate 1"], added["heaptrack"])]
            bench.verdict(ours < theirs, True,
                          "%s, every allocation recorded: %+.0f %%, heaptrack %+.0f %% (difference of the rounds: %s)" %
                          (name, ours, theirs, interval_text(*median_interval(difference), "%+.0f")))


def main():
    with Bench(__doc__.split("\n")[0], pairs=11, quick_pairs=2) as bench:
        variants = variants_of(bench)
        pair_ns = None
        if not bench.options.only or "pairs" in bench.options.only:
            pair_ns = pairs(bench, variants)
        if bench.options.only != ["pairs"]:
            programs(bench, variants, pair_ns)


if __name__ == "__main__":
    main()
