"""Heap profiles of programs that know to the byte what they hold, and of programs that allocate where nobody expects it."""

import os
import re
import signal
import time

import pprof_reader
from harness import Skip
from runner import each, test

TYPES = [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")]


def run_heap(t, *args, rate=1, env=None, **options):
    env = {"CPUPROFILE": None, "HEAPPROFILE": "heap.prof", "MEMPROFILERATE": rate, **(env or {})}
    run = t.run("heap", *args, env=env, **options)
    t.expect_exit(run)
    t.expect_silent(run)
    return run


def values(profile, function):
    return [profile.cum(function, kind) for kind, _ in TYPES]


def expect_truth(t, run, profile=None):
    """What the program printed about its functions is what the profile says about them."""
    profile = profile or run.profile("heap.prof")
    lines = run.out.decode().split("\n")[:-1]
    t.expect(lines, "the program printed nothing", run)
    for line in lines:
        function, *truth = line.split()
        truth = [int(number) for number in truth]
        t.expect(values(profile, function) == truth, "%s: profile %s, truth %s; losses %s" %
                 (function, values(profile, function), truth, profile.losses()), run)
    return profile


@test()
def every_block_is_counted_at_rate_one(t):
    # Go's TestMemoryProfiler, and what C has beyond Go: to the byte and to the object.
    run = run_heap(t, "exact")
    profile = expect_truth(t, run)
    t.expect(profile.sample_types == TYPES, "sample types %s" % profile.sample_types)
    t.expect(profile.period_type == ("space", "bytes") and profile.period == 1, "period %s %s" % (profile.period_type, profile.period))
    t.expect(profile.duration_nanos == 0 and profile.default_sample_type == "", "not as Go writes it")
    t.expect(abs(profile.time_nanos / 1e9 - time.time()) < 60, "time_nanos is not now")
    for sample in profile.stacks_with("persistent_small"):
        t.expect(sample.numbers == {"bytes": 32}, "labels %s" % sample.numbers)
        t.expect(pprof_reader.names_of(sample)[:2] == ["persistent_small", "Exact"], "stack %s" % pprof_reader.names_of(sample))
    t.expect(not profile.stacks_with("malloc|calloc|realloc|free|.*profagent.*"), "frames of the allocator or the agent are visible")
    t.expect(not any("libprofagent" in m.filename for m in profile.mappings.values()), "the agent's mapping is visible")
    top = t.pprof("top", run.directory / "heap.prof", "-sample_index=alloc_space")
    t.expect("transient_kib" in top and "Type: alloc_space" in top, "go tool pprof does not show it:\n" + top)
    t.expect_pprof_agrees(run.directory / "heap.prof")


@each([1, 2, 8])
def storm_of_threads_adds_up_to_the_byte(t, threads):
    # Blocks are freed and reallocated by other threads than those that made them: one lost free is a leak for ever.
    calls = 10_000_000 if t.tools.full else 400_000
    run = run_heap(t, "storm", threads, calls // threads, timeout=300)
    profile = expect_truth(t, run)
    t.expect(profile.losses() == {}, "losses %s" % profile.losses(), run)


@test()
def ledger_too_small_loses_samples_but_tells_no_lies(t):
    # Whatever is kept must stay right: no block may be live twice, or live after its free.
    run = run_heap(t, "storm", 4, 100_000, env={"PROFAGENT_MEMORY": "1M"})
    profile = run.profile("heap.prof")
    losses = profile.losses()
    truth = [int(number) for number in run.out.decode().split()[1:]]
    got = values(profile, "Storm")
    t.note("kept %s of %s, losses %s" % (got, truth, losses))
    t.expect(losses.get("heap_live_table_full", 0) + losses.get("samples_ledger_full", 0) > 0, "no loss is counted: %s" % profile.comments, run)
    t.expect(all(0 <= g <= want for g, want in zip(got, truth)), "more than the truth: %s of %s" % (got, truth), run)
    t.expect(losses.get("heap_missed_frees", 0) == 0, "frees were missed", run)


@each([126, 127, 128, 200])
def stack_is_as_deep_as_it_says(t, depth):
    # main and what starts it are 4 frames (__libc_start_call_main, __libc_start_main, _start).
    run = run_heap(t, "depth", depth)
    sample, = run.profile("heap.prof").stacks_with("descend")
    names = pprof_reader.names_of(sample)
    whole = depth + 1 + 4
    t.expect(len(names) == min(whole, 128), "%d frames" % len(names), run)
    t.expect(names[0] == "descend" and names[-1] == ("_start" if whole <= 128 else "[truncated]"), "ends in %s" % names[-1], run)


@test()
def peak_is_what_was_live_at_the_highest_moment(t):
    run = run_heap(t, "peak", env={"PEAKPROFILE": "peak.prof"})
    peak, end = run.profile("peak.prof"), run.profile("heap.prof")
    t.expect(peak.sample_types == [("peak_objects", "count"), ("peak_space", "bytes")], "types %s" % peak.sample_types)
    t.expect(peak.cum("main", "peak_space") == 40_000_000, "peak %d" % peak.cum("main", "peak_space"), run)
    t.expect(end.cum("main", "inuse_space") == 1_010_000, "at the end %d" % end.cum("main", "inuse_space"), run)
    t.expect_pprof_agrees(run.directory / "peak.prof")


@test()
def failing_calls_fail_as_without_us(t):
    run = run_heap(t, "realloc_fails")
    profile = run.profile("heap.prof")
    t.expect(values(profile, "main") == [1, 4000, 1, 4000], "a block whose realloc failed is %s" % values(profile, "main"), run)
    # Under an address space limit the failures come from the kernel.
    run = run_heap(t, "realloc_fails", cwd=t.new_dir("limited"), prefix=[t.need("prlimit"), "--as=%d" % (5 << 30)])
    t.expect(values(run.profile("heap.prof"), "main") == [1, 4000, 1, 4000], "under RLIMIT_AS", run)


@test()
def handler_that_allocates_inside_the_sampler(t):
    # The signal lands in the middle of a walk or of a record; a lock there would be taken twice by one thread.
    run = run_heap(t, "handler", env={"LD_PRELOAD": "%s:%s" % (t.agent, t.tools.programs / "libbump.so")})
    profile = run.profile("heap.prof")
    t.expect(profile.cum("Allocate", "alloc_objects") >= 20, "the handler was seen %d times" % profile.cum("Allocate", "alloc_objects"), run)
    allocated, _, live, live_bytes = values(profile, "Allocate")
    # One that stopped the real allocator is taken for a call of that allocator's own.
    t.expect(abs(live * 2 - allocated) <= 0.05 * allocated + 4 and live_bytes == live * 8, "of %d blocks %d live" % (allocated, live), run)


@test()
def cpu_and_heap_at_the_extreme_together(t):
    # Ticks land inside malloc hooks and the unwinder, samples of both kinds on the same stacks.
    calls = 12_000_000 if t.tools.full else 800_000
    run = t.run("heap", "storm", 8, calls // 8, hz=1000, timeout=300,
                env={"HEAPPROFILE": "heap.prof", "MEMPROFILERATE": 1})
    t.expect_exit(run)
    t.expect_silent(run)
    expect_truth(t, run)
    t.expect_near("CPU seconds", run.profile().cpu_seconds(), run.cpu_seconds, 0.05 * run.cpu_seconds + 0.05, run)


@test()
def fork_in_the_middle_of_storms(t):
    # The child has its parent's blocks, but not its counts: what it frees of them is simply not in its profile.
    rounds = 200 if t.tools.full else 40
    run = run_heap(t, "fork", rounds, env={"HEAPPROFILE": "heap.prof"}, timeout=120)
    children = [name for name in run.profiles() if re.fullmatch(r"heap\.prof\.heap\.\d+", name)]
    t.expect(len(children) == rounds, "%d profiles of %d children" % (len(children), rounds), run)
    for name in children[:10]:
        profile = run.profile(name)
        t.expect(values(profile, "persistent_small") == [32, 1024, 32, 1024], "%s: %s" % (name, values(profile, "persistent_small")), run)
        t.expect(not profile.stacks_with("Storm"), "%s holds its parent's blocks" % name, run)
        t.expect(profile.losses() == {}, "%s: %s" % (name, profile.losses()), run)


@test()
def small_stacks_used_to_the_last_kib(t):
    # What a sample takes of the application's stack is what a thread of 16 KiB must have left.
    run = run_heap(t, "small_stacks")
    t.expect(run.profile("heap.prof").flat("OnSmallStack", "alloc_objects") == 600, "samples are missing", run)


@each(["thread_values", "after_the_end"])
def memory_given_back_late(t, how):
    run = run_heap(t, how)
    profile = run.profile("heap.prof")
    t.expect(profile.flat("main|FreeValue|AtTheVeryEnd", "inuse_objects") == 0,
             "leaks that are none: %s" % [pprof_reader.names_of(s) for s in profile.samples if s.values[2]], run)
    t.expect(profile.flat("FreeValue|AtTheVeryEnd", "alloc_objects") >= 10, "what came late is not seen", run)


@test()
def blocks_outlive_their_library(t):
    run = run_heap(t, "dlopen", t.tools.programs / "liballocating.so")
    profile = run.profile("heap.prof")
    t.expect(profile.cum("library_allocates", "inuse_objects") == sum(range(50)),
             "%d blocks" % profile.cum("library_allocates", "inuse_objects"), run)
    t.expect(profile.losses() == {}, "losses %s" % profile.losses(), run)


@test()
def heap_is_profiled_by_default(t):
    # No variable at all: kill -USR2 must find something to write.
    env = {"CPUPROFILE": None}
    running = t.start("heap", "work", 800, env=env)
    running.wait_for_output(b"ready")
    running.signal(signal.SIGUSR2)
    run = running.finish()
    t.expect_exit(run, 5)
    t.expect_silent(run)
    t.expect(run.profiles() == ["heap.heap.%d.1.prof" % running.pid], "files %s" % run.profiles(), run)
    profile = run.profile(run.profiles()[0])
    t.expect(profile.sample_types == TYPES and profile.period == 524288, "not a heap profile at the default rate", run)


@test()
def dump_signals_in_a_row_lose_nothing(t):
    # In a program with one thread that never calls us. Each signal that arrives gets a file of its own, and none is torn.
    running = t.start("heap", "work", 1500, env={"CPUPROFILE": None, "HEAPPROFILE": "heap.prof", "MEMPROFILERATE": 1})
    running.wait_for_output(b"ready")
    for number in range(1, 31):
        running.signal(signal.SIGUSR2)
        limit = time.monotonic() + 10
        while not (t.dir / ("heap.prof.%d" % number)).exists():
            t.expect(time.monotonic() < limit, "dump %d does not come" % number)
            time.sleep(0.001)
    run = running.finish()
    t.expect_exit(run, 5)
    t.expect_silent(run)
    t.expect(len(run.profiles()) == 31, "files %s" % run.profiles(), run)
    for name in run.profiles():
        t.expect(values(run.profile(name), "persistent_small") == [32, 1024, 32, 1024], "%s is not whole" % name, run)


@each([1, 8])
def dump_signal_every_millisecond(t, threads):
    # Signals land in malloc, in the sampler, in the dump of another thread.
    seconds = 10 if t.tools.full else 2
    running = t.start("heap", "storm", threads, 1_000_000_000, timeout=120,
                      env={"CPUPROFILE": None, "HEAPPROFILE": "heap.prof", "MEMPROFILERATE": 16384})
    time.sleep(0.2)
    end, sent = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        running.signal(signal.SIGUSR2)
        sent += 1
        time.sleep(0.001)
    running.signal(signal.SIGTERM)
    run = running.finish()
    t.expect_signal(run, signal.SIGTERM)
    t.expect_silent(run)
    numbers = sorted(int(name.rsplit(".", 1)[1]) for name in run.profiles() if name != "heap.prof")
    t.note("%d signals, %d dumps" % (sent, len(numbers)))
    t.expect(numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= 5, "dumps %s" % numbers, run)
    t.expect("heap.prof" in run.profiles(), "no profile at the end", run)
    before = 0
    for number in sorted({*numbers[:5], *numbers[-5:]}):  # of less than ten, each once
        profile = run.profile("heap.prof.%d" % number)
        t.expect(profile.total("alloc_objects") >= before, "dump %d is older than the one before" % number)
        before = profile.total("alloc_objects")
        t.expect(all(v >= 0 for s in profile.samples for v in s.values), "dump %d has negative values" % number)


@test()
def dump_while_the_disk_is_full(t):
    t.need_root()
    disk = t.new_dir("disk")
    if os.system("mount -t tmpfs -o size=64k none %s 2>/dev/null" % disk) != 0:
        raise Skip("cannot mount a tmpfs")
    try:
        (disk / "filler").write_bytes(b"x" * (60 << 10))
        running = t.start("heap", "work", 800, env={"CPUPROFILE": None, "HEAPPROFILE": disk / "heap.prof", "MEMPROFILERATE": 1})
        running.wait_for_output(b"ready")
        (disk / "rest").touch()
        with open(disk / "rest", "wb", buffering=0) as rest:
            try:
                while True:
                    rest.write(b"x" * 512)
            except OSError:
                pass
        running.signal(signal.SIGUSR2)
        time.sleep(0.3)
        os.unlink(disk / "filler")
        run = running.finish()
        t.expect_exit(run, 5)
        t.expect_one_error_line(run, "heap profile", disk / "heap.prof.1", "No space left")
        t.expect(sorted(os.listdir(disk)) == ["heap.prof", "rest"], "files %s" % os.listdir(disk), run)
    finally:
        os.system("umount %s" % disk)


@test()
def dump_signal_does_not_wake_a_sleeper(t):
    # nanosleep ends with EINTR after any handler, and programs without handlers have never seen that.
    running = t.start("heap", "sleep", env={"CPUPROFILE": None})
    running.wait_for_output(b"ready")
    running.signal(signal.SIGUSR2)
    run = running.finish()
    t.expect_exit(run)
    t.expect(b"slept" in run.out, "woken early", run)
    t.expect(len(run.profiles()) == 1, "files %s" % run.profiles(), run)


@each(["poll", "ppoll", "epoll_wait", "usleep", "nanosleep", "clock_nanosleep", "sigtimedwait", "semtimedop", "short"])
def dump_signals_do_not_make_a_timeout_begin_again(t, how):
    # A dump each 60 ms, and a wait of 500: it ended when the dumps did. (What passed before the first one is waited for again.)
    run = t.run("dumped_waits", how, env={"CPUPROFILE": None, "HEAPPROFILE": "heap.prof", "PROFAGENT_CHILDREN": 0})
    t.expect_exit(run)
    t.expect(len(run.profiles()) >= 5, "files %s" % run.profiles(), run)
    if how != "short":
        waited = float(run.out.split()[1])
        t.expect(waited < 1.5, "waited for %.2f s" % waited, run)


@test()
def program_with_its_own_dump_signal_keeps_it(t):
    run = t.run("heap", "own_handler", env={"CPUPROFILE": None})
    t.expect_exit(run)
    t.expect_one_error_line(run, "SIGUSR2 itself", "PROFAGENT_SIGNAL")
    # Who only wants another profile at the end has nothing to be told: clang handles USR2, and its stderr is compared.
    run = t.run("heap", "own_handler", hz=100)
    t.expect_exit(run)
    t.expect_silent(run)
    run = t.run("heap", "own_handler", env={"CPUPROFILE": None, "PROFAGENT_SIGNAL": 0})
    t.expect_exit(run)
    t.expect_silent(run)


@test()
def dump_signal_that_is_ignored_or_blocked_is_told_of(t):
    # kill -USR2 wrote nothing, and nothing said why. At verbosity 1 only: whole trees inherit it.
    ignores, handles, blocked = "ignores SIGUSR2 itself", "handles SIGUSR2 itself", "SIGUSR2 is blocked at the start"
    for how, prefix, words in (("ignores", [], (ignores, handles)), ("exact", [t.need("env"), "--ignore-signal=USR2"], (ignores,)),
                               ("exact", [t.need("env"), "--block-signal=USR2"], (blocked,))):
        for verbosity in 0, 1:
            env = {"CPUPROFILE": None, "MEMPROFILERATE": 1, "PROFAGENT_VERBOSE": verbosity, "HEAPPROFILE": "h.prof"}
            run = t.run("heap", how, prefix=prefix, env=env)
            t.expect_exit(run)
            err = run.err.decode()
            for word in (ignores, handles, blocked):
                expected = word in words and (verbosity > 0 or word == handles)
                t.expect(err.count(word) == int(expected), "%r: %d times" % (word, err.count(word)), run)


@each([(1, b"lived\n", 1), (0, b"died\n", 0)])
def child_that_is_not_profiled_has_no_dump_signal(t, children, said, files):
    # What is not ours to profile is not ours to keep alive either.
    run = t.run("heap", "signalled_child", env={"CPUPROFILE": None, "PROFAGENT_CHILDREN": children})
    t.expect_exit(run)
    t.expect(run.out == said, "expected %r" % said, run)
    t.expect(len(run.profiles()) == files, "files %s" % run.profiles(), run)


@test()
def another_dump_signal(t):
    running = t.start("heap", "work", 600, env={"CPUPROFILE": None, "PROFAGENT_SIGNAL": "RTMIN+2", "HEAPPROFILE": "h.%n.prof"})
    running.wait_for_output(b"ready")
    running.signal(signal.SIGRTMIN + 2)
    run = running.finish()
    t.expect_exit(run, 5)
    t.expect(run.profiles() == ["h.1.prof", "h.2.prof"], "files %s" % run.profiles(), run)


@each([0, 2])
def profile_at_the_end_takes_the_number_after_the_dumps(t, dumps):
    # With %n in the name the profile at the end overwrote the first dump. %%n is no number.
    env = {"CPUPROFILE": "cpu.%n.prof", "HEAPPROFILE": "h.%n", "BLOCKPROFILE": "block.prof", "PEAKPROFILE": "peak%%n.prof", "MEMPROFILERATE": 1}
    running = t.start("heap", "work", 1000, hz=250, env=env)
    running.wait_for_output(b"ready")
    for number in range(1, dumps + 1):
        running.signal(signal.SIGUSR2)
        limit = time.monotonic() + 20
        while not (t.dir / ("block.prof.%d" % number)).exists():
            t.expect(time.monotonic() < limit, "dump %d does not come" % number)
            time.sleep(0.001)
    run = running.finish()
    t.expect_exit(run, 5)
    t.expect_silent(run)
    names = {"block.prof", "peak%n.prof", "cpu.%d.prof" % (dumps + 1), "h.%d" % (dumps + 1)}
    for number in range(1, dumps + 1):
        names |= {"block.prof.%d" % number, "peak%%n.prof.%d" % number, "cpu.%d.prof" % number, "h.%d" % number}
    t.expect(set(os.listdir(t.dir)) == names, "files %s" % sorted(os.listdir(t.dir)), run)
    times = [run.profile("cpu.%d.prof" % number).total("cpu") for number in range(1, dumps + 2)]
    t.expect(times == sorted(times) and times[-1] > 0.8e9, "not in their order: %s" % times, run)


@each(["heap.prof", "h.%n.prof", None])
def dumps_before_an_exec_stay(t, pattern):
    # The new program counted from 1 again and wrote over them. Those of an earlier run are written over, as ever.
    source = t.dir / "twice.c"
    source.write_text("#include <signal.h>\n#include <stdlib.h>\n#include <unistd.h>\nstatic void* volatile keep;\n"
                      "__attribute__((noinline)) void first(void) { keep = malloc(1000); }\n"
                      "__attribute__((noinline)) void second(void) { keep = malloc(2000); }\n"
                      "int main(int argc, char** argv) {\n"
                      "  if (argc > 1) { first(); raise(SIGUSR2); execl(argv[0], argv[0], (char*)0); }\n"
                      "  second(); if (!getenv(\"NO_DUMPS\")) { raise(SIGUSR2); raise(SIGUSR2); } return 0; }\n")
    t.expect_exit(t.run(t.need("gcc"), "-O1", "-fno-builtin", "-fno-optimize-sibling-calls", "-o", t.dir / "twice", source, agent=False))
    if pattern == "h.%n.prof":  # nor does the profile at the end
        run = t.run(t.dir / "twice", "x", env={"CPUPROFILE": None, "MEMPROFILERATE": 1, "HEAPPROFILE": pattern, "NO_DUMPS": 1}, cwd=t.new_dir("end"))
        t.expect_exit(run)
        for name, function in ("h.1.prof", "first"), ("h.2.prof", "second"):
            t.expect(run.profile(name).cum(function, "alloc_space") > 0, "%s is not of %s: %s" % (name, function, run.profiles()), run)
    old = t.dir / (pattern or "unused.prof").replace("heap.prof", "heap.prof.2").replace("%n", "2")
    old.write_text("of an earlier run")
    os.utime(old, (1, 1))
    run = t.run(t.dir / "twice", "x", env={"CPUPROFILE": None, "MEMPROFILERATE": 1, "HEAPPROFILE": pattern})
    t.expect_exit(run)
    t.expect_silent(run)
    dumps = {"heap.prof": r"heap\.prof\.(\d)", "h.%n.prof": r"h\.(\d)\.prof", None: r"heap\.twice\.\d+\.(\d)\.prof"}[pattern]
    found = {int(m.group(1)): run.profile(name) for name in run.profiles() for m in [re.fullmatch(dumps, name)] if m}
    shown = [[f for f in ("first", "second") if found[n].cum(f, "alloc_space")] for n in sorted(found) if n < 4]
    t.expect(shown == [["first"], ["second"], ["second"]], "dumps %s of %s" % (shown, run.profiles()), run)


@test()
def two_kinds_with_one_name_are_two_files(t):
    # The heap profile was written over the CPU profile, without a word.
    run = t.run("heap", "exact", env={"CPUPROFILE": "x.prof", "HEAPPROFILE": "./x.prof", "MEMPROFILERATE": 1})
    t.expect_exit(run)
    t.expect_one_error_line(run, "HEAPPROFILE=./x.prof", "CPUPROFILE", "x.heap.prof")
    t.expect(run.profiles() == ["x.heap.prof", "x.prof"], "files %s" % run.profiles(), run)
    t.expect(run.profile("x.heap.prof").sample_types == TYPES and ("cpu", "nanoseconds") in run.profile("x.prof").sample_types,
             "the wrong kind", run)


@test()
def rate_zero_takes_no_heap_profile(t):
    run = t.run("heap", "exact", env={"CPUPROFILE": None, "MEMPROFILERATE": 0, "HEAPPROFILE": "heap.prof"})
    t.expect_exit(run)
    t.expect_one_error_line(run, "MEMPROFILERATE")
    t.expect(run.profiles() == [], "files %s" % run.profiles(), run)


@test()
def memory_at_the_default_rate_is_small(t):
    def least(agent):  # where the heap's top happens to be trimmed is worth some MiB: the least of three runs
        env = {"CPUPROFILE": None, "HEAPPROFILE": "heap.prof"} if agent else None
        return min(t.run("heap", "storm", 1, 200_000, agent=agent, env=env).usage.ru_maxrss for _ in range(3))

    more = least(True) - least(False)
    t.note("%d KiB more than without the agent" % more)
    t.expect(more <= 8 << 10, "%d KiB more than without the agent" % more)
