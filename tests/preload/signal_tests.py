"""Programs that use signals themselves: they must not notice ours, and we must not lose ours."""

import re
import signal

from harness import Skip
from runner import each, test


def same_as_without(t, *argv, hz=1000, env=None, **options):
    """Runs the program without and with the agent: same output, same end, same stderr."""
    plain = t.run(*argv, agent=False, **options)
    run = t.run(*argv, hz=hz, env=env, **options)
    t.expect((run.status, run.signal) == (plain.status, plain.signal), "ends as %s, without the agent as %s" %
             (run.end(), plain.end()), run)
    t.expect(run.out == plain.out, "the output differs from\n%s" % plain, run)
    t.expect(run.err == plain.err, "stderr differs from\n%s" % plain, run)
    return run


@test()
def own_sigprof_handler_and_timer(t):
    # gprof, GNU sort, Python's signal.setitimer: the program's ticks reach its handler, ours do not.
    run = same_as_without(t, "signals", "own_profiler")
    t.expect(run.out == b"own ticks\n", "the program does not see its own ticks", run)
    t.expect_work(run, "signal_work", 0.7)


@test()
def sigprof_sent_by_kill_reaches_the_handler(t):
    run = same_as_without(t, "signals", "own_handler_raise")
    t.expect(run.out == b"20\n", "the handler was not called 20 times", run)
    t.expect_work(run, "signal_work", 0.3)


@each(["default_raise", "own_itimer_default"])
def unhandled_sigprof_of_the_program_kills(t, how):
    # `Profiling timer expired`: without a handler that is what the program would die of.
    run = same_as_without(t, "signals", how)
    t.expect_signal(run, signal.SIGPROF)
    t.expect(run.profile().cum("signal_work") > 0, "no profile of a program that dies of SIGPROF", run)


@each([("ignored", 0.3), ("reset_hand", 0.4), ("answers", 0.3), ("blocked_pending", 0.2), ("sigsuspend", 0.2)])
def questions_about_sigprof_are_answered_as_without_us(t, how, seconds):
    run = same_as_without(t, "signals", how)
    t.expect_exit(run)
    t.expect_work(run, "signal_work", seconds)


@test()
def handler_that_is_set_while_another_is_reset_stays(t):
    # One thread sets a handler just when another is in that which SA_RESETHAND takes away: it was lost, and the next signal fatal.
    t.expect_exit(same_as_without(t, "signals", "reset_hand_race"))


@test()
def handler_that_is_reset_has_the_mask_of_sigsuspend(t):
    # Another signal that was let through in the call came in the handler, and with us it stayed pending for good.
    run = same_as_without(t, "signals", "suspend_once")
    t.expect_exit(run)
    t.expect(run.out.startswith(b"14 1\nafter: 1\n"), "the signal did not come", run)


@each([signal.SIGPROF, signal.SIGUSR1])
def threads_of_two_priorities_set_one_handler(t, signo):
    # The higher one took the processor from the lower one in the middle of that, and waited for it for ever.
    run = t.run("signals", "priorities", int(signo))
    if run.status == 77:
        raise Skip("no real-time priorities here")
    t.expect_exit(run)


@each(["sigwait", "signalfd"])
def thread_that_waits_for_all_signals(t, how):
    # The classic signal thread: a tick that it is handed is an unknown signal to it.
    run = same_as_without(t, "signals", how)
    t.expect_exit(run)
    t.expect_work(run, "signal_work", 0.2)
    t.expect(run.profile().cum("thread_work") > 0, "the working thread was not recorded", run)


@test()
def handler_is_entered_with_a_misaligned_stack(t):
    # qemu-x86_64 of `profagent run -- qemu-x86_64 ./app` hands its environment to the guest: that died at the first tick.
    run = t.run("signals", "misaligned", hz=1000)
    t.expect_exit(run)
    t.expect_work(run, "thread_work", 0.3)


@test()
def wait_for_signals_that_never_times_out(t):
    # Its end in nanoseconds does not fit into 64 bits: one that had wrapped around was over at the next tick.
    run = t.run("signals", "sigtimedwait_for_ever", hz=10000)
    t.expect_exit(run)


@each(["timer", "perf"])
def short_waits_are_never_interrupted(t, engine):
    # A tick behind such a call, and the next one in the same call: that was taken for a wait that the program's handler had ended.
    run = t.run("signals", "short_waits", hz=10000, env={"PROFAGENT_CPU_ENGINE": engine})
    t.expect_exit(run)
    t.expect(int(run.out) == 0, "%d waits were interrupted" % int(run.out), run)


@test()
def waits_in_io_uring_are_never_interrupted(t):
    # liburing hands EINTR on, and who waits by it (RocksDB aborts) has no signal handler that would make it reckon with that.
    run = t.run("signals", "uring_waits", hz=10000, env={"PROFAGENT_CPU_ENGINE": "perf"})
    t.expect_exit(run)
    if int(run.out) < 0:
        raise Skip("no io_uring on this machine")
    t.expect(int(run.out) == 0, "%d waits were interrupted" % int(run.out), run)


# SIGURG is none that the agent handles.
@each([(by, signo) for by in ("sigaction", "signal", "sysv_signal") for signo in (signal.SIGALRM, signal.SIGURG)])
def handler_ends_a_wait(t, set_by, signo):
    # A tick that the handler's mask holds up comes when the handler returns, behind the call that it has ended: begun again, the
    # call would wait for a signal that has been.
    run = same_as_without(t, "signals", "ended_waits", set_by, int(signo))
    t.expect_exit(run)
    recorded = run.profile().total("cpu") / 1e9
    t.expect(recorded > 0.05, "the handlers' 0.1 s were not recorded, but %.3f s" % recorded, run)


@test()
def handlers_that_a_vfork_child_resets(t):
    # python's subprocess, ruby and others do so before they exec. The parent died of the next SIGPROF that its handler was for.
    run = same_as_without(t, "signals", "vfork", env={"PROFAGENT_CHILDREN": 0})
    t.expect_exit(run)
    t.expect_work(run, "signal_work", 0.2)


@test()
def waits_are_not_interrupted(t):
    # CPU clocks do not run in a sleeper, so no wait should end with EINTR; a tick that falls on the way into the call
    # can still do it (SA_RESTART does not help poll), so one in 300 is let pass.
    run = t.run("signals", "interrupted", hz=1000)
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect(int(run.out) <= 1, "%d of 300 waits were interrupted" % int(run.out), run)


@test()
def handler_set_by_libcs_syscall(t):
    # Chromium and sanitizers fill in the kernel's own structure. Set behind our back, their handler got our ticks, and their
    # profile nothing any more.
    run = same_as_without(t, "signals", "by_syscall")
    t.expect_exit(run)
    t.expect_work(run, "signal_work", 0.3)


@test()
def handler_replaced_behind_our_back_is_said(t):
    # By a raw system call: we cannot know in time, but the profile that misses half of the time must say so.
    run = t.run("signals", "replaced", hz=250)
    t.expect_exit(run)
    profile = run.profile()
    t.expect(profile.cum("signal_work", "cpu") >= 0.25e9, "what was recorded before is lost", run)
    said = profile.losses().get("handler_replaced", 0) or b"SIGPROF" in run.err
    t.expect(said, "neither the comments nor stderr tell: %s" % profile.comments, run)


@each(["SIGUSR1", "USR1", "10", "SIGRTMIN+3", "RTMIN+3", "40", "STKFLT"])
def another_signal_can_be_chosen(t, name):
    run = t.run("worker", 300, 7, hz=250, env={"PROFAGENT_CPU_SIGNAL": name})
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect_work(run, "app_work", 0.3)


@test()
def chosen_signal_leaves_sigprof_alone(t):
    run = same_as_without(t, "signals", "own_profiler", env={"PROFAGENT_CPU_SIGNAL": "RTMIN+5"})
    t.expect(run.out == b"own ticks\n", "the program does not see its own ticks", run)
    t.expect_work(run, "signal_work", 0.7)


@each(["KILL", "STOP", "SIGSEGV", "0", "65", "nonsense", ""])
def unusable_signal_is_refused(t, name):
    run = t.run("worker", 300, 7, hz=250, env={"PROFAGENT_CPU_SIGNAL": name})
    t.expect_exit(run, 7)
    if name != "":
        t.expect_one_error_line(run, "PROFAGENT_CPU_SIGNAL", name)
    t.expect_work(run, "app_work", 0.3)


@test()
def gnu_sort_sorts(t):
    # sort installs a handler for SIGPROF and died `Profiling timer expired` under a naive preload.
    sort = t.need("sort")
    with open(t.dir / "lines", "w", encoding="ascii") as file:
        seed = 1
        for _ in range(300000):
            seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
            file.write("%d some text %x\n" % (seed, seed * 7919))
    for arguments in (["--parallel=2", "lines"], ["-n", "-S", "2M", "lines"], ["-u", "-k2", "lines"]):
        plain = t.run(sort, *arguments, agent=False)
        run = t.run(sort, *arguments, hz=1000)
        t.expect_exit(run)
        t.expect_silent(run)
        t.expect(run.out == plain.out, "sort %s sorts otherwise" % " ".join(arguments))
        t.expect_near("CPU seconds in the profile", run.profile().cpu_seconds(), run.cpu_seconds,
                      0.15 * run.cpu_seconds + 0.03, run)


@each([("cpu", {}), ("all", {"BLOCKRATE": 1, "MUTEXFRACTION": 1})])
def process_state_is_unchanged(t, _, env):
    # Descriptors, dispositions, masks, threads, timers, errno, dlerror, rounding mode: a program that looks must see nothing.
    run = same_as_without(t, "inspect", env=env)
    t.expect_exit(run)
    t.expect(run.profile().ticks() > 0, "nothing was recorded", run)


@each([("flags", "flags"), ("traps", "traps")])
def floating_point_state_is_unchanged(t, _, how):
    # A program that asks what its arithmetic did (fetestexcept, Fortran's STOP) hears of its own; one that wants SIGFPE for it
    # (feenableexcept, gfortran -ffpe-trap) does not die of ours.
    run = same_as_without(t, "float_state", how, env={"MEMPROFILERATE": 1000, "HEAPPROFILE": "heap.prof", "BLOCKRATE": 1, "MUTEXFRACTION": 2})
    t.expect_exit(run)
    t.expect(run.out.startswith(b"flags 0 0 0, "), "the flags are not those of a program without arithmetic", run)
    t.expect(run.profile("heap.prof").cum("Allocate", "alloc_space") > 0, "nothing was recorded", run)


@test()
def environment_is_unchanged(t):
    # What the user set is there, what the user did not set is not: a variable of ours would change builds' checksums.
    run = t.run("/usr/bin/env", "-0", hz=100)
    t.expect_exit(run)
    got = dict(item.split("=", 1) for item in run.out.decode().split("\0") if item)
    t.expect(got == t.environment(hz=100), "environment: %s" % got, run)
    run = t.run("/bin/sh", "-c", "env -0", hz=100)
    got = dict(item.split("=", 1) for item in run.out.decode().split("\0") if item)
    got = {key: value for key, value in got.items() if key not in ("_", "PWD", "OLDPWD", "SHLVL")}
    t.expect(got == t.environment(hz=100), "a child's environment: %s" % got, run)


@test()
def no_thread_of_ours(t):
    # A second thread breaks unshare(CLONE_NEWUSER), setns and careless forks.
    run = t.run(t.need("unshare"), "--user", "--map-root-user", "true", hz=100)
    plain = t.run(t.need("unshare"), "--user", "--map-root-user", "true", agent=False)
    t.expect((run.status, run.err) == (plain.status, plain.err), "unshare fails under the agent", run)


@each(["", "threads"])
def handler_makes_no_system_call(t, where):
    # A system call in the handler is a cost, a restart of the interrupted call, and in a sandbox a death.
    strace = t.need("strace")
    program = ["threads", "blocked"] if where else ["signals", "busy", "200000"]
    log = t.dir / "strace.log"
    run = t.run(*program, hz=1000, prefix=[strace, "-f", "-o", log], timeout=120)
    if b"ptrace" in run.err and not log.exists():

        raise Skip("strace cannot trace here: %s" % run.err.decode())
    t.expect_exit(run)
    inside, delivered, foreign = {}, 0, []
    for line in log.read_text().splitlines():
        pid, _, event = line.partition(" ")
        event = event.strip()
        if event.startswith("--- SIGPROF"):
            inside[pid] = True
            delivered += 1
        elif inside.get(pid):
            if event.startswith("rt_sigreturn"):
                inside[pid] = False
            elif not re.match(r"(\+\+\+|---)", event):
                foreign.append(event)
    t.note("%d signals" % delivered)
    t.expect(delivered >= (5 if where else 20), "only %d signals were delivered" % delivered, run)
    # The first signals meet modules and ledger pages for the first time, but that is plain memory too: none at all.
    t.expect(not foreign, "%d system calls inside of %d handlers: %s" % (len(foreign), delivered, foreign[:5]))


@test()
def python_with_its_own_signals(t):
    # signal.setitimer, faulthandler and siginterrupt in one program.
    script = """
import faulthandler, signal, sys, time
faulthandler.enable()
count = 0
def handler(number, frame):
    global count
    count += 1
signal.signal(signal.SIGPROF, handler)
signal.setitimer(signal.ITIMER_PROF, 0.02, 0.02)
start = used = time.process_time()
while count < 20 and used < start + 5:
    sum(range(1000))
    used = time.process_time()
signal.setitimer(signal.ITIMER_PROF, 0)
# 0.4 s of what the kernel's ticks count; on a busy machine a process may run between them, and their time is another.
print("good" if count >= 20 and used >= start + 0.1 else (count, used - start), signal.getsignal(signal.SIGPROF) is handler)
assert signal.signal(signal.SIGPROF, signal.SIG_DFL) is handler
"""
    run = same_as_without(t, "/usr/bin/python3", "-c", script)
    t.expect_exit(run)
    t.expect(run.out == b"good True\n", "ticks", run)
