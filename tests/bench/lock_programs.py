#!/usr/bin/env python3
"""What block and mutex profiles at their default rates cost real programs: the time for a fixed work.

Paired and interleaved: plain, plain again, with both profiles. The figure is the median over the rounds of the time with
profiles against the mean of the two plain runs of the round; the line of "plain again" is what noise alone makes of that.
Bound (issue 4): throughput within 2 %.
"""


from common import Bench, Skip, interval_text, median, median_interval, run
from redis_server import RedisServer
from workloads import python3_threads

BOUND = 2.0


def command(bench, *argv):
    def once(env):
        seconds, _, status, _ = run(argv, bench.environment(**env), bench.dir)
        if status != 0:
            raise SystemExit("%s ended with status %#x" % (argv[0], status))
        return seconds
    return once


def xz(bench):
    data = bench.dir / "data"
    data.write_bytes(b"".join(b"%d %d\n" % (i, i * i % 10007) for i in range(1200000)))
    return command(bench, bench.need("xz"), "-T2", "-1", "-k", "-c", "--block-size=512KiB", str(data))


def python3(bench):
    return command(bench, *python3_threads(bench, 5000000))


def sysbench(kind, *options):
    def make(bench):
        # A work that ends by itself, with --events; --time only as an upper limit.
        return command(bench, bench.need("sysbench"), kind, "--threads=4", "--time=60", *options, "run")
    return make


def thread_pool(bench):
    return command(bench, str(bench.tools.build / "tests" / "bench" / "thread_pool"), "10000")


def redis(bench):
    def once(env):
        server = RedisServer(bench, env, "--io-threads", "2", "--io-threads-do-reads", "yes")
        try:
            return server.benchmark("-n", "150000", "-c", "20", "-P", "16", "-t", "set,get")
        finally:
            server.stop()
    bench.need("redis-server")
    return once


PROGRAMS = {
    "xz -T2": xz,
    "python3, 4 threads": python3,
    "C++ thread pool": thread_pool,
    "sysbench mutex": sysbench("mutex", "--mutex-num=4", "--mutex-locks=250000", "--mutex-loops=2000"),
    "sysbench threads": sysbench("threads", "--thread-locks=2", "--events=200"),
    "redis, 2 io-threads": redis,
}


def main():
    with Bench(__doc__.split("\n")[0], pairs=25, quick_pairs=3) as bench:
        agent = {"LD_PRELOAD": bench.tools.agent, "BLOCKPROFILE": bench.dir / "block.prof", "MUTEXPROFILE": bench.dir / "mutex.prof",
                 "MEMPROFILERATE": 0}
        variants = {"plain": {}, "plain again": {}, "block and mutex": agent}
        for name, make in PROGRAMS.items():
            if bench.options.only and not any(word in name for word in bench.options.only):
                continue
            try:
                once = make(bench)
                once({})  # warms the page cache
            except Skip as skip:
                bench.skip(name, skip)
                continue
            order, seconds = list(variants), {v: [] for v in variants}
            for round_number in range(bench.pairs):
                for at in range(len(order)):
                    variant = order[(at + round_number) % len(order)]
                    seconds[variant].append(once(variants[variant]))
            plain = [(a + b) / 2 for a, b in zip(seconds["plain"], seconds["plain again"])]
            print("\n%s: plain %.3f s, %d rounds" % (name, median(plain), bench.pairs))
            noise = [100 * (b / a - 1) for a, b in zip(seconds["plain"], seconds["plain again"])]
            added = [100 * (x / p - 1) for x, p in zip(seconds["block and mutex"], plain)]
            print("  plain again      %+6.2f %%  (%s)" % (median(noise), interval_text(*median_interval(noise), "%+.2f")))
            low, high = median_interval(added)
            bench.verdict(median(added) <= BOUND, low > BOUND, "%s, block and mutex: %+.2f %% of time (95 %% of the median: %s), bound %.0f %%" %
                          (name, median(added), interval_text(low, high, "%+.2f"), BOUND))


if __name__ == "__main__":
    main()
