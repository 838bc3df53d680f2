"""Threads: every one is timed, however it was made, for as long as it lives."""

import re

from runner import each, test


@test()
def five_hundred_threads_that_come_and_go(t):
    # Short threads are where first expiries at the end of the period lose everything, and where timers leak.
    run = t.run("threads", "come_and_go", hz=250)
    t.expect_exit(run)
    t.expect_silent(run)
    # A thread of 4 ms and a period of 4 ms: the kernel's tick finds half of them at work, the rest must be settled when the
    # thread ends. Of 500 uniformly random first expiries the sum has a standard error of sqrt(500)/2 = 11 ticks.
    t.expect_near("CPU seconds in the profile", run.profile().cpu_seconds(), run.cpu_seconds,
                  0.05 * run.cpu_seconds + 3 * 11 * 0.004, run)


@test()
def short_threads_that_are_cancelled(t):
    # They end without returning; what their timers owe is settled all the same.
    run = t.run("threads", "come_and_are_cancelled", hz=250)
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect_near("CPU seconds in the profile", run.profile().cpu_seconds(), run.cpu_seconds,
                  0.05 * run.cpu_seconds + 3 * 8 * 0.004, run)


@test()
def detached_threads(t):
    run = t.run("threads", "detached", hz=250)
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect_work(run, "main_work", 0.6)
    t.expect_near("CPU seconds in the profile", run.profile().cpu_seconds(), run.cpu_seconds,
                  0.05 * run.cpu_seconds + 3 * 5 * 0.004, run)


@each([("timer", 250), ("timer", 1000), ("perf", 1000)])
def dump_in_the_middle_holds_what_was_spent(t, engine, hz):
    # What the kernel's ticks had not met yet came in a later dump only: a third of the time of 40 threads of 12 ms.
    run = t.run("threads", "dumped", hz=hz, env={"PROFAGENT_CPU_ENGINE": engine, "PROFAGENT_VERBOSE": 0})
    t.expect_exit(run)
    spent = int(run.out) / 1e6
    for name in "cpu.prof.1", "cpu.prof":  # the dump, and the end: nothing is in there twice
        t.expect_near("CPU seconds in %s" % name, run.profile(name).cpu_seconds(), spent, 0.05 * spent + 3 * 3 / hz, run)


@each([("executed", "preloaded"), ("executed", "run"), ("daemon", "preloaded"), ("daemon", "run")])
def what_threads_owe_is_settled_before_the_process_goes(t, how, started):
    # Lost was all that no tick had met: 10 to 40 of 270 ms of nine threads at an exec, up to 50 of 50 ms of a process that
    # became a daemon. /bin/true takes a millisecond.
    if started == "run":
        run = t.run(t.profagent, "run", "-q", "--cpu=1000", "-o", "cpu.prof", "--", t.program("threads"), how, agent=False)
    else:
        run = t.run("threads", how, hz=1000, env={"PROFAGENT_VERBOSE": 0})
    t.expect_exit(run)
    spent = int(run.out) / 1e6
    found = sum(run.profile(name).cpu_seconds() for name in run.profiles())
    t.expect_near("CPU seconds in %s" % run.profiles(), found, spent, 0.05 * spent + 3 * 3 / 1000, run)



@test()
def threads_of_a_timer(t):
    # SIGEV_THREAD: libc makes them past pthread_create, and all of their time was missing.
    run = t.run("threads", "notified", hz=250)
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect_work(run, "thread_work", 0.1)
    t.expect_near("CPU seconds in the profile", run.profile().cpu_seconds(), run.cpu_seconds, 0.05 * run.cpu_seconds + 14 * 0.004, run)


@test()
def threads_with_the_smallest_stack(t):
    # 16 KiB, of which thread-local storage is taken: ours must fit beside the program's frames and the signal frame.
    run = t.run("threads", "small_stacks", hz=1000)
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect_work(run, "Deep", 0.5)


@test()
def threads_on_stacks_of_the_program(t):
    # The page behind the stack is unreadable: a walk that reads one word too far is a crash.
    run = t.run("threads", "own_stack", hz=1000)
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect_work(run, "thread_work", 0.3)


@each(["blocked", "blocked_before_start"])
def thread_that_blocks_all_signals(t, how):
    # Common in servers with a signal thread. Its ticks would be merged into one pending signal.
    run = t.run("threads", how, hz=250)
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect_work(run, "thread_work", 0.3)


@test()
def samples_carry_the_name_of_their_thread(t):
    run = t.run("threads", "named", hz=250)
    t.expect_exit(run)
    labels = run.profile().by_label("thread", "cpu")
    t.note(dict(labels))
    t.expect(set(labels) <= {"alpha", "beta gamma", "threads"}, "labels: %s" % dict(labels), run)
    for name in "alpha", "beta gamma", "threads":
        t.expect_near("CPU seconds of thread %s" % name, labels[name] / 1e9, 0.2, 0.05, run)


@test()
def name_given_by_another_thread(t):
    run = t.run("threads", "named_by_another", hz=250)
    t.expect_exit(run)
    labels = run.profile().by_label("thread", "cpu")
    t.expect(labels["renamed"] > 0.2e9, "labels: %s" % dict(labels), run)


@each(["cancelled", "cancelled_asynchronously"])
def cancelled_threads(t, how):
    # Cancellation unwinds the stack from a signal handler, perhaps in the middle of ours.
    run = t.run("threads", how, hz=1000)
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect(run.profile().cum("cancelled_work") > 0, "nothing was recorded", run)


@test()
def thread_local_destructors_are_profiled(t):
    run = t.run("threads", "destructor", hz=250)
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect_work(run, "destructor_work", 0.2)


@test()
def thread_made_by_raw_clone(t):
    # It shares the thread pointer of the thread that made it: a handler that believes it writes into that thread's
    # state. The program must be right; its time counts where the thread can be found.
    run = t.run("threads", "raw_clone", hz=1000)
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect_work(run, "main_work", 0.3)


@each([0, 300, 5400])
def threads_that_nobody_saw_are_told_of(t, main_millis):
    # The time of a thread past pthread_create was missing without a word, and `run` looked for programs without the agent.
    # Later a tenth of the process' time was missing still.
    run = t.run("threads", "from_dlsym", main_millis, hz=100)
    t.expect_exit(run)
    t.expect_silent(run)
    if main_millis == 0:  # 0.6 s of it; what the start and the end of the process take may have a sample or none
        losses = run.profile().losses() if run.profiles() else {"periods_not_seen": 60}
        outcome = t.run(t.profagent, "run", "--cpu=100", "--", t.program("threads"), "from_dlsym", 0, agent=False)
        t.expect(re.search(rb" of CPU time is in no profile: it was spent in threads", outcome.err), "not said", outcome)
    else:
        losses = run.profile().losses()
        t.expect_work(run, "main_work", main_millis / 1000)
    t.expect(55 <= losses.get("periods_not_seen", 0) <= 66, "%s" % losses, run)
    seen = t.run("threads", "come_and_go", hz=100)
    t.expect("periods_not_seen" not in seen.profile().losses(), "of threads that were seen", seen)


@test()
def thread_that_is_found_has_a_small_alternate_stack(t):
    # Ticks came to it from when the thread was found, and found no room there: SIGSEGV.
    run = t.run("threads", "from_dlsym", hz=250)
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect_work(run, "thread_work", 1.5)


@test()
def threads_fork_while_others_work(t):
    # A lock of ours that another thread holds at fork is held in the child for ever.
    run = t.run("threads", "forks", hz=1000)
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect_work(run, "thread_work", 0.8)


@test()
def refused_thread_is_refused(t):
    run = t.run("threads", "error", hz=250)
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect_work(run, "main_work", 0.3)


@each([("first", "early"), ("last", "early"), ("last", "earliest")])
def thread_started_before_the_agent(t, order, name):
    # Of the preloaded libraries with DF_1_INITFIRST the loader calls the last one's constructor first.
    early = t.program("lib%s.so" % name)
    libraries = [str(early), str(t.agent)] if order == "first" else [str(t.agent), str(early)]
    run = t.run("worker", 400, 7, hz=250, env={"LD_PRELOAD": ":".join(libraries)})
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect_work(run, "app_work", 0.4)
    t.expect_work(run, "early_thread_work", 0.4, tolerance=0.2)
