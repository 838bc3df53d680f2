"""`profagent run` with --heap, --block and --mutex: which profiles there are, under which names, what the end of the run says,
and that no death of the program loses them."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pprof_reader
from harness import Skip
from runner import each, test

KINDS = {"cpu.prof": "cpu", "heap.prof": "inuse_space", "heap-peak.prof": "peak_space", "block.prof": "delay", "mutex.prof": "delay"}
EVERYTHING = ["--heap=1", "--block=1", "--mutex=1"]


def start(t, options, *argv, **more):
    program = argv[0] if os.sep in str(argv[0]) else t.program(argv[0])
    return t.start(t.profagent, "run", *options, "--", program, *argv[1:], agent=False, **more)


def run(t, options, *argv, **more):
    outcome = start(t, options, *argv, **more).finish()
    t.expect(not outcome.timed_out, "hangs", outcome)
    return outcome


def said(outcome):
    return outcome.err.decode("utf-8", "replace")


def expect_files(t, outcome, *names):
    t.expect(outcome.profiles() == sorted(names), "files: %s, expected %s" % (outcome.profiles(), sorted(names)), outcome)


def expect_kept(t, outcome, suffix="", peak=True):
    """What `keeps` held and waited for is in all profiles."""
    heap = outcome.profile("heap.prof" + suffix)
    t.expect(heap.cum("kept_memory", "inuse_space") == 1000000, "live: %d" % heap.cum("kept_memory", "inuse_space"), outcome)
    t.expect(heap.cum("memory_of_the_peak", "alloc_space") == 2000000, "allocated: %d" % heap.total("alloc_space"), outcome)
    t.expect(heap.cum("memory_of_the_peak", "inuse_space") == 0, "what was freed is live", outcome)
    at_peak = outcome.profile("heap-peak.prof" + suffix).cum("memory_of_the_peak", "peak_space")
    t.expect(at_peak == (2000000 if peak else 0), "at the peak: %d" % at_peak, outcome)
    for name, function in ("block.prof", "waits_for_the_lock"), ("mutex.prof", "lets_others_wait"):
        delay = outcome.profile(name + suffix).cum(function, "delay") / 1e9
        t.expect(0.03 < delay < 0.5, "%s: %s has %.3f s of the 0.05 s" % (name, function, delay), outcome)


@test()
def everything_is_taken_without_a_word(t):
    outcome = run(t, [], "keeps", "return", env={"MEMPROFILERATE": 1, "BLOCKRATE": 1, "MUTEXFRACTION": 1})
    t.expect_exit(outcome, 7)
    expect_files(t, outcome, *KINDS)
    for name, kind in KINDS.items():
        t.expect(kind in [k for k, _ in outcome.profile(name).sample_types], "%s is no %s profile" % (name, kind), outcome)
    expect_kept(t, outcome)


@each(["cpu", "heap", "block", "mutex"])
def only_what_was_asked_for(t, kind):
    # And of that a profile in any case: a script that looks at it must not find that of the last run.
    names = ["heap.prof", "heap-peak.prof"] if kind == "heap" else [kind + ".prof"]
    environment = {"MEMPROFILERATE": 1, "BLOCKRATE": 1, "MUTEXFRACTION": 1, "CPUPROFILE": t.dir / "own.prof", "HEAPPROFILE": t.dir / "own.prof"}
    for program in ["keeps", "return"], ["/bin/true"]:
        directory = t.new_dir(pathlib.Path(program[0]).name)
        outcome = run(t, ["--" + kind], *program, env=environment, cwd=directory)
        expect_files(t, outcome, *names)
        t.expect(not (t.dir / "own.prof").exists(), "the environment's file was written", outcome)


@test()
def command_without_samples_gets_no_files_that_nobody_asked_for(t):
    outcome = run(t, [], "/bin/true", env={"CPUPROFILE_FREQUENCY": 1})
    t.expect_exit(outcome)
    expect_files(t, outcome, "cpu.prof")


@test()
def rate_of_zero_in_the_environment_switches_off(t):
    outcome = run(t, [], "keeps", "return", env={"MEMPROFILERATE": 0, "BLOCKRATE": 0, "MUTEXFRACTION": 1})
    expect_files(t, outcome, "cpu.prof", "mutex.prof")
    t.expect("MEMPROFILERATE" not in said(outcome), "the agent complains", outcome)
    outcome = run(t, ["--heap", "-o", "asked.prof"], "keeps", "return", env={"MEMPROFILERATE": 0})
    # By the rate: of the 3 MB that it allocates one run of 400 samples nothing.
    t.expect(outcome.profile("asked.prof").period == 524288, "--heap is no wish against MEMPROFILERATE=0", outcome)


@test()
def names_of_several_kinds(t):
    outcome = run(t, ["--cpu", *EVERYTHING, "-o", "%e.pb.gz"], "keeps", "return")
    expect_files(t, outcome, "keeps.pb.gz", "keeps.heap.pb.gz", "keeps.heap-peak.pb.gz", "keeps.block.pb.gz", "keeps.mutex.pb.gz")
    t.expect(outcome.profile("keeps.pb.gz").sample_types[0] == ("samples", "count"), "the CPU profile lost the plain name", outcome)


@test()
def every_process_has_profiles_of_every_kind(t):
    outcome = run(t, EVERYTHING, "/bin/sh", "-c", "%s return; %s return" % ((t.program("keeps"),) * 2))
    for kind in "heap", "heap-peak", "block", "mutex":
        of_kind = [name for name in outcome.profiles() if re.fullmatch(r"%s\.prof\.keeps\.\d+" % kind, name)]
        t.expect(len(of_kind) == 2, "%s: %s" % (kind, outcome.profiles()), outcome)
        expect_kept(t, outcome, of_kind[0].removeprefix(kind + ".prof"))
    for title in "heap", "block profile", "mutex profile":
        t.expect(re.search(r"^profagent: %s of keeps \(pid \d+\), the largest of [23]: [^()]+$" % title, said(outcome), re.M) is not None,
                 "no line of the %s" % title, outcome)
    files = re.findall(r"^profagent: wrote (\S+, \S+, \S+, \S+): keeps \(pid \d+\), [\d.]+MB allocated$", said(outcome), re.M)
    t.expect(len(files) == 2, "files are named otherwise", outcome)


@test()
def tree_is_merged_kind_by_kind(t):
    outcome = run(t, [*EVERYTHING, "--merge"], "/bin/sh", "-c", "%s return; %s return" % ((t.program("keeps"),) * 2))
    expect_files(t, outcome, "heap.prof", "heap-peak.prof", "block.prof", "mutex.prof")
    heap = outcome.profile("heap.prof")
    t.expect(heap.cum("kept_memory", "inuse_space") == 2000000, "live: %d" % heap.cum("kept_memory", "inuse_space"), outcome)
    delay = outcome.profile("mutex.prof").cum("lets_others_wait", "delay") / 1e9
    t.expect(0.06 < delay < 1, "%.3f s of the 2 times 0.05 s" % delay, outcome)


@test()
def merged_blocks_are_as_many_as_their_bytes(t):
    # Of each process the one sampled block stands for 1.986, and was counted as one: half as many blocks as there were.
    outcome = run(t, ["--heap=1000", "--merge"], "keeps", "children")
    t.expect_exit(outcome, 7)
    for name, kind in ("heap.prof", "alloc"), ("heap.prof", "inuse"), ("heap-peak.prof", "peak"):
        profile = outcome.profile(name)
        blocks, space = profile.cum("kept_block", kind + "_objects"), profile.cum("kept_block", kind + "_space")
        t.expect(blocks > 0 and blocks == space // 700, "%s: %d blocks of 700 bytes are %d bytes" % (kind, blocks, space), outcome)


@test()
def killed_program_leaves_its_heap_and_its_waits(t):
    outcome = run(t, EVERYTHING, "keeps", "kill")
    t.expect_exit(outcome, 128 + signal.SIGKILL)
    expect_kept(t, outcome)
    t.expect("killed by SIGKILL" in said(outcome), "nobody says so", outcome)


@test()
def program_killed_while_it_waits(t):
    outcome = start(t, EVERYTHING, "keeps", "wait")
    outcome.wait_for_output(b"ready")
    child = subprocess.run(["pgrep", "-P", str(outcome.pid)], capture_output=True, text=True, check=False).stdout.split()
    os.kill(int(child[0]), signal.SIGKILL)
    expect_kept(t, outcome.finish())


@test()
def wait_of_a_killed_process_ends_with_it(t):
    # A tool that kills a worker which hangs, and goes on for an hour: the worker did not wait for an hour.
    outcome = run(t, ["--block=1"], "/bin/sh", "-c", "%s deadlock_and_kill; sleep 2" % t.program("locks"))
    t.expect_exit(outcome)
    name = next(name for name in outcome.profiles() if name.startswith("block.prof.locks."))
    waited = outcome.profile(name).cum("LockTwice", "delay") / 1e9
    t.expect(0.1 < waited < 1.5, "it waited %.3f s of the 0.12 s" % waited, outcome)


@test()
def program_that_ran_out_of_address_space(t):
    # malloc fails, the program gives up: what ate the memory is the profile's first line.
    outcome = run(t, EVERYTHING, "keeps", "address_space")
    t.expect_exit(outcome, 128 + signal.SIGABRT)
    expect_kept(t, outcome, peak=False)
    heap = outcome.profile("heap.prof")
    eaten = heap.cum("eats_memory", "inuse_space")
    t.expect(eaten > 256 << 20 and eaten % (1 << 20) == 0, "eaten: %d" % eaten, outcome)
    t.expect(re.search(r"^ +\d+\.?\d*MB +\d+ objects  eats_memory < main$", said(outcome), re.M) is not None, "the leak is not named", outcome)


def memory_cgroup(t, limit):
    """A new cgroup whose processes may have `limit` bytes of memory."""
    t.need_root()
    root = pathlib.Path("/sys/fs/cgroup")
    name = "profagent-test-%d" % os.getpid()
    for parent, file in (root / "memory", "memory.limit_in_bytes"), (root, "memory.max"):
        group = parent / name
        try:
            group.mkdir()
            (group / file).write_text(str(limit))
            swap = group / "memory.swap.max"
            if swap.exists():
                swap.write_text("0")
            return group
        except OSError:
            if group.exists():
                group.rmdir()
    raise Skip("no memory cgroup can be made here")


@test()
def program_killed_by_the_out_of_memory_killer(t):
    group = memory_cgroup(t, 96 << 20)
    try:
        outcome = run(t, EVERYTHING, "/bin/sh", "-c", "echo $$ >%s/cgroup.procs && exec %s eat" % (group, t.program("keeps")))
    finally:
        for _ in range(100):  # until the kernel has let go of the process
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.05)
    t.expect_exit(outcome, 128 + signal.SIGKILL)
    expect_kept(t, outcome, peak=False)
    eaten = outcome.profile("heap.prof").cum("eats_memory", "inuse_space")
    t.expect(32 << 20 < eaten < 97 << 20, "eaten: %d" % eaten, outcome)


def expect_hints_work(t, text):
    hints = re.findall(r"^profagent: (?:look further:|             ) profagent (.*)$", text, re.M)
    t.expect(hints, "no hints:\n" + text)
    for hint in hints:
        shown = t.run("/bin/sh", "-c", "%s %s" % (t.profagent, hint), agent=False)
        t.expect_exit(shown)
        t.expect(b"kept_memory" in shown.out, "the hint shows nothing: %s" % hint, shown)


@each(["a b.prof", "-x.prof", "$(exit 3)'\".prof", "\u00e9;.prof"])
def hints_can_be_pasted_into_a_shell(t, name):
    outcome = run(t, ["--heap=1", "-o" + name], "keeps", "return")
    t.expect_exit(outcome, 7)
    expect_hints_work(t, said(outcome))


@test()
def end_of_a_heap_run_says_what_it_held(t):
    outcome = run(t, ["--heap=1"], "keeps", "return")
    text = said(outcome)
    heap = outcome.profile("heap.prof")
    line = re.search(r"^profagent: heap: ([\d.]+)MB allocated, ([\d.]+)(k|M)B live at the end, ([\d.]+)MB at its peak$", text, re.M)
    t.expect(line is not None, "no line about the heap", outcome)
    for at, total in (1, heap.total("alloc_space")), (4, outcome.profile("heap-peak.prof").total("peak_space")):
        t.expect(abs(float(line.group(at)) - total / 2**20) < 0.006, "%s is not %d bytes" % (line.group(at), total), outcome)
    t.expect("  976.56kB  100 objects  kept_memory < main\n" in text, "the largest leak is not named", outcome)
    expect_hints_work(t, text)


@each([["--heap=1"], ["--heap=1", "--cpu"]])
def five_biggest_leaks_are_named(t, options):
    # Of seven, and of what was freed none. Beside a CPU profile that was asked for, too, there were three.
    source = t.dir / "leaks.c"
    source.write_text("#include <stdlib.h>\nstatic void* volatile keep;\n" +
                      "".join("__attribute__((noinline)) void leak%d(void) { keep = malloc(%d000); }\n" % (n, n) for n in range(1, 8)) +
                      "__attribute__((noinline)) void frees(void) { keep = malloc(1 << 20); free(keep); }\n"
                      "int main(void) { leak1(); leak2(); leak3(); leak4(); leak5(); leak6(); leak7(); frees(); return 0; }\n")
    t.expect_exit(t.run(t.need("gcc"), "-O1", "-fno-builtin", "-fno-optimize-sibling-calls", "-o", t.dir / "leaks", source, agent=False))
    outcome = run(t, options, t.dir / "leaks")
    t.expect_exit(outcome)
    named = re.findall(r"^ +([\d.]+)kB +1 object  (\w+) < main$", said(outcome), re.M)
    t.expect(named == [("%.2f" % (n * 1000 / 1024), "leak%d" % n) for n in (7, 6, 5, 4, 3)], "named: %s" % named, outcome)


@test()
def inlined_malloc_is_no_leak(t):
    # The loader has a malloc of its own, inlined, that calls libc's: with libc's debug information installed the largest leak of a
    # program with plug-ins was `malloc`.
    source = t.dir / "inlined.c"
    source.write_text("#define _GNU_SOURCE\n#include <dlfcn.h>\nstatic void* (*real)(unsigned long); static void* volatile keep;\n"
                      "static inline __attribute__((always_inline)) void* malloc(unsigned long n) { return real(n); }\n"
                      "__attribute__((noinline)) void holds(void) { keep = malloc(5000); }\n"
                      "int main(void) { *(void**)&real = dlsym(RTLD_DEFAULT, \"malloc\"); holds(); return 0; }\n")
    t.expect_exit(t.run(t.need("gcc"), "-w", "-g", "-O1", "-fno-builtin", "-o", t.dir / "inlined", source, agent=False))
    outcome = run(t, ["--heap=1"], t.dir / "inlined")
    t.expect_exit(outcome)
    for name in "heap.prof", "heap-peak.prof":
        stacks = [pprof_reader.names_of(s)[:2] for s in outcome.profile(name).samples if s.numbers.get("bytes") == 5000]
        t.expect(stacks == [["holds", "main"]], "%s: %s" % (name, stacks), outcome)


@each([False, True])
def programs_that_one_process_was_are_not_mixed(t, merge):
    # It executes itself: same name, same pid, two heaps. The peak of one stood beside the total of the other.
    outcome = run(t, ["--heap=1", *(["--merge"] if merge else [])], "keeps", "becomes_less")
    t.expect_exit(outcome, 7)
    line = re.search(r"^profagent: heap(.*): ([\d.]+)MB allocated, .* live at the end, ([\d.]+)MB at (.*)$", said(outcome), re.M)
    t.expect(line is not None, "no line about the heap", outcome)
    if merge:
        expect_files(t, outcome, "heap.prof", "heap-peak.prof")
        names, whose, when = ("heap.prof", "heap-peak.prof"), "", "their peaks"
        t.expect(": 2 programs of 1 process, " in said(outcome), "not said what was merged", outcome)
    else:
        names = [name for name in outcome.profiles() if ".keeps." in name]
        t.expect([re.sub(r"\d+", "PID", name) for name in names] == ["heap-peak.prof.keeps.PID", "heap.prof.keeps.PID"], "files: %s" % names, outcome)
        names, whose, when = names[::-1], r" of keeps \(pid \d+, before its exec\), the largest of 2", "its peak"
        last = outcome.profile("heap-peak.prof")
        t.expect(last.cum("memory_of_the_peak", "peak_space") == 0 and last.cum("kept_memory", "peak_space") == 1000000, "not the last one's peak", outcome)
    t.expect(re.fullmatch(whose, line.group(1)) is not None and line.group(4) == when, "whose? %r" % (line.groups(),), outcome)
    for at, name, value in (2, names[0], "alloc_space"), (3, names[1], "peak_space"):
        total = outcome.profile(name).total(value)
        t.expect(abs(float(line.group(at)) - total / 2**20) < 0.006, "%s is not the %d bytes of %s" % (line.group(at), total, name), outcome)


@test()
def end_of_a_run_says_who_waited(t):
    outcome = run(t, ["--block=1", "--mutex=1"], "keeps", "return")
    for title, unit, stack in ("block profile", "wait", "pthread_mutex_lock < waits_for_the_lock < Waiter"), \
            ("mutex profile", "contention", "pthread_mutex_unlock < lets_others_wait < main"):
        t.expect(re.search(r"^profagent: %s: [\d.]+ms in \d+ %ss?$" % (title, unit), said(outcome), re.M) is not None, "no line %s" % title, outcome)
        t.expect(re.search(r"^ +[\d.]+ms +\d+ %ss?  %s$" % (unit, stack), said(outcome), re.M) is not None, "no stack %s" % stack, outcome)


# A thread's first tick comes anywhere in its first period: at 100 Hz 9 of 400 runs have a sample, at 1 Hz one of 4000.
@each([("heap", "of the heap"), ("block", "no wait"), ("mutex", "no contention"), ("cpu=1", "less CPU time")])
def nothing_to_show_is_said(t, option, words):
    outcome = run(t, ["--" + option], "/bin/true")
    t.expect(len(re.findall(r"^profagent: no samples.*%s" % words, said(outcome), re.M)) == 1, "not said", outcome)


@test()
def pipe_gets_one_profile(t):
    # Written before and after symbolizing, `-o >(cat >x)` was two profiles in one, and a reader that left after the first a hang.
    outcome = t.run("/bin/bash", "-c", "'%s' run -q --cpu -o >(cat >whole.prof) -- '%s' 300 0; wait $!" % (t.profagent, t.program("worker")), agent=False)
    t.expect_exit(outcome)
    t.expect(outcome.profile("whole.prof").ticks() > 0, "no profile", outcome)


@test()
def time_without_the_agent_is_not_called_short(t):
    # nice becomes a static program: that one's second is in no profile, and "less than one sampling period" would be untrue.
    outcome = run(t, ["--cpu"], t.need("nice"), t.program("worker_static"), "300", "0")
    t.expect(re.search(r"^profagent: no samples: the command used [\d.]+m?s of CPU time, but in programs without the agent", said(outcome), re.M)
             is not None, "not said", outcome)


@test()
def little_time_is_not_called_less_than_a_period(t):
    # 250 ms, in a program that is not seen: two and a half periods.
    for _ in range(5):  # a tick meets nice itself in one run of a hundred
        outcome = run(t, ["--cpu=10"], t.need("nice"), t.program("worker_static"), "250", "0")
        if outcome.profile("cpu.prof").ticks() == 0: break
    t.expect(re.search(r"^profagent: no samples: the command used [\d.]+ms of CPU time, which in several short processes", said(outcome), re.M)
             is not None, "not said", outcome)


@test()
def time_without_the_agent_is_said_beside_a_heap(t):
    # One sample of the shell's heap, and nobody heard that the command's second of CPU time is in no profile.
    script = "exec '%s' '%s' 300 0" % (t.need("nice"), t.program("worker_static"))
    for _ in range(5):  # until no tick met the shell
        outcome = run(t, [], "/bin/sh", "-c", script, env={"MEMPROFILERATE": "1"})
        if outcome.profile("cpu.prof").ticks() == 0: break
    t.expect(re.search(r"^profagent: heap.*allocated", said(outcome), re.M) is not None, "no heap", outcome)
    t.expect(re.search(r"^profagent: no samples: the command used [\d.]+m?s of CPU time, but in programs without the agent", said(outcome), re.M)
             is not None, "not said", outcome)


@test()
def own_allocator_is_said_before_the_program_starts(t):
    source = t.dir / "own.c"
    source.write_text("#include <unistd.h>\nstatic char memory[1 << 20]; static unsigned long used;\n"
                      "void* malloc(unsigned long n) { used += (n + 15) & -16; return memory + used - ((n + 15) & -16); }\nvoid free(void* p) {}\n"
                      "int main(void) { return write(2, \"started\\n\", 8) != 8; }\n")
    t.expect_exit(t.run(t.need("gcc"), "-fno-builtin", "-rdynamic", "-o", t.dir / "own", source, agent=False))
    outcome = run(t, ["--heap"], t.dir / "own")
    t.expect_exit(outcome)
    lines = said(outcome).splitlines()
    t.expect(re.fullmatch(r"profagent: the heap profile of \S+/own will be empty: it defines malloc and free itself \(its own\)", lines[0])
             is not None and lines[1] == "started", "said otherwise", outcome)
    t.expect(sum("heap profile" in line for line in lines) == 1, "said twice", outcome)
    for command in ([t.dir / "own"], ["/bin/sh", "-c", "%s; :" % (t.dir / "own")]):
        outcome = run(t, ["--cpu"], *command)
        t.expect("heap" not in said(outcome), "nobody asked for a heap profile", outcome)
    # Nobody looked at what a shell starts: an empty profile, and not a word.
    for script, count in ("exec %s", 1), ("%s; :", 1), ("%s; %s", 2):
        outcome = run(t, ["--heap"], "/bin/sh", "-c", script.replace("%s", str(t.dir / "own")))
        found = re.search(r"^profagent: %d process(?: has|es have) an allocator inside, and no heap profile: own \(pid \d+\)" % count,
                          said(outcome), re.M)
        t.expect(found is not None, "not said after `%s`" % script, outcome)


@test()
def allocator_under_names_of_its_own_is_said_before_the_program_starts(t):
    # Rust with jemallocator, redis with its own jemalloc: the profile had next to nothing, and nobody said why.
    source = t.dir / "own.c"
    source.write_text("#include <unistd.h>\nstatic char memory[1 << 20];\nvoid* _rjem_malloc(unsigned long n) { return memory + n; }\n"
                      "int main(void) { return write(2, \"started\\n\", 8) != 8 || _rjem_malloc(1) == 0; }\n")
    t.expect_exit(t.run(t.need("gcc"), "-fno-builtin", "-o", t.dir / "own", source, agent=False))
    outcome = run(t, ["--heap"], t.dir / "own")
    t.expect_exit(outcome)
    t.expect(re.match(r"profagent: the heap profile of \S+/own will have only what it allocates by malloc: it has an allocator linked into it "
                      r"\(_rjem_malloc\)\nstarted\n", said(outcome)) is not None, "said otherwise", outcome)


@test()
def dumps_on_a_signal_are_left_where_they_are(t):
    # kill -USR2 of profagent is passed on. The dump is the user's: it is neither merged nor taken for a process's own profile.
    outcome = start(t, ["--heap=1", "--merge"], "keeps", "wait")
    outcome.wait_for_output(b"ready")
    outcome.signal(signal.SIGUSR2)
    limit = time.monotonic() + 20
    while not (t.dir / "heap.prof.1").exists() and time.monotonic() < limit:
        time.sleep(0.02)
    outcome.signal(signal.SIGTERM)
    outcome = outcome.finish()
    for name in "heap.prof.1", "heap.prof":
        live = outcome.profile(name).cum("kept_memory", "inuse_space")
        t.expect(live == 1000000, "%s: %d live" % (name, live), outcome)
    t.expect("written by the process itself" not in said(outcome), "the dump was adopted", outcome)


@test()
def kinds_that_the_program_wrote_itself_are_adopted(t):
    # No place for a ledger file: the agent records in memory and writes every kind where the run would have.
    small = t.new_dir("small")
    t.need_root()
    script = "mount -t tmpfs -o size=32m none %s || exit 77; exec \"$@\"" % small
    fill = ("exec env -u LD_PRELOAD AGENT=$LD_PRELOAD sh -c 'head -c 64M /dev/zero >%s/filler 2>/dev/null; LD_PRELOAD=$AGENT exec %s return'"
            % (small, t.program("keeps")))
    outcome = t.run("/usr/bin/env", "unshare", "--mount", "sh", "-c", script, "sh", t.profagent, "run", *EVERYTHING, "--", "/bin/sh", "-c",
                    fill, agent=False, env={"XDG_RUNTIME_DIR": small})
    if outcome.status == 77:
        raise Skip("no mounts here: %s" % said(outcome))
    t.expect_exit(outcome, 7)
    t.expect(len(re.findall("written by the process itself", said(outcome))) == 4, "not all kinds are adopted", outcome)
    expect_kept(t, outcome)


@each(["-top", "-traces", "-raw"])
def viewer_and_pprof_agree_on_every_kind(t, report):
    run(t, ["--cpu", *EVERYTHING], "keeps", "return")
    tool = t.tools.go_pprof()
    if tool is None or shutil.which("go") is None:
        raise Skip("go is not installed")
    environment = {"PATH": os.environ["PATH"], "HOME": str(t.dir), "TZ": "UTC", "PPROF_TMPDIR": str(t.dir)}
    for name, kind in KINDS.items():
        for more in [], ["-sample_index=" + kind], ["-mean"], ["-cum", "-lines"], ["-tagleaf=bytes,lock"]:
            command = [report, *more, str(t.dir / name)]
            want = subprocess.run([tool, "-symbolize=none", *command], capture_output=True, env=environment, check=False)
            got = subprocess.run([t.profagent, "-symbolize=none", *command], capture_output=True, env=environment, check=False)
            t.expect(want.returncode == 0 and want.stdout == got.stdout, "%s differs:\n%s\n%s" %
                     (command, want.stdout.decode(), got.stdout.decode()))
