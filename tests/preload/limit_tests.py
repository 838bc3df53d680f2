"""Little memory, few timers, a sandbox: fall back, say so once, go on."""

import errno
import os

from harness import Skip
from runner import each, test

# System calls by number (x86-64): what sandboxes and old kernels refuse.
SYSCALLS = {"timer_create": 222, "timer_settime": 223, "madvise": 28, "process_vm_readv": 310, "rt_sigaction": 13, "mmap": 9,
            "memfd_create": 319, "getrandom": 318, "prctl": 157, "openat": 257, "rename": 82, "gettid": 186,
            "perf_event_open": 298, "rt_sigprocmask": 14, "statx": 332, "readlink": 89, "getpid": 39, "fallocate": 285,
            "sigaltstack": 131, "clock_gettime": 228}


def lines_of_ours(run):
    return [line for line in run.err.decode().splitlines() if line.startswith("profagent: ")]


def as_another_user(t, limit):
    """RLIMIT_SIGPENDING counts what the whole user has: a user of its own starts at 0."""
    t.need_root()
    os.chmod(t.dir, 0o777)
    user = 2000000 + os.getpid() % 100000 * 10 + limit
    return [t.need("prlimit"), "--sigpending=%d:%d" % (limit, limit), t.need("setpriv"), "--reuid=%d" % user,
            "--regid=%d" % user, "--clear-groups"]


@each([0, 1, 4])
def few_pending_signals_are_allowed(t, limit):
    # POSIX timers count against RLIMIT_SIGPENDING: containers set it low, and timer_create fails with EAGAIN.
    run = t.run("threads", "come_and_go", hz=100, prefix=as_another_user(t, limit))
    t.expect_exit(run)
    t.expect(len(lines_of_ours(run)) <= 1 and run.err.count(b"\n") == len(lines_of_ours(run)), "more than one line", run)
    profile = t.expect_work(run, "short_work", 2.0, tolerance=0.25)
    if limit <= 1:
        t.expect(lines_of_ours(run) or profile.losses(), "the fallback is not said: %s" % profile.comments, run)
    # Where perf events stand in for them, no process timer does, and nothing is lost.
    if any("perf events" in comment for comment in profile.comments):
        t.expect(not any("timers_refused" in comment for comment in profile.comments), "two engines: %s" % profile.comments, run)


@test()
def few_pending_signals_with_threads_at_work(t):
    run = t.run("threads", "named", hz=100, prefix=as_another_user(t, 2))
    t.expect_exit(run)
    t.expect_near("CPU seconds", run.profile().cpu_seconds(), 0.6, 0.2, run)


@test()
def few_pending_signals_and_execs_that_fail(t):
    # One timer serves the process, and each thread that came back from its exec made one anew: two of them ran, for ever.
    run = t.run("threads", "failing_execs", hz=100, prefix=as_another_user(t, 3))
    t.expect_exit(run)
    t.expect_work(run, "main_work", 0.5)


@each(["timer_create", "timer_settime", "madvise", "process_vm_readv", "perf_event_open", "memfd_create", "getrandom", "fallocate", "statx",
       "sigaltstack"])
def sandbox_forbids(t, name):
    # EPERM from a seccomp filter where nobody expects an error.
    for error in errno.EPERM, errno.ENOSYS:
        directory = t.new_dir(errno.errorcode[error])
        run = t.run("worker", 300, 7, hz=100, cwd=directory, prefix=[t.program("forbid"), error, SYSCALLS[name], "--"])
        t.expect_exit(run, 7)
        t.expect(len(lines_of_ours(run)) <= 1 and run.err.count(b"\n") == len(lines_of_ours(run)), "more than one line", run)
        t.expect_work(run, "app_work", 0.3, tolerance=0.25)


@each(["timer_create", "timer_settime"])
def sandbox_forbids_timers_to_threads(t, name):
    run = t.run("threads", "named", hz=100, prefix=[t.program("forbid"), errno.EPERM, SYSCALLS[name], "--"])
    t.expect_exit(run)
    t.expect(len(lines_of_ours(run)) == 1, "the fallback is not said once", run)
    t.expect_near("CPU seconds", run.profile().cpu_seconds(), 0.6, 0.25, run)


@test()
def sandbox_forbids_reads_of_foreign_stacks(t):
    # Coroutine stacks are read by process_vm_readv: where that is refused the walk ends, but the leaf is there.
    run = t.run("coroutines", "main", hz=1000, prefix=[t.program("forbid"), errno.EPERM, SYSCALLS["process_vm_readv"], "--"])
    t.expect_exit(run)
    # That leaf is the clock, by which it knows when to stop, as often as the machine's clock is slow.
    profile = run.profile()
    leaves = profile.by_leaf("cpu")
    names = ("coroutine_work", "clock_gettime", "__vdso_clock_gettime", "clock_gettime@plt")
    seconds = (sum(leaves[name] for name in names) - profile.cum("main_work", "cpu") + leaves["main_work"]) / 1e9
    t.expect_near("CPU seconds on foreign stacks", seconds, 0.32, 0.1 * 0.32 + 0.03, run)
    t.expect(leaves["coroutine_work"] / 1e9 > 0.16, "leaves: %s" % leaves.most_common(4), run)


@each([120, 40, 12])
def little_address_space(t, size):  # MiB
    # RLIMIT_AS below the ledger's default size of 256 MiB: a smaller one is taken.
    limit = size << 20
    run = t.run("worker", 300, 7, hz=250, prefix=[t.need("prlimit"), "--as=%d:%d" % (limit, limit)])
    if run.status == 127:  # the loader itself could not map us
        t.note("ld.so: %s" % run.err)
        return
    t.expect_exit(run, 7)
    # With next to nothing three things fail, and each is said: a large ledger, recording, writing that nothing was recorded.
    said = lines_of_ours(run)
    t.expect(len(said) <= (1 if size >= 40 else 3) and run.err.count(b"\n") == len(said), "too many lines", run)
    if size >= 40:
        t.expect_work(run, "app_work", 0.3)


@each(["as", "data", "prlimit"])
def program_limits_itself(t, way):
    # ulimit -v in a shell: what the ledger had reserved counted, and the program got no memory any more.
    t.expect_exit(t.run("own_limits", way, agent=False), 7)
    run = t.run("own_limits", way, hz=250)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect_work(run, "limited_work", 0.2)


@each([("raw_clone", {}), ("forked", {"PROFAGENT_CHILDREN": "0"})])
def child_that_is_not_recorded_limits_itself(t, way, env):
    # vsftpd: each session is a raw clone with 200 MiB of address space, of which 256 were our ledger's: "500 OOPS: mmap".
    t.expect_exit(t.run("own_limits", way, agent=False), 7)
    run = t.run("own_limits", way, hz=250, env=env)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect_work(run, "limited_work", 0.2)


@test()
def program_locks_its_memory(t):
    # mlockall fills what is mapped: 256 MiB of ledger, which nothing had touched, were taken from the machine for good.
    plain = t.run("own_limits", "lock", agent=False)
    if plain.status == 77:
        raise Skip("mlockall is not allowed")
    t.expect_exit(plain, 7)
    run = t.run("own_limits", "lock", hz=250)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect_work(run, "limited_work", 0.2)
    more = run.usage.ru_maxrss - plain.usage.ru_maxrss
    t.expect(more <= 48 << 10, "%d KiB more than without the agent" % more, run)


@test()
def memory_limit_is_kept_and_losses_are_counted(t):
    # A full ledger drops samples and says how many: kept and lost together are the whole CPU time.
    run = t.run("many_stacks", 2500, hz=1000, env={"PROFAGENT_MEMORY": 1 << 20, "PROFAGENT_MAXDEPTH": 1024}, timeout=60)
    t.expect_exit(run)
    profile = run.profile()
    lost = profile.losses().get("samples_ledger_full", 0)
    t.note("%d ticks kept, %d lost" % (profile.ticks(), lost))
    if profile.ticks() >= 0.97 * run.cpu_seconds * 1000:
        t.expect(False, "the ledger was not filled: %d ticks in %d samples; the test is too small" %
                 (profile.ticks(), len(profile.samples)), run)
    t.expect(lost > 0, "losses are not counted: %s" % profile.comments, run)
    t.expect_near("kept and lost ticks a CPU second", (profile.ticks() + lost) / run.cpu_seconds, 1000, 60, run)


@each(["nameless", "named"])
def threads_that_come_and_go_take_no_memory(t, how):
    # Each left 16 bytes in the ledger for ever, and a name of its own 32 more. With a thread for each connection it was full after
    # hours, and what was called from then on was in no profile.
    source = t.dir / "coming.c"
    name = 'char name[16]; sprintf(name, "conn-%d", *(int*)number); pthread_setname_np(pthread_self(), name);' if how == "named" else ""
    source.write_text("#define _GNU_SOURCE\n#include <pthread.h>\n#include <stdio.h>\n#include <time.h>\n"
                      "static void* Nothing(void* number) { " + name + " return number; }\n"
                      "__attribute__((noinline)) static void called_late(void) {\n"
                      "  clock_t end = clock() + CLOCKS_PER_SEC / 2; while (clock() < end) ; }\n"
                      "int main(void) {\n"
                      "  for (int i = 0; i < 80000; ++i) {\n"
                      "    pthread_t thread; if (pthread_create(&thread, NULL, Nothing, &i) != 0) return 1;\n"
                      "    pthread_join(thread, NULL); }\n"
                      "  called_late(); return 0; }\n")
    t.expect_exit(t.run(t.need("gcc"), "-O1", "-o", t.dir / "coming", source, "-pthread", agent=False))
    run = t.run(t.dir / "coming", hz=100, env={"PROFAGENT_MEMORY": "1M"}, timeout=60)
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect("samples_ledger_full" not in run.profile().losses(), "the threads filled the ledger", run)
    t.expect_work(run, "called_late", 0.5)


@each([(1, 12), (16, 48)])
def memory_stays_below_its_limit(t, limit, most):
    # 400 000 calls in a row whose stacks are nearly all distinct, each recorded: the ledger alone would be 200 MiB. Writing the profile
    # takes memory beside it.
    def megabytes(agent):
        env = {"CPUPROFILE": None, "HEAPPROFILE": "heap.prof", "MEMPROFILERATE": 1, "PROFAGENT_MEMORY": "%dM" % limit} if agent else None
        run = t.run(t.dir / "stacks", agent=agent, env=env)
        t.expect_exit(run)
        return run, run.usage.ru_maxrss / 1024

    source = t.dir / "stacks.c"
    source.write_text("#include <stdlib.h>\nstatic unsigned long seed = 1; static void* volatile keep;\n"
                      "static int Coin(void) { seed = seed * 6364136223846793005UL + 1442695040888963407UL; return seed >> 33 & 1; }\n"
                      "void two(int left);\n"
                      "__attribute__((noinline)) void one(int left) {\n"
                      "  if (left == 0) free(keep = malloc(100)); else if (Coin()) one(left - 1); else two(left - 1); }\n"
                      "__attribute__((noinline)) void two(int left) {\n"
                      "  if (left == 0) free(keep = malloc(100)); else if (Coin()) one(left - 1); else two(left - 1); }\n"
                      "int main(void) { for (int i = 0; i < 400000; ++i) one(40); return 0; }\n")
    t.expect_exit(t.run(t.need("gcc"), "-O1", "-fno-builtin", "-fno-optimize-sibling-calls", "-o", t.dir / "stacks", source, agent=False))
    _, before = megabytes(False)
    run, after = megabytes(True)
    t.note("%.1f MiB more than without the agent" % (after - before))
    t.expect(after - before <= most, "%.1f MiB more than without the agent" % (after - before), run)
    t.expect(run.profile("heap.prof").losses().get("samples_ledger_full", 0) > 0, "the ledger was not filled: the test is too small", run)


@test()
def default_memory_is_small(t):
    # 256 MiB are address space; what is touched is what samples need.
    plain = t.run("worker", 300, agent=False)
    run = t.run("worker", 300, hz=1000)
    t.expect_exit(run)
    more = run.usage.ru_maxrss - plain.usage.ru_maxrss
    t.note("%d KiB more than without the agent" % more)
    t.expect(more <= 8 << 10, "%d KiB more than without the agent" % more, run)


@test()
def limits_of_the_program_are_its_own(t):
    # What we lower or raise for ourselves must not be what getrlimit says (see inspect); a limit of CPU time still kills.
    run = t.run("worker", 5000, 7, hz=100, prefix=[t.need("prlimit"), "--cpu=1:2"])
    t.expect(run.signal == 24, "expected SIGXCPU, got %s" % run.end(), run)
    t.expect(run.profile().cum("app_work", "cpu") > 0.7e9, "no profile of a program that used up its CPU time", run)


