"""Block and mutex profiles of real programs: who waits is where everybody knows that these programs wait."""

import re
import socket

from pprof_reader import names_of
from runner import test
from workloads import python3_threads

LOCKS = {"CPUPROFILE": None, "MEMPROFILERATE": 0, "BLOCKRATE": 1000, "MUTEXFRACTION": 1}


def delay(profile, leaf, anywhere=""):
    """Seconds of the samples with this leaf and a function below it that matches."""
    return sum(s.values[1] for s in profile.samples if re.fullmatch(leaf, names_of(s)[0]) and
               any(re.search(anywhere, name) for name in names_of(s))) / 1e9


def profiles(t, run):
    t.expect_exit(run)
    t.expect_silent(run)
    found = run.profile("block.prof"), run.profile("mutex.prof")
    for profile in found:
        lost = [c for c in profile.comments if "waits_table_full" in c or "samples_no_scratch" in c]
        t.expect(not lost, "lost: %s" % lost, run)
    return found


@test()
def python_threads_wait_for_the_gil(t):
    # The GIL is a mutex, a condition variable and a timed wait; four threads that compute wait for it most of the time.
    run = t.run(*python3_threads(t, 3000000), env=LOCKS)
    block, mutex = profiles(t, run)
    gil = delay(block, "pthread_cond_(timed|clock)wait", "_PyEval_EvalFrameDefault|Py")
    t.note("GIL %.2f s, mutex profile %.4f s in %.2f s" % (gil, mutex.total("delay") / 1e9, run.seconds))
    t.expect(gil > 0.5 * run.cpu_seconds, "the GIL is waited for %.3f s:\n%s" % (gil, block.by_leaf("delay")), run)


@test()
def xz_waits_for_its_workers(t):
    # The main thread waits for output, the workers for input; the locks themselves are held for moments.
    data = t.dir / "data"
    data.write_bytes(b"".join(b"%d %d\n" % (i, i * i % 10007) for i in range(500000)))
    run = t.run(t.need("xz"), "-T2", "-1", "-k", "--block-size=1MiB", str(data), env=LOCKS)
    block, mutex = profiles(t, run)
    conditions = delay(block, "pthread_cond_(timed|clock)?wait", "lzma_code|liblzma")
    t.note("conditions %.2f s, mutex profile %.4f s in %.2f s" % (conditions, mutex.total("delay") / 1e9, run.seconds))
    t.expect(conditions > 0.3 * run.seconds, block.by_leaf("delay"), run)
    t.expect(mutex.total("delay") / 1e9 < 0.1 * run.seconds, mutex.by_leaf("delay"), run)


@test()
def sysbench_threads_fight_for_two_locks(t):
    run = t.run(t.need("sysbench"), "threads", "--threads=8", "--thread-locks=2", "--time=1", "run", env=LOCKS)
    block, mutex = profiles(t, run)
    waited, charged = delay(block, "pthread_mutex_lock"), delay(mutex, "pthread_mutex_unlock")
    t.note("waited %.2f s, charged %.2f s" % (waited, charged))
    t.expect(waited > 1, block.by_leaf("delay"), run)
    # A wait goes on from the unlock to the waking: some 50 us of each.
    t.expect(0.7 * waited < charged < 1.05 * waited, "waited %.3f s, charged %.3f s" % (waited, charged), run)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@test()
def redis_io_threads_wait_for_the_main_thread(t):
    server, benchmark, cli = t.need("redis-server", "redis-benchmark", "redis-cli")
    port = free_port()
    running = t.start(server, "--port", port, "--io-threads", 3, "--io-threads-do-reads", "yes", "--save", "", env=LOCKS)
    running.wait_for_output(b"Ready to accept connections")
    client = t.run(benchmark, "-p", port, "-c", 20, "-n", 5000, "-t", "set,get", "-q", "-P", 8, agent=False)
    t.expect_exit(client)
    t.run(cli, "-p", port, "shutdown", "nosave", agent=False)
    run = running.finish()
    t.expect_exit(run)
    block, mutex = run.profile("block.prof"), run.profile("mutex.prof")
    t.expect(delay(block, "pthread_cond_wait", "bioProcessBackgroundJobs") > 0, block.by_leaf("delay"), run)
    lock, unlock = delay(block, "pthread_mutex_lock", "IOThreadMain"), delay(mutex, "pthread_mutex_unlock", "UsingThreads")
    t.note("io threads waited %.2f s, main charged %.2f s" % (lock, unlock))
    t.expect(lock > 0 and unlock > 0, "%s\n%s" % (block.by_leaf("delay"), mutex.by_leaf("delay")), run)
    t.expect(unlock <= 1.05 * lock, "charged %.3f s for %.3f s" % (unlock, lock), run)
