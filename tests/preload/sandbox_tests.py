"""Programs that put themselves into a sandbox, in which every system call of the agent's own is their death."""

import ctypes.util
import os
import re
import signal

from harness import Skip
from runner import each, test

# Everything on, at the most extreme rates: whatever records must fall silent.
EVERYTHING = {"HEAPPROFILE": "heap.prof", "MEMPROFILERATE": 1, "BLOCKRATE": 1, "MUTEXFRACTION": 1}

TRUNCATED = "the profile ends where the program entered a sandbox (seccomp)"


def expect_profile_of_before(t, run):
    profile = t.expect_work(run, "work_before", 0.2)
    t.expect(profile.cum("work_inside") == 0, "work_inside is in the profile", run)
    t.expect(TRUNCATED in profile.comments, "nothing says that the profile is cut short: %s" % profile.comments, run)


@each([("strict", "-"), ("dispatch", "-"), ("prctl", "return"), ("sys_prctl", "_exit"), ("seccomp", "threads"), ("tsync", "threads"),
       ("prctl", "fork"), ("prctl", "actions"), ("libseccomp", "threads")])
def program_lives_on_in_a_sandbox(t, how, mode):
    # Killed (SIGSYS, or SIGKILL in strict mode) by a timer for a new thread, a page for the ledger, the profile at the end.
    if how == "libseccomp" and not ctypes.util.find_library("seccomp"):
        raise Skip("libseccomp is not installed")
    plain = t.run("sandbox", how, mode, agent=False)
    t.expect_exit(plain, 7)
    for hz in 100, 1000:
        run = t.run("sandbox", how, mode, hz=hz, env=EVERYTHING)
        t.expect_exit(run, 7)
        t.expect_silent(run)
        t.expect(run.out == plain.out, "output differs", run)
        expect_profile_of_before(t, run)
        t.expect({"cpu.prof", "heap.prof"} <= set(run.profiles()) and not any("sandbox" in name for name in run.profiles()),
                 "files: %s" % run.profiles(), run)
        kept = run.profile("heap.prof").cum("main", "inuse_space")
        t.expect(kept >= 400 * 10000, "%d bytes in use before the sandbox" % kept, run)


@test()
def sandbox_is_said_once(t):
    run = t.run("sandbox", "prctl", "threads", hz=250, env={"PROFAGENT_VERBOSE": 1})
    t.expect_exit(run, 7)
    t.expect(run.err.count(b"sandbox (seccomp)") == 1, "not said once", run)


@each(["probe", "refused", "at_once"])
def refused_sandbox_changes_nothing(t, how):
    # libseccomp asks the kernel what it can by calls that must fail; and a filter may be wrong. The program has no sandbox then,
    # and its profile must not end there: neither that of the other thread. Threads that ask at once waited ten seconds, each for
    # another one's sandbox.
    run = t.run("sandbox", "refused", how, hz=250, env=EVERYTHING)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect_work(run, "work_before", 0.2)
    profile = t.expect_work(run, "work_after_refusal", 0.3)
    t.expect(TRUNCATED not in profile.comments, "the profile claims a sandbox", run)
    t.expect(run.profiles() == ["block.prof", "cpu.prof", "heap.prof", "mutex.prof"], "files: %s" % run.profiles(), run)
    allocated = run.profile("heap.prof").cum("WorkInThread", "alloc_objects")
    t.expect(allocated > 0, "nothing of the thread's allocations", run)
    t.expect_near("CPU seconds in the profile", profile.cpu_seconds(), run.cpu_seconds, 0.15 * run.cpu_seconds + 0.05, run)
    run = t.run("sandbox", "refused", "probe", hz=250, env={"PROFAGENT_VERBOSE": 1}, cwd=t.new_dir("said"))
    t.expect(b"sandbox (seccomp)" not in run.err, "a question about the kernel is taken for a sandbox", run)


@each(["there.prof", "/dev/null"])
def refused_sandbox_takes_back_files_alone(t, target):
    # What was written before it is removed again. That was the link, and not the file behind it; and, by root, /dev/null.
    os.symlink(target, t.dir / "cpu.prof")
    run = t.run("sandbox", "refused", "refused", hz=250)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect(os.path.islink(t.dir / "cpu.prof"), "the link is gone", run)
    if target == "there.prof":
        t.expect_work(run, "work_after_refusal", 0.3)


@test()
def signals_in_a_sandbox_mean_what_they_meant(t):
    # A dump cannot be written any more, and who asks for one does not mean to kill. Whatever kills by default does so by its own
    # name, not by SIGSYS for what our handler would do.
    for number in signal.SIGTERM, signal.SIGSEGV, signal.SIGQUIT:
        running = t.start("sandbox", "seccomp", "signal", hz=250, cwd=t.new_dir(str(int(number))))
        running.wait_for_output(b"ready")
        running.signal(signal.SIGUSR2)
        running.signal(number)
        run = running.finish()
        t.expect_signal(run, number)
        t.expect_silent(run)
        expect_profile_of_before(t, run)
        t.expect(run.profiles() == ["cpu.prof"], "files: %s" % run.profiles(), run)


@test()
def child_of_a_bare_fork_enters_a_sandbox(t):
    # It has no profile, but our exit handlers and whatever its allocations call; and its parent is not in any sandbox.
    run = t.run("sandbox", "prctl", "raw_fork", hz=250, env=EVERYTHING)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect(b"inside" in run.out, "the child did not work", run)
    t.expect_work(run, "work_before", 0.2)
    profile = t.expect_work(run, "work_after_refusal", 0.1)
    t.expect(TRUNCATED not in profile.comments and profile.cum("work_inside") == 0, "the child's sandbox is the parent's", run)


@test()
def children_that_are_forked_when_a_thread_enters_a_sandbox(t):
    # They waited ten seconds for that thread, which they do not have, before they entered one of their own.
    run = t.run("sandbox", "prctl", "fork_meanwhile", hz=250, env=EVERYTHING)
    t.expect_exit(run, 7)
    t.expect_silent(run)


@test()
def program_started_from_a_sandbox_is_profiled(t):
    # Of containers and of the launchers that make them, the program inside is meant: it has the plain name.
    run = t.run("forbid", 1, 400, "--", t.program("worker"), 300, 7, hz=250)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect_work(run, "app_work", 0.3)
    t.expect(run.profiles() == ["cpu.prof"], "files: %s" % run.profiles(), run)


@test()
def run_keeps_the_profile_of_a_sandboxed_program(t):
    run = t.run(t.profagent, "run", "-o", t.dir / "out", "--", t.program("sandbox"), "tsync", "threads", agent=False)
    t.expect_exit(run, 7)
    t.expect(re.search(rb"1 process entered a sandbox.*sandbox", run.err), "nothing says so", run)
    profile = run.profile("out")
    # On a busy machine the thread may meet none of the kernel's ticks in so short a time: then it is shown where it began.
    before = profile.cum("work_before", "cpu") + profile.flat("_start", "cpu")
    t.expect(before >= 0.15e9, "work_before is missing", run)
    t.expect(TRUNCATED in profile.comments, "nothing says that the profile is cut short: %s" % profile.comments, run)


@test()
def file_describes_files(t):
    # file(1) shuts itself up before it looks at anything, where it was built to.
    file = t.need("file")
    plain = t.run(file, "/bin/ls", "/etc/passwd", agent=False)
    run = t.run(file, "/bin/ls", "/etc/passwd", hz=1000, env=EVERYTHING)
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect(run.out == plain.out, "output differs", run)
    t.expect("cpu.prof" in run.profiles(), "no profile", run)
