#!/usr/bin/env python3
"""The numbers of a profile against programs that know what they did.

Errors that are allowed, and why:
 - total CPU time: 5 % of getrusage (the contract).
 - one thread's time: a timer whose first expiry is uniform over the period is off by less than one period; the kernel
   looks at CPU clocks at its tick, so a thread that ends is off by one tick more.
 - the share p of one function: ticks fall at moments that have nothing to do with the program, so the count of a
   function's ticks is at most binomial: a standard error of sqrt(p (1 - p) / n), n being the signals that were delivered
   (not the ticks: above CONFIG_HZ one signal carries several). Three standard errors.
 - heap: of N blocks of s bytes each is drawn with p = 1 - e^(-s/rate), so the estimate of N has a standard error of
   sqrt(N (1 - p) / p). Four of them, or Go's own criterion (10 %, best of three).
"""

import math
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
sys.dont_write_bytecode = True

from harness import Skip, signal_tick_hz  # noqa: E402
from runner import each, main, test  # noqa: E402

RATES = [100, 250, 1000]


def run_known(t, how, count, millis, hz, **options):
    run = t.run(t.tools.build / "tests" / "accuracy" / "known_work", how, count, millis, hz=hz, timeout=240, **options)
    t.expect_exit(run)
    t.expect_silent(run)
    return run


def expect_total(t, run):
    used = float(run.out)
    t.expect_near("CPU seconds in the profile", run.profile().cpu_seconds(), used, 0.05 * used, run)


def total(threads):
    def check(t, hz):
        run = run_known(t, "total", threads, 2200 // threads, hz)
        expect_total(t, run)
        # What no signal brought is settled when a thread ends, so the sum alone would hide signals that weigh too little.
        profile = run.profile()
        t.expect(profile.cum("total_work") >= 0.97 * profile.ticks(), "%d of %d ticks are in total_work: %s" %
                 (profile.cum("total_work"), profile.ticks(), profile.by_leaf().most_common(4)), run)
    check.__name__ = "total_time_of_%d_threads" % threads
    each(RATES)(check)


# At 100 Hz on eight threads of 0.27 s a wrong first expiry alone would be a fault of 4 %.
for threads in 1, 2, 8:
    total(threads)


@each(RATES, full=True)
def total_time_of_64_threads(t, hz):
    expect_total(t, run_known(t, "total", 64, 500, hz))


@each(RATES)
def threads_that_live_20_ms(t, hz):
    # 2.4 s in 120 threads. A timer that first expires a whole period after the start sees nothing of them at 50 Hz or less,
    # and too little at 100 Hz. What a thread's ticks are off is settled when it ends, so that the bound is that of all totals.
    expect_total(t, run_known(t, "short", 120, 20, hz))


@each(RATES)
def two_functions_work_three_to_one(t, hz):
    run = run_known(t, "ratio", 1, 2400, hz)
    profile = run.profile()
    three, one = profile.cum("three_parts"), profile.cum("one_part")
    signals = (three + one) * min(1, signal_tick_hz() / hz)
    t.expect(three + one >= 0.95 * profile.ticks(), "%d of %d ticks are in the two functions" % (three + one, profile.ticks()), run)
    t.expect_near("share of the first function", three / (three + one), 0.75, 3 * math.sqrt(0.75 * 0.25 / signals), run)


@each(RATES)
def eight_equal_threads_get_an_eighth_each(t, hz):
    # A process-wide timer gives some threads twice the share of others.
    run = run_known(t, "equal", 8, 300, hz)
    labels = run.profile().by_label("thread", "cpu")
    whole = sum(labels["equal-%d" % i] for i in range(8))
    t.note(dict(labels))
    allowed = 1 / hz + 1 / signal_tick_hz() + 0.02 * 0.3  # one period, one tick, and 2 % of time outside of the loop
    for i in range(8):
        t.expect_near("share of thread %d" % i, labels["equal-%d" % i] / whole, 1 / 8, allowed / 2.4, run)


@each(RATES)
def time_in_the_kernel_counts(t, hz):
    # The contract is getrusage, which is user and system time: a thread in a system call is charged to its caller.
    run = run_known(t, "kernel", 1, 2000, hz)
    expect_total(t, run)
    profile = run.profile()
    # InKernel is static: its name comes from .symtab.
    t.expect(profile.cum("InKernel") >= 0.97 * profile.ticks(), "%d of %d ticks have their caller" %
             (profile.cum("InKernel"), profile.ticks()), run)


@each([100, 1000])
def bursts_shorter_than_a_tick(t, hz):
    expect_total(t, run_known(t, "bursts", 2, 1000, hz))


@each([100, 1000])
def threads_that_block_all_signals(t, hz):
    expect_total(t, run_known(t, "blocked", 2, 1100, hz))


@each([(100, 1), (1000, 1), (1000, 2), (4000, 1)])
def perf_engine_keeps_the_rate(t, hz, threads):
    # Perf events fire at the rate that was asked for, not at the kernel's tick: one signal a period.
    run = run_known(t, "total", threads, 2200 // threads, hz, env={"PROFAGENT_CPU_ENGINE": "perf", "PROFAGENT_VERBOSE": 0})
    if b"perf" in run.err:
        raise Skip("perf events are not permitted: %s" % run.err.decode())
    expect_total(t, run)
    t.expect(any("perf" in comment for comment in run.profile().comments), "the comments do not name the engine: %s" %
             run.profile().comments, run)


@test()
def profile_under_strace_like_slowness(t):
    # A slow machine (here: a program stopped again and again) may stretch wall time, never CPU time.
    strace = t.need("strace")
    run = t.run(t.tools.build / "tests" / "accuracy" / "known_work", "total", 2, 1000, hz=250, timeout=240,
                prefix=[strace, "-f", "-o", "/dev/null"])
    t.expect_exit(run)
    used = float(run.out)
    t.expect_near("CPU seconds in the profile", run.profile().cpu_seconds(), used, 0.05 * used, run)


@each([1, 2, 8], full=True)
def long_run(t, threads):
    # 30 s: what is lost a little at a time shows.
    run = run_known(t, "total", threads, 30000 // threads, 1000)
    used = float(run.out)
    t.expect_near("CPU seconds in the profile", run.profile().cpu_seconds(), used, 0.02 * used, run)


RATE = 16 << 10


def heap_truth(run):
    return {name: (int(objects), int(size)) for name, objects, size in (line.split() for line in run.out.decode().splitlines())}


def run_heap(t, how, count, rate=RATE, **env):
    run = t.run(t.tools.build / "tests" / "accuracy" / "known_heap", how, count, timeout=120,
                env={"CPUPROFILE": None, "HEAPPROFILE": "heap.prof", "MEMPROFILERATE": rate, **env})
    t.expect_exit(run)
    t.expect_silent(run)
    return run


@each(["wide", "narrow"])
def heap_sampling_is_unbiased(t, mix):
    # Go's heapsampling.go: 16 KiB a sample, blocks around it and far below it; objects, bytes and their sums within 10 %.
    worst = []
    for _ in range(3):
        run = run_heap(t, mix, 50_000)
        profile, errors = run.profile("heap.prof"), []
        truth = heap_truth(run)
        for name, (objects, size) in truth.items():
            errors.append(abs(profile.cum(name, "alloc_objects") / objects - 1))
            errors.append(abs(profile.cum(name, "alloc_space") / size - 1))
        whole = sum(size for _, size in truth.values())
        errors.append(abs(profile.cum("main", "alloc_space") / whole - 1))
        worst.append(max(errors))
        (t.dir / "heap.prof").unlink()
        if worst[-1] <= 0.1:
            break
    t.note("largest errors %s" % ["%.3f" % w for w in worst])
    t.expect(min(worst) <= 0.1, "errors of %s in three runs" % worst, run)


@each([4096, 65536, 524288])
def heap_values_are_within_their_error(t, rate):
    # A bias of one percent would pass Go's test for ever; here it would fail by and by.
    run = run_heap(t, "narrow", 100_000, rate)
    profile = run.profile("heap.prof")
    for name, (objects, size) in heap_truth(run).items():
        p = 1 - math.exp(-size / objects / rate)
        t.expect_near(name, profile.cum(name, "alloc_objects"), objects, 4 * math.sqrt(objects * (1 - p) / p), run)
        t.expect_near(name + " live", profile.cum(name, "inuse_objects"), objects, 4 * math.sqrt(objects * (1 - p) / p), run)


@each([1, 4096, 65536])
def callers_that_look_alike_are_told_apart(t, rate):
    # Who samples much remembers stacks that come again (stack_memo.h): at small rates, and from the 1025th sample on.
    run = run_heap(t, "alike", 400_000, rate)
    profile = run.profile("heap.prof")
    for name, (objects, size) in heap_truth(run).items():
        p = 1 - math.exp(-size / objects / rate) if rate > 1 else 1
        t.expect_near(name, profile.cum(name, "alloc_objects"), objects, 4 * math.sqrt(objects * (1 - p) / p), run)


JEMALLOC = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"


@each([(4096, "glibc"), (65536, "glibc"), (1, "glibc"), (65536, "jemalloc before"), (65536, "jemalloc after")])
def reallocated_blocks_are_drawn_anew(t, rate, allocator):
    # A sample that stays one because it was one makes a vector that grows look many times its size: drawn k times, kept each time.
    preload = [str(t.agent)]
    if allocator != "glibc":
        if not os.path.exists(JEMALLOC):
            raise Skip("%s is not installed" % JEMALLOC)
        preload.insert(0 if allocator.endswith("before") else 1, JEMALLOC)
    run = run_heap(t, "grow", 100_000, rate, LD_PRELOAD=":".join(preload))
    profile = run.profile("heap.prof")
    for name, (objects, size) in heap_truth(run).items():
        p = 1 - math.exp(-size / objects / rate) if rate > 1 else 1
        error = 4 * math.sqrt(objects * (1 - p) / p)
        t.expect_near(name, profile.cum(name, "alloc_objects"), objects, error, run)
        live = objects if name == "shrink_3000" else 0
        t.expect_near(name + " live", profile.cum(name, "inuse_objects"), live, error if live else 0, run)


if __name__ == "__main__":
    main("accuracy")
