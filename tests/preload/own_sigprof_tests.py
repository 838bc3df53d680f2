"""The program's own use of SIGPROF, or of the CPU signal that was chosen: exactly as without the agent."""

import signal

from runner import each, test
from signal_tests import same_as_without

# Who gets it, and when.
WAYS = ["kill_thread_wants", "kill_main_wants", "timer_thread_wants", "unblocked_past_libc", "wait_before", "wait_after", "unblock_after", "begin_after",
        "thread_directed", "temporary_masks", "suspend_race", "wait_race", "signalfd", "signalfd_epoll", "ignored",
        "not_interrupted"]
# How it is handled, and what is left of it.
ENDS = ["restart", "flags", "deep_handler", "fork", "exec", "exec_pending", "exec_in_handler",
        "exec_fails_in_handler", "mask_in_handler", "blocked_in_handler", "live_blocked", "storm", "taker_ends"]
DEATHS = ["die", "die_on_unblock"]
PROGRAMS = {**{how: "own_sigprof" for how in WAYS}, **{how: "own_sigprof_ends" for how in ENDS + DEATHS}}


@each(WAYS + ENDS)
def own_sigprof_finds_who_wants_it(t, how):
    run = same_as_without(t, PROGRAMS[how], how, signal.SIGPROF.value)
    t.expect_exit(run)


@each(DEATHS)
def own_sigprof_kills_where_nobody_handles_it(t, how):
    # Of a process whose first thread blocks it, too.
    run = same_as_without(t, PROGRAMS[how], how, signal.SIGPROF.value)
    t.expect_signal(run, signal.SIGPROF)


@each(["kill_thread_wants", "wait_after", "unblock_after", "temporary_masks", "signalfd", "fork", "exec", "die"])
def chosen_cpu_signal_finds_who_wants_it(t, how):
    same_as_without(t, PROGRAMS[how], how, signal.SIGUSR1.value, env={"PROFAGENT_CPU_SIGNAL": "USR1"})


@each(["kill_thread_wants", "wait_after", "unblock_after", "temporary_masks", "signalfd", "not_interrupted"])
def own_sigprof_beside_perf_events(t, how):
    same_as_without(t, PROGRAMS[how], how, signal.SIGPROF.value, env={"PROFAGENT_CPU_ENGINE": "perf"})


@each(["fork", "exec"])
def own_sigprof_in_children_that_are_left_alone(t, how):
    same_as_without(t, PROGRAMS[how], how, signal.SIGPROF.value, env={"PROFAGENT_CHILDREN": "0"})


@test()
def own_sigprof_does_not_cost_the_profile(t):
    # Signals that are held, handed on and waited for leave every thread timed.
    run = t.run("own_sigprof_ends", "storm", signal.SIGPROF.value, hz=1000)
    t.expect_exit(run)
    t.expect(run.profile().cum("thread_work", "cpu") >= 0.25e9, "the working thread was not recorded", run)


@test()
def tick_that_a_tracer_hands_on_by_its_number(t):
    # ltrace keeps a signal back while it steps over a breakpoint. What comes then is a SIGPROF of the tracer's: the program died of it.
    run = t.run(t.program("tracer"), t.program("worker"), 300, 7, hz=100)
    t.expect_exit(run, 7)
