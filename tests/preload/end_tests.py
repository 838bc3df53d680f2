"""Ways to die: whatever ends the program, its status is its own and its profile is whole."""

import os
import signal
import stat
import time

from harness import Skip
from runner import each, test

# What a program that dies of the signal by default leaves behind with `raise`.
FATAL = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPIPE", "SIGVTALRM", "SIGXCPU", "SIGABRT",
         "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS"]


@each(["return", "exit", "_exit", "_Exit", "syscall_exit_group", "quick_exit", "thread_exit", "thread__exit"])
def profile_is_whole_after(t, how):
    # A server that ends by _exit, or whose worker thread calls exit, would leave no profile or half of one.
    run = t.run("ends", how, hz=250)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect_work(run, "work_before_end", 0.3)
    t.expect(run.profiles() == ["cpu.prof"], "more files than the profile: %s" % run.profiles(), run)
    t.expect_pprof_agrees(t.dir / "cpu.prof")


@test()
def profile_is_private_and_complete(t):
    # Profiles name files and functions of the user: nobody else may read them. Types and units are what Go writes.
    run = t.run("ends", "return", hz=100)
    t.expect_exit(run, 7)
    mode = stat.S_IMODE(os.stat(t.dir / "cpu.prof").st_mode)
    t.expect(mode == 0o600, "the profile's mode is %o" % mode, run)
    profile = run.profile()
    t.expect(profile.sample_types == [("samples", "count"), ("cpu", "nanoseconds")], "types: %s" % profile.sample_types)
    t.expect(profile.period_type == ("cpu", "nanoseconds") and profile.period == 10000000, "period: %d" % profile.period)
    t.expect(abs(profile.time_nanos / 1e9 - time.time()) < 60, "time_nanos is not now: %d" % profile.time_nanos)
    t.expect(0.25e9 < profile.duration_nanos < 60e9, "duration: %d" % profile.duration_nanos)
    program = next(iter(profile.mappings.values()))
    t.expect(program.filename == str(t.program("ends")), "mapping[0] is %s" % program.filename)
    t.expect(program.build_id and program.has_functions, "the program has no build-id or no names: %s" % (program,))
    t.expect(any("ends return" in comment for comment in profile.comments), "no command line in %s" % profile.comments)
    t.expect(profile.total("cpu") == profile.ticks() * profile.period, "cpu is not samples times the period")


@test()
def atexit_handlers_are_profiled(t):
    # Work behind main (caches written back, a report printed) is work of the program.
    run = t.run("ends", "atexit", hz=250)
    t.expect_exit(run, 7)
    t.expect_work(run, "work_before_end", 0.3)
    t.expect_work(run, "work_in_atexit", 0.2)


@test()
def destructors_are_profiled(t):
    run = t.run("ends", "destructor", hz=250)
    t.expect_exit(run, 7)
    t.expect_work(run, "work_before_end", 0.3)


@test()
def main_thread_leaves_by_pthread_exit(t):
    # The main thread is gone (a zombie) while the others work on: its slot must not stop them, its time must not be lost.
    run = t.run("ends", "pthread_exit", hz=250)
    t.expect_exit(run, 7)
    t.expect_work(run, "work_before_end", 0.3)
    t.expect_work(run, "work_in_thread", 0.3)


@test()
def threads_are_at_work_during_exit(t):
    # Handlers of other threads still run while the profile is written.
    for _ in range(3):
        run = t.run("ends", "threads_at_work", hz=1000)
        t.expect_exit(run, 7)
        t.expect_silent(run)
        t.expect_work(run, "work_before_end", 0.5)
        t.expect(run.profile().cum("work_in_thread") > 0, "nothing of the threads", run)


@each(FATAL)
def dies_of_the_same_signal(t, name):
    # init systems, shells and crash reporters look at the signal: an exit status instead would hide the crash.
    number = getattr(signal, name)
    plain = t.run("ends", "raise", int(number), agent=False)
    # USR2 writes profiles and does not kill, unless it is told not to.
    run = t.run("ends", "raise", int(number), hz=250, env={"PROFAGENT_SIGNAL": 0})
    t.expect_signal(plain, number)
    t.expect_signal(run, number)
    t.expect_silent(run)
    t.expect_work(run, "work_before_end", 0.3)


@each([("abort", "SIGABRT"), ("abort_handled", "SIGABRT"), ("abort_once", "SIGABRT"), ("assert_handled", "SIGABRT"),
       ("segv", "SIGSEGV"), ("no_room_for_frame", "SIGSEGV"), ("fpe", "SIGFPE"), ("ill", "SIGILL"), ("thread_abort", "SIGABRT"),
       ("thread_segv", "SIGSEGV"), ("restored", "SIGTERM"), ("reset_hand", "SIGTERM"), ("second_signal_is_blocked", "SIGTERM")])
def crash_leaves_a_profile(t, how, name):
    # The profile of the run that crashed is the one that is wanted.
    run = t.run("ends", how, hz=250)
    t.expect_signal(run, getattr(signal, name))
    t.expect_silent(run)
    t.expect_work(run, "work_before_end", 0.5 if how == "second_signal_is_blocked" else 0.3)


@test()
def handled_abort_signal_is_not_the_end(t):
    # A handler that returns to abort is; after a raise or kill the program goes on, and so does the profile.
    run = t.run("ends", "raised_abort", hz=250)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect_work(run, "work_before_end", 0.5)


@test()
def crash_in_a_handler_on_an_alternate_stack(t):
    # Encoding and compressing a profile takes more than what is left of 8 KiB.
    run = t.run("alternate_stack", "crash", hz=1000)
    t.expect_signal(run, signal.SIGSEGV)
    t.expect_silent(run)
    t.expect_work(run, "work_in_handler", 0.1)


@each([(how, kept) for how in ("fork", "vfork", "execve", "execvp", "posix_spawnp") for kept in ("in memory", "in a file")])
def another_program_is_begun_on_an_alternate_stack(t, how, kept):
    # By the handler of a crash, on the 4.7 KiB that the kernel's frame leaves of 8: with us child or process died in the hook.
    plain = t.run("alternate_stack", "begins", how, agent=False)
    t.expect_exit(plain)
    env = {"V%d" % number: "" for number in range(600)}  # the copy of the environment's array alone was too large, too
    if kept == "in a file":
        env["PROFAGENT_LEDGER_DIR"] = t.new_dir("ledgers")
    t.expect_exit(t.run("alternate_stack", "begins", how, env=dict(env, CPUPROFILE=None, HEAPPROFILE="heap.prof")))
    # With a CPU profile such a stack is replaced.
    t.expect_exit(t.run("alternate_stack", "begins", how, hz=250, env=env))


@each(["return", "exit", "_exit", "exec_fails", "dump", "own_handler", "term", "segv"])
def fault_of_the_agent_costs_the_profile_only(t, how):
    # A mapping that is gone, a damaged ledger, a bug of ours: the encoder's SIGSEGV took the program's exit status away,
    # or reached a handler of the program's that knew nothing of it.
    run = t.run("takes_vdso_away", how, hz=250)
    if how in ("term", "segv"):
        t.expect_signal(run, signal.SIGTERM if how == "term" else signal.SIGSEGV)
    else:
        t.expect_exit(run, 7)
    t.expect_one_error_line(run, "no profile written", "signal 11")
    t.expect(os.listdir(t.dir) == [], "left behind: %s" % os.listdir(t.dir), run)


@test()
def abort_inside_of_malloc(t):
    # libc found the heap corrupt and holds its lock: whoever allocates now waits for ever.
    run = t.run("ends", "heap_corruption", hz=250)
    t.expect_signal(run, signal.SIGABRT)
    t.expect(run.err.count(b"\n") == 1 and b"double free" in run.err, "libc's message is not alone", run)
    t.expect_work(run, "work_before_end", 0.3)


@test()
def sigterm_while_exiting(t):
    # The profile must not be written by two at once, nor lost between them.
    run = t.run("ends", "term_in_atexit", hz=250)
    t.expect_signal(run, signal.SIGTERM)
    t.expect_silent(run)
    t.expect_work(run, "work_before_end", 0.3)
    t.expect(run.profiles() == ["cpu.prof"], "files: %s" % run.profiles(), run)


@test()
def four_threads_exit_at_once(t):
    for _ in range(5):
        run = t.run("ends", "two_exits", hz=250)
        t.expect_exit(run, 7)
        t.expect_silent(run)
        t.expect_work(run, "work_before_end", 0.3)


@test()
def main_returns_while_a_thread_exits(t):
    # The thread that finds no exit handler left ends the process, and the other one was writing the profile.
    for micros in (0, 300, 1000, 2000, 3000, 5000, 8000, 12000):
        directory = t.new_dir("after_%d" % micros)
        run = t.run("many_stacks", "300", "return_during_exit", micros, hz=1000, cwd=directory)
        t.expect_exit(run, 7)
        t.expect_silent(run)
        t.expect(run.profiles() == ["cpu.prof"], "files: %s" % sorted(os.listdir(directory)), run)
        t.expect(run.profile().total("cpu") >= 0.25e9, "time is missing", run)


@each(["init", "forked_init"])
def first_process_of_a_container(t, how):
    # To process 1 of a PID namespace a signal whose action is the default does nothing. A profiler that handles SIGTERM
    # there and then "dies of it" hangs, or kills what would have lived.
    # So it is for a child that a program forks behind unshare, which has our handlers from its parent.
    t.need_root()
    prefix = [t.need("unshare"), "--pid", "--fork", "--kill-child"] if how == "init" else []
    plain = t.run("ends", how, agent=False, prefix=prefix)
    run = t.run("ends", how, hz=250, prefix=prefix)
    t.expect_exit(plain, 7)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect_work(run, "work_before_end", 0.5 if how == "init" else 0.3)


@test()
def dies_when_the_stack_is_used_up(t):
    # No room for a handler: the kernel kills with SIGSEGV as it would without us. The profile is lost unless a ledger
    # file holds it (see run_tests), but the death is the same.
    run = t.run("ends", "stack_overflow", hz=250)
    t.expect_signal(run, signal.SIGSEGV)


@each(["SIGSEGV", "SIGABRT", "SIGQUIT"])
def core_is_dumped(t, name):
    number = int(getattr(signal, name))
    prefix = [t.need("prlimit"), "--core=unlimited:unlimited"]
    plain = t.run("ends", "raise", number, agent=False, prefix=prefix)
    if not plain.core:

        raise Skip("this machine dumps no core even without the agent")
    run = t.run("ends", "raise", number, hz=250, prefix=prefix)
    t.expect_signal(run, number)
    t.expect(run.core, "no core is dumped with the agent", run)
    t.expect_work(run, "work_before_end", 0.3)


@each(["SIGTERM", "SIGINT", "SIGHUP"])
def killed_from_outside(t, name):
    # What an init system does to every service: a program in the middle of its work.
    for how in "wait", "idle":
        directory = t.new_dir(how)
        running = t.start("ends", how, hz=250, cwd=directory)
        running.wait_for_output(b"ready")
        running.signal(getattr(signal, name))
        run = running.finish()
        t.expect_signal(run, getattr(signal, name))
        t.expect_silent(run)
        t.expect(run.profile().cum("work_before_end", "cpu") >= 0.25e9, "time is missing", run)


@each([("own_handler",), ("exit_in_handler",)])
def own_handler_for_sigterm(t, how):
    # A program that ends itself on SIGTERM must still get the signal, once.
    running = t.start("ends", how, hz=250)
    running.wait_for_output(b"ready")
    running.signal(signal.SIGTERM)
    run = running.finish()
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect(run.profile().cum("work_before_end", "cpu") >= 0.25e9, "time is missing", run)


@test()
def ignored_signal_stays_ignored(t):
    # nohup: a SIGHUP that was ignored at the start must not kill, nor be reported as anything but ignored.
    run = t.run("ends", "ignored", hz=250, prefix=["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"])
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect_work(run, "work_before_end", 0.3)
