"""Block and mutex profiles: every way to wait, by whom, for how long, and who ended it."""

from pprof_reader import names_of
from runner import each, test

EVERYTHING = {"CPUPROFILE": None, "MEMPROFILERATE": 0, "BLOCKRATE": 1, "MUTEXFRACTION": 1}
MILLI = 1e6


def run_waiting(t, *argv, env=None, **options):
    run = t.run(*argv, env={**EVERYTHING, **(env or {})}, **options)
    t.expect_exit(run)
    t.expect_silent(run)
    return run


def delay(profile, *names):
    """Nanoseconds of the samples whose stack has these names in this order, the first one as its leaf."""
    total = 0
    for sample in profile.samples:
        stack = names_of(sample)
        if stack[:1] != list(names[:1]):
            continue
        rest = iter(stack)
        if all(name in rest for name in names):
            total += sample.values[1]
    return total


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
