"""Block and mutex profiles: every way to wait, by whom, for how long, and who ended it."""

import difflib
import os
import re
import signal

from harness import Skip
from pprof_reader import names_of, read
from runner import each, test

EVERYTHING = {"CPUPROFILE": None, "MEMPROFILERATE": 0, "BLOCKRATE": 1, "MUTEXFRACTION": 1}
MILLI = 1e6


def run_waiting(t, *argv, env=None, **options):
    run = t.run(*argv, env={**EVERYTHING, **(env or {})}, **options)
    t.expect_exit(run)
    t.expect_silent(run)
    return run


def delay(profile, *names):
    """Nanoseconds of the samples whose stack begins with these names, leaf first."""
    return sum(s.values[1] for s in profile.samples if names_of(s)[:len(names)] == list(names))


def show(profile):
    return "\n".join("  %d %.3f ms %s" % (s.values[0], s.values[1] / MILLI, names_of(s)) for s in profile.samples)


def expect_delay(t, what, profile, names, expected, run, tolerance=0.1, slack=3 * MILLI):
    got = delay(profile, *names)
    t.note("%s %.2f ms of %.2f" % (what, got / MILLI, expected / MILLI))
    t.expect(abs(got - expected) <= tolerance * expected + slack,
             "%s: %s has %.2f ms, expected %.2f ms; the profile:\n%s" %
             (what, " < ".join(names), got / MILLI, expected / MILLI, show(profile)), run)


# kind: the leaf of the block profile and the caller below it; the leaf of the mutex profile and its caller (None: no lock)
WAITS = {
    "mutex_lock": ("pthread_mutex_lock LockMutex", "pthread_mutex_unlock UnlockMutex"),
    "mutex_trylock": ("pthread_mutex_lock LockMutex", "pthread_mutex_unlock UnlockMutex"),
    "mutex_timedlock": ("pthread_mutex_timedlock TimedlockMutex", "pthread_mutex_unlock UnlockMutex"),
    "mutex_clocklock": ("pthread_mutex_clocklock ClocklockMutex", "pthread_mutex_unlock UnlockMutex"),
    "recursive": ("pthread_mutex_lock LockMutexTwice", "pthread_mutex_unlock UnlockMutexTwice"),
    "errorcheck": ("pthread_mutex_lock LockMutex", "pthread_mutex_unlock UnlockMutex"),
    "adaptive": ("pthread_mutex_lock LockMutex", "pthread_mutex_unlock UnlockMutex"),
    "robust": ("pthread_mutex_lock LockMutex", "pthread_mutex_unlock UnlockMutex"),
    "inheriting": ("pthread_mutex_lock LockMutex", "pthread_mutex_unlock UnlockMutex"),
    "wrlock": ("pthread_rwlock_wrlock WriteLock", "pthread_rwlock_unlock UnlockRwlock"),
    "wrlock_after_reader": ("pthread_rwlock_wrlock WriteLock", "pthread_rwlock_unlock UnlockRwlock"),
    "rdlock": ("pthread_rwlock_rdlock ReadLock", "pthread_rwlock_unlock UnlockRwlock"),
    "timedwrlock": ("pthread_rwlock_timedwrlock TimedWriteLock", "pthread_rwlock_unlock UnlockRwlock"),
    "timedrdlock": ("pthread_rwlock_timedrdlock TimedReadLock", "pthread_rwlock_unlock UnlockRwlock"),
    "clockwrlock": ("pthread_rwlock_clockwrlock ClockWriteLock", "pthread_rwlock_unlock UnlockRwlock"),
    "clockrdlock": ("pthread_rwlock_clockrdlock ClockReadLock", "pthread_rwlock_unlock UnlockRwlock"),
    "spin_lock": ("pthread_spin_lock LockSpin", "pthread_spin_unlock UnlockSpin"),
    "mtx_lock": ("mtx_lock LockC11", "mtx_unlock UnlockC11"),
    "mtx_timedlock": ("mtx_timedlock TimedlockC11", "mtx_unlock UnlockC11"),
    "cond_wait": ("pthread_cond_wait WaitCondition", None),
    "cond_timedwait": ("pthread_cond_timedwait TimedwaitCondition", None),
    "cond_clockwait": ("pthread_cond_clockwait ClockwaitCondition", None),
    "cnd_wait": ("cnd_wait WaitC11Condition", None),
    "cnd_timedwait": ("cnd_timedwait TimedwaitC11Condition", None),
    "barrier_wait": ("pthread_barrier_wait WaitBarrier", None),
    "sem_wait": ("sem_wait WaitSemaphore", None),
    "sem_timedwait": ("sem_timedwait TimedwaitSemaphore", None),
    "sem_clockwait": ("sem_clockwait ClockwaitSemaphore", None),
    "join": ("pthread_join Join", None),
    "timedjoin": ("pthread_timedjoin_np TimedJoin", None),
    "clockjoin": ("pthread_clockjoin_np ClockJoin", None),
    "thrd_join": ("thrd_join JoinC11", None),
    "futex": ("futex WaitFutex", None),
    "futex_bitset": ("futex WaitFutexBitset", None),
    "futex_waitv": ("futex WaitFutexes", None),
}


@each(list(WAITS))
def wait_and_release_of(t, kind):
    # A way to wait that is not covered is a program that seems not to wait at all.
    run = run_waiting(t, "waits", kind)
    waited, charged = map(int, run.out.split())
    waiter, unlocker = WAITS[kind]
    block, mutex = run.profile("block.prof"), run.profile("mutex.prof")
    expect_delay(t, "block", block, [*waiter.split(), "WaitHere"], waited, run)
    if unlocker:
        expect_delay(t, "mutex", mutex, [*unlocker.split(), "ReleaseHere"], charged, run)
    else:
        t.expect(mutex.total("delay") < 3 * MILLI, "somebody is blamed for a lock that nobody held:\n%s" % show(mutex), run)


@each([("BLOCKRATE", "pthread_mutex_lock", "block.prof"), ("MUTEXFRACTION", "pthread_mutex_unlock", "mutex.prof")])
def one_of_the_two_profiles_alone(t, variable, leaf, file):
    run = t.run("waits", "mutex_lock", env={"CPUPROFILE": None, variable: 1})
    t.expect_exit(run)
    t.expect_silent(run)
    expect_delay(t, file, run.profile(file), [leaf], int(run.out.split()[0]), run)
    t.expect(run.profiles() == [file], "profiles: %s" % run.profiles(), run)


@test()
def profiles_that_go_tool_pprof_understands(t):
    run = run_waiting(t, "waits", "mutex_lock")
    for name in "block.prof", "mutex.prof":
        top = t.expect_pprof_agrees(run.directory / name)
        t.expect("Type: delay" in top and "contentions" not in top.splitlines()[4], top)
        profile = run.profile(name)
        t.expect(profile.sample_types == [("contentions", "count"), ("delay", "nanoseconds")], profile.sample_types)


def lock_run(t, *argv, **options):
    run = run_waiting(t, "locks", *argv, **options)
    return run, run.profile("block.prof"), run.profile("mutex.prof")


@test()
def who_waits_and_who_made_it_wait(t):
    # The ground truth of issue 4: 2 ms in the worker's lock, 1 ms in main's join, 2 ms at main's unlock. 50 times.
    run, block, mutex = lock_run(t, "ground_truth")
    worker_waited, main_waited, main_held = map(int, run.out.split())
    expect_delay(t, "worker", block, ["pthread_mutex_lock", "WorkerLocks"], worker_waited, run, slack=1 * MILLI)
    expect_delay(t, "main", block, ["pthread_join", "MainJoins"], main_waited, run, slack=1 * MILLI)
    expect_delay(t, "unlock", mutex, ["pthread_mutex_unlock", "MainUnlocks"], main_held, run, slack=1 * MILLI)
    t.expect(block.cum("WorkerLocks", "contentions") == 50 and mutex.cum("MainUnlocks", "contentions") == 50, show(block), run)


@test()
def a_hundred_waiters_are_all_charged(t):
    # Go >= 1.22's TestMutexProfile. Charging the woken one only would make the worst lock look like any other.
    run, _, mutex = lock_run(t, "crowd", 100)
    count, held = map(int, run.out.split())
    total = mutex.total("delay")
    t.note("%.2f s; N D = %.2f s, N wall = %.2f s" % (total / 1e9, count * held / 1e9, count * run.seconds))
    t.expect(0.9 * count * held <= total <= 1.1 * count * run.seconds * 1e9, show(mutex), run)
    t.expect(delay(mutex, "pthread_mutex_unlock", "UnlockHere", "main") >= 0.9 * count * held, show(mutex), run)


@each(["own", "inside"])
def lock_in_a_handler_that_interrupted_a_lock(t, stack):
    # Its thread waits twice at once. One place to remember a wait is not enough. An alternate stack inside the thread's own made
    # the first look like one that was left.
    run, block, _ = lock_run(t, "handler", stack)
    expect_delay(t, "handler", block, ["pthread_mutex_lock", "HandlerLocks", "OnSignal"], 60 * MILLI, run, slack=15 * MILLI)
    expect_delay(t, "thread", block, ["pthread_mutex_lock", "LockHere", "LockAndUnlock"], 140 * MILLI, run, slack=30 * MILLI)


@test()
def robust_mutex_whose_owner_died(t):
    # A trylock takes it and says EOWNERDEAD; who locks once more then waits for himself (async-profiler's nativelock).
    run, block, _ = lock_run(t, "dead_owner")
    expect_delay(t, "wait", block, ["pthread_mutex_lock", "LockRobust", "main"], 60 * MILLI, run, slack=15 * MILLI)


@each(["errorcheck", "recursive", "robust", "inheriting"])
def unlock_that_is_refused_is_charged_with_nothing(t, kind):
    # What had been waited until then was gone with it: the owner's own unlock was charged with the rest only.
    run, _, mutex = lock_run(t, "refused_unlock", kind)
    expect_delay(t, "unlock", mutex, ["pthread_mutex_unlock", "UnlockHere", "main"], int(run.out) + 20 * MILLI, run, slack=15 * MILLI)


@test()
def mutex_shared_with_another_process(t):
    run, block, mutex = lock_run(t, "shared")
    expect_delay(t, "wait", block, ["pthread_mutex_lock", "LockHere", "main"], 60 * MILLI, run, slack=15 * MILLI)
    t.expect(mutex.total("delay") == 0, show(mutex), run)  # the unlocker is in the other process, and knows of nobody


@test()
def mutex_that_is_gone_when_its_unlock_returns(t):
    # Allowed by POSIX, and done: reference counts, destructors. A look at the mutex after the unlock is a crash.
    lock_run(t, "unmapped")


@each(["cond", "sem", "join"])
def cancelled_while_it_waits(t, how):
    # The wait is left by unwinding. What it left behind would be charged to every later unlock, for ever.
    run, block, mutex = lock_run(t, "cancelled", how)
    t.expect(mutex.total("delay") < 5 * MILLI, show(mutex), run)
    leaf = {"cond": "pthread_cond_wait", "sem": "sem_wait", "join": "pthread_join"}[how]
    t.expect(delay(block, leaf, "WaitForEver") == 0, "a cancelled wait still waits:\n%s" % show(block), run)


@test()
def cancelled_before_a_semaphore_that_is_free(t):
    # sem_wait acts on a cancellation before it takes the semaphore. A try in front of it would take it, and it would be lost.
    lock_run(t, "cancelled_before")


@test()
def thread_that_ends_with_its_locks(t):
    run, block, _ = lock_run(t, "exits_holding")
    expect_delay(t, "time-out", block, ["pthread_mutex_timedlock", "main"], 60 * MILLI, run, slack=15 * MILLI)


@test()
def wait_that_a_handler_jumped_out_of(t):
    # siglongjmp: 20 waits that never end. Each would be charged to each later unlock.
    run, block, mutex = lock_run(t, "jumps")
    t.expect(mutex.total("delay") < 5 * MILLI, show(mutex), run)
    t.expect(delay(block, "pthread_mutex_lock", "LockHere", "WaitAndJump") == 0, "an abandoned wait still waits:\n%s" % show(block), run)


@each(["sem", "join"])
def thread_that_ends_after_a_handler_jumped_out_of_its_wait(t, how):
    # pthread_exit ran a cleanup handler of ours whose stack frame was gone, and the program crashed.
    _, block, _ = lock_run(t, "jumps_and_exits", how)
    t.expect(delay(block, {"sem": "sem_wait", "join": "pthread_join"}[how], "WaitForEver") == 0,
             "an abandoned wait still waits:\n%s" % show(block))


@test()
def deadlocked_thread_is_in_the_profile(t):
    # Go never shows one: its wait does not end.
    run, block, _ = lock_run(t, "deadlock")
    expect_delay(t, "deadlock", block, ["pthread_mutex_lock", "LockHere", "LockTwice"], 120 * MILLI, run, slack=30 * MILLI)


@test()
def deadlocked_thread_is_in_a_dump(t):
    # What the dump signal is for: the program hangs, and we want to know where.
    running = t.start("locks", "deadlock", env=EVERYTHING)
    running.wait_for_output(b"stuck\n")
    running.signal(12)
    run = running.finish()
    t.expect_exit(run)
    t.expect("block.prof.1" in run.profiles(), "profiles: %s" % run.profiles(), run)
    t.expect(delay(run.profile("block.prof.1"), "pthread_mutex_lock", "LockHere", "LockTwice") > 10 * MILLI,
             show(run.profile("block.prof.1")), run)


@test()
def errors_are_those_of_libc(t):
    # The program checks each result and errno. What came back at once with an error was no wait.
    run, block, _ = lock_run(t, "errors")
    t.expect(block.total("delay") < 5 * MILLI, show(block), run)
    plain = t.run("locks", "errors", agent=False)
    t.expect_exit(plain)


@test()
def locks_are_inside_as_libc_leaves_them(t):
    # Free ones are taken without libc (free_locks.h). Who holds a mutex was its parent in a forked child, for a debugger to read.
    plain = t.run("lock_states", agent=False)
    t.expect_exit(plain)
    run = run_waiting(t, "lock_states")
    t.expect(run.out == plain.out, "not as libc does it:\n%s" % "".join(
        difflib.unified_diff(plain.out.decode().splitlines(True), run.out.decode().splitlines(True), "plain", "with us")))


@test()
def program_that_forbids_itself_the_cycle_counter(t):
    # PR_SET_TSC: the vDSO's clock faulted in a wait that was timed, and the program died of it.
    plain = t.run("locks", "no_counter", agent=False)
    t.expect_exit(plain)
    run, block, _ = lock_run(t, "no_counter")
    t.expect(delay(block, "pthread_mutex_lock", "LockHere") > 10 * MILLI, show(block), run)


@test()
def last_reader_is_charged_with_the_writers_wait(t):
    run, block, mutex = lock_run(t, "readers")
    waited = int(run.out)
    expect_delay(t, "writer", block, ["pthread_rwlock_wrlock", "main"], waited, run)
    expect_delay(t, "last reader", mutex, ["pthread_rwlock_unlock", "Read", "LastReader"], waited, run)
    t.expect(delay(mutex, "pthread_rwlock_unlock", "Read", "FirstReader") == 0, show(mutex), run)


@each([1, 5])
def woken_threads_wait_for_their_mutex(t, count):
    # The usual contention of a condition variable, and it is inside libc: signalled while the mutex is held.
    run, _, mutex = lock_run(t, "woken", count)
    held = int(run.out)
    expect_delay(t, "unlock", mutex, ["pthread_mutex_unlock", "UnlockAfterSignal"], count * held, run)
    # The 60 ms that main held it when nobody waited are nobody's.
    expect_delay(t, "all unlocks", mutex, ["pthread_mutex_unlock"], count * held, run)


@test()
def condition_wait_that_lets_another_thread_in(t):
    # pthread_cond_wait unlocks the mutex: who waited for that did so until here.
    run, _, mutex = lock_run(t, "given_up")
    expect_delay(t, "cond_wait", mutex, ["pthread_cond_wait", "GiveUpTheMutex"], int(run.out), run)


@test()
def forked_child_has_its_own_waits_only(t):
    run, block, mutex = lock_run(t, "forks")
    t.expect(len(run.profiles()) == 4, "profiles: %s" % run.profiles(), run)
    child = {kind: run.profile(next(n for n in run.profiles() if n.startswith(kind + ".prof."))) for kind in ("block", "mutex")}
    least, most = map(int, run.out.split())
    for kind, names in ("mutex", ["pthread_mutex_unlock", "UnlockHere"]), ("block", ["pthread_mutex_lock", "LockHere", "LockAndUnlock"]):
        got = delay(child[kind], *names)
        t.note("%s %.2f ms, %.2f to %.2f by the program's clock" % (kind, got / MILLI, least / MILLI, most / MILLI))
        # Who waits may be woken late on a busy machine, but the parent has waited for 240 ms more; who unlocks reads the clock before he does.
        late = 0 if kind == "mutex" else 100 * MILLI
        t.expect(least - 1 * MILLI <= got <= most + late, show(child[kind]), run)
    t.expect(delay(block, "pthread_mutex_lock", "LockHere", "LockAndUnlock") > 4 * 60 * MILLI, show(block), run)
    t.expect(delay(mutex, "pthread_mutex_unlock", "UnlockHere", "main") > 4 * 60 * MILLI, show(mutex), run)


@test()
def vfork_child_that_locks(t):
    lock_run(t, "vforks")


@each([("1", "1"), ("10000", "10"), ("1000000000", "1000000")])
def storm_of_sixteen_threads(t, rate, fraction):
    # The program counts under its locks, and must come out right.
    run, block, mutex = lock_run(t, "storm", env={"BLOCKRATE": rate, "MUTEXFRACTION": fraction})
    for profile in block, mutex:
        t.expect(not any("waits_table_full" in comment for comment in profile.comments), profile.comments, run)
        t.expect(max((len(names_of(s)) for s in profile.samples), default=0) < 12, show(profile), run)
    if rate == "1":
        # Each wait ends with an unlock: what is charged is what was waited, but for the time from the unlock to the waking.
        waited, charged = delay(block, "pthread_mutex_lock"), mutex.total("delay")
        t.note("waited %.1f ms, charged %.1f ms" % (waited / MILLI, charged / MILLI))
        t.expect(0 < charged <= waited, show(block) + show(mutex), run)


CPP_WAITS = {
    "mutex": ("pthread_mutex_lock", "WaitMutex"),
    "timed_mutex": ("pthread_mutex_clocklock", "WaitTimedMutex"),
    "recursive_mutex": ("pthread_mutex_lock", "WaitRecursive"),
    "shared_mutex": ("pthread_rwlock_rdlock", "WaitShared"),
    "shared_timed_mutex": ("pthread_rwlock_clockwrlock", "WaitSharedTimed"),
    "condition": ("pthread_cond_wait", "WaitCondition"),
    "condition_for": ("pthread_cond_clockwait", "WaitConditionFor"),
    "condition_any": ("pthread_cond_wait", "WaitConditionAny"),
    "semaphore": ("futex", "WaitSemaphore"),
    "latch": ("futex", "WaitLatch"),
    "barrier": ("futex", "WaitBarrier"),
    "atomic": ("futex", "WaitAtomic"),
    "future": ("futex", "WaitFuture"),
    "jthread": ("pthread_join", "WaitThread"),
}


@each(list(CPP_WAITS))
def cpp_program_waits_in(t, kind):
    # What the standard library makes of its names differs from release to release: clocklock, clockwait, a bare futex.
    run = run_waiting(t, "cpp_waits", kind)
    leaf, function = CPP_WAITS[kind]
    block = run.profile("block.prof")
    got = sum(s.values[1] for s in block.samples if names_of(s)[0] == leaf and function in names_of(s))
    t.note("%.1f ms" % (got / MILLI))
    # Some of them spin or yield for a while before they wait. None waits longer than the call takes.
    t.expect(45 * MILLI < got <= int(run.out) + 1 * MILLI, show(block), run)


@each(["old_versions", "without_versions"])
def condition_variables_and_timers_of_glibc_2_2_5(t, program):
    # Unversioned hooks hand its pointers to functions that write over what stands behind them. Without versions (valgrind's drd is
    # such a library) pthread_cond_wait was today's and pthread_cond_init the old one.
    run = run_waiting(t, program)
    block = run.profile("block.prof")
    t.expect(delay(block, "pthread_cond_wait", "WaitForTurn") > 0, show(block), run)
    t.expect_exit(t.run(program, env={"CPUPROFILE": None}))
    t.expect_exit(t.run(program, hz=100))
    t.expect_exit(t.run(program, agent=False))


@each(["agent_first", "agent_last"])
def locks_inside_malloc(t, order):
    # An allocator that locks: a hook that allocates, or that a walk makes allocate, never comes back.
    libraries = [str(t.agent), str(t.program("liblocking.so"))]
    if order == "agent_last":
        libraries.reverse()
    run = run_waiting(t, "cpp_waits", "future", env={"LD_PRELOAD": ":".join(libraries), "MEMPROFILERATE": 1})
    t.expect(run.profile("block.prof").total("delay") > 0, run)


@test()
def jemalloc_beside_us(t):
    jemalloc = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"
    if not os.path.exists(jemalloc):
        raise Skip("libjemalloc2 is not installed")
    script = ("import threading, zlib\n"
              "def work():\n"
              "    for i in range(40): zlib.compress(bytes(20000))\n"
              "threads = [threading.Thread(target=work) for _ in range(8)]\n"
              "for t in threads: t.start()\n"
              "for t in threads: t.join()\n")
    run = run_waiting(t, t.need("python3"), "-c", script.replace("\\\\n", "\\n"),
                      env={"LD_PRELOAD": "%s:%s" % (t.agent, jemalloc), "PYTHONMALLOC": "malloc", "MEMPROFILERATE": 1000})
    t.expect(run.profile("block.prof").total("delay") > 0, run)


@each(["agent_first", "agent_last"])
def lock_checker_beside_us_sees_both_ends(t, order):
    # Unlocks that it saw, and locks that we took past it.
    libraries = [str(t.agent), str(t.program("libcounting.so"))]
    if order == "agent_last":
        libraries.reverse()
    alone = t.run("lock_states", agent=False, env={"LD_PRELOAD": t.program("libcounting.so")})
    t.expect(re.fullmatch(rb"locks, 0 held, [1-9]\d* waits\n", alone.err), "not what the test is for", alone)
    run = t.run("lock_states", env={**EVERYTHING, "LD_PRELOAD": ":".join(libraries)})
    t.expect_exit(run)
    t.expect(run.err == alone.err, "the checker has not seen all", run)


@each(["agent_first", "agent_last"])
def lock_counter_beside_us_that_knows_no_trylock(t, order):
    # It counts what is taken and given back by lock and unlock: the same with us, who try first.
    libraries = [str(t.agent), str(t.program("libcounting_locks.so"))]
    if order == "agent_last":
        libraries.reverse()
    for program in ["locks", "crowd", 2], ["lock_states"]:
        alone = t.run(*program, agent=False, env={"LD_PRELOAD": t.program("libcounting_locks.so")})
        run = t.run(*program, env={**EVERYTHING, "LD_PRELOAD": ":".join(libraries)})
        t.expect_exit(run)
        t.expect(b"locks, " in alone.err and run.err == alone.err, "the counter has not seen all", run)


@test()
def valgrinds_tools_see_both_ends(t):
    for tool in "helgrind", "drd":
        run = t.run(t.need("valgrind"), "--tool=" + tool, t.program("locks"), "crowd", 2, env={**EVERYTHING, "CPUPROFILE_FREQUENCY": 1})
        t.expect_exit(run)
        for words in b"not-locked lock", b"not locked":
            t.expect(words not in run.err, "%s has missed a lock" % tool, run)


@test()
def program_with_the_thread_sanitizer(t):
    # Its runtime judges every lock and every memcmp that it sees, ours too. We leave the locks alone, and say so.
    run = t.run("locks_tsan", "woken", 1, env=EVERYTHING)
    t.expect_exit(run)
    t.expect_one_error_line(run, "block", "mutex", "thread sanitizer")


@each(["locks", "locks_tsan"])
def handlers_go_by_who_interposes_sigaction(t, program):
    # Set past the thread sanitizer, a handler ran in a thread before its runtime had made that ready, and crashed it.
    plain = t.run(program, "handlers", agent=False)
    run = t.run(program, "handlers", hz=100, env={"BLOCKRATE": 0, "MUTEXFRACTION": 0})
    t.expect_signal(run, signal.SIGALRM)
    t.expect((b"bare" if program == "locks" else b"wrapped") in plain.out, "not what the test is for", plain)
    t.expect(run.out == plain.out, "differs from\n%s" % plain, run)


@test()
def labels_name_the_lock(t):
    # One function locks many objects of a kind: the stack does not say which of them is the busy one.
    run, block, mutex = lock_run(t, "storm", env={"PROFAGENT_LOCK_LABELS": 1})
    names = {"few", "few+0x28", "few+0x50", "few+0x78"}
    for profile, leaf in (block, "pthread_mutex_lock"), (mutex, "pthread_mutex_unlock"):
        found = {s.labels.get("lock", "") for s in profile.samples if names_of(s)[0] == leaf}
        t.expect(found == names, "locks: %s" % found, run)
    run, block, _ = lock_run(t, "unmapped", env={"PROFAGENT_LOCK_LABELS": 1})
    found = {s.labels.get("lock", "") for s in block.samples if names_of(s)[0] == "pthread_mutex_lock"}
    t.expect(all(name.startswith("heap 0x") for name in found), "locks: %s" % found, run)
    run, block, _ = lock_run(t, "storm")
    t.expect(not any("lock" in s.labels for s in block.samples), "labels that nobody asked for", run)


@test()
def label_of_a_lock_on_the_main_threads_stack(t):
    # A thread that waited for it called it heap, and one lock had two names.
    _, block, mutex = lock_run(t, "on_mains_stack", env={"PROFAGENT_LOCK_LABELS": 1})
    found = {s.labels["lock"] for profile in (block, mutex) for s in profile.samples
             if names_of(s)[1] in ("LockHere", "UnlockHere")}
    t.expect(len(found) == 1 and found.pop().startswith("stack 0x"), show(block) + show(mutex))


@test()
def run_demangles_the_names_of_locks(t):
    outcome = t.run(t.profagent, "run", "-q", "--mutex=1", "-o", "out", "--", t.program("cpp_waits"), "mutex", agent=False,
                    env={"PROFAGENT_LOCK_LABELS": 1})
    t.expect_exit(outcome)
    found = {s.labels.get("lock", "") for s in read(t.dir / "out").samples}
    t.expect("(anonymous namespace)::mutex" in found, "locks: %s" % found, outcome)


@test()
def label_of_a_lock_in_a_stripped_program(t):
    run = run_waiting(t, "waits_stripped", "mutex_lock", env={"PROFAGENT_LOCK_LABELS": 1})
    found = {s.labels.get("lock", "") for s in run.profile("mutex.prof").samples}
    t.expect(len(found) == 1 and found.pop().startswith("waits_stripped+0x"), show(run.profile("mutex.prof")), run)
