"""`profagent run` around hostile programs: whatever happens inside, every process's time is in a profile outside."""

import os
import signal
import subprocess
import time

from harness import Skip
from runner import each, test


def start(t, *argv, hz=250, output="out.pb.gz", options=(), env=None, **more):
    """profagent run --cpu=HZ -o OUTPUT -- argv: the command finds its library itself."""
    program = argv[0] if os.sep in str(argv[0]) else t.program(argv[0])
    return t.start(t.profagent, "run", "--cpu=%d" % hz, "-o", output, *options, "--", program, *argv[1:], agent=False, env=env, **more)


def run(t, *argv, **options):
    outcome = start(t, *argv, **options).finish()
    t.expect(not outcome.timed_out, "hangs", outcome)
    return outcome


def all_profiles(outcome):
    return {str(path.relative_to(outcome.directory)): outcome.profile(path.relative_to(outcome.directory))
            for path in sorted(outcome.directory.rglob("*.pb.gz*"))}


def work(outcome, function):
    """CPU seconds under the function in all CPU profiles together. Without --cpu, whether a heap profile lies beside them is
    drawn by lot: a small process is met by one sample in some runs only."""
    return sum(profile.cum(function, "cpu") for profile in all_profiles(outcome).values()
               if ("cpu", "nanoseconds") in profile.sample_types) / 1e9


@each(["as", "data", "prlimit"])
def limited_by_itself_when_run(t, way):
    # The ledger is a mapped file, which a fork inherits with its gap.
    outcome = run(t, "own_limits", way)
    t.expect_exit(outcome, 7)
    t.expect_near("CPU seconds of two processes", work(outcome, "limited_work"), 0.4, 0.1, outcome)


@test()
def raw_clone_limits_itself_when_run(t):
    outcome = run(t, "own_limits", "raw_clone")
    t.expect_exit(outcome, 7)
    t.expect_near("CPU seconds of the parent", work(outcome, "limited_work"), 0.2, 0.05, outcome)


@test()
def killed_program_leaves_its_samples(t):
    # kill -9, the OOM killer: nothing runs in the program any more, and the ledger file still has it all.
    outcome = run(t, "ends", "raise", int(signal.SIGKILL))
    t.expect_exit(outcome, 128 + signal.SIGKILL)
    t.expect_near("work_before_end", work(outcome, "work_before_end"), 0.3, 0.05, outcome)


@test()
def program_killed_in_the_middle_of_its_work(t):
    outcome = start(t, "ends", "wait")
    outcome.wait_for_output(b"ready")
    time.sleep(0.3)
    children = subprocess.run(["pgrep", "-P", str(outcome.pid)], capture_output=True, text=True, check=False).stdout.split()
    t.expect(len(children) == 1, "profagent run has children %s" % children)
    os.kill(int(children[0]), signal.SIGKILL)
    outcome = outcome.finish()
    t.expect_exit(outcome, 137)
    t.expect(work(outcome, "work_before_end") > 0.3, "the samples are lost", outcome)


@test()
def stack_overflow_keeps_its_samples(t):
    # No handler can run any more; the ledger file has it.
    outcome = run(t, "ends", "stack_overflow")
    t.expect_exit(outcome, 128 + signal.SIGSEGV)
    t.expect(work(outcome, "work_before_end") > 0.25, "the samples are lost", outcome)


@each([("return", 7), ("_exit", 7), ("quick_exit", 7), ("pthread_exit", 7), ("abort", 134), ("segv", 139), ("thread_segv", 139)])
def exit_status_is_the_program_s(t, how, status):
    outcome = run(t, "ends", how)
    t.expect_exit(outcome, status)
    t.expect_near("work_before_end", work(outcome, "work_before_end"), 0.3, 0.05, outcome)


@test()
def death_by_a_signal_without_a_name_is_said(t):
    # libc has no name for a real-time signal: run itself died of the null pointer, and the profiles with it.
    outcome = run(t, "ends", "raise", signal.SIGRTMIN + 6)
    t.expect_exit(outcome, 128 + signal.SIGRTMIN + 6)
    t.expect(b"was killed by SIGRTMIN+6; its profiles" in outcome.err, "the signal is not named", outcome)
    t.expect_near("work_before_end", work(outcome, "work_before_end"), 0.3, 0.05, outcome)


@each(["unlimited", "0"])
def core_dump_is_said(t, size):
    outcome = run(t, "/bin/sh", "-c", "ulimit -c %s; kill -SEGV $$" % size)
    t.expect_exit(outcome, 128 + signal.SIGSEGV)
    with open("/proc/sys/kernel/core_pattern") as pattern:
        if pattern.read().startswith("|"):
            raise Skip("a program takes the cores here, also those of size 0")
    words = b"killed by SIGSEGV (core dumped);" if size == "unlimited" else b"killed by SIGSEGV;"
    t.expect(words in outcome.err, "core dump of size %s" % size, outcome)


@test()
def death_of_a_program_without_records_is_said(t):
    # Of its own child a shell would have said it; of profagent's it sees the exit status only.
    outcome = run(t, "/bin/sh", "-c", "ulimit -S -t 1; exec %s 10000" % t.program("worker_static"))
    t.expect_exit(outcome, 128 + signal.SIGXCPU)
    t.expect(b"profagent: /bin/sh was killed by SIGXCPU\n" in outcome.err, "nobody says so", outcome)


@each(["SIGTERM", "SIGINT", "SIGHUP"])
def signals_are_passed_on(t, name):
    # `kill PID-OF-RUN` means the program, not the profiler.
    number = getattr(signal, name)
    outcome = start(t, "ends", "wait")
    outcome.wait_for_output(b"ready")
    outcome.signal(number)
    outcome = outcome.finish()
    t.expect_exit(outcome, 128 + number)
    t.expect(work(outcome, "work_before_end") > 0.25, "the samples are lost", outcome)


@test()
def every_process_of_the_tree_is_harvested(t):
    outcome = run(t, "fork_child", "grandchild")
    t.expect_exit(outcome)
    for function, seconds in ("parent_work", 0.4), ("child_work", 0.2), ("grandchild_work", 0.2):
        t.expect_near(function, work(outcome, function), seconds, 0.05, outcome)
    t.expect(len(all_profiles(outcome)) == 3, "profiles: %s" % sorted(all_profiles(outcome)), outcome)


@test()
def tree_is_merged(t):
    outcome = run(t, "fork_child", "many", 5, options=["--merge"])
    t.expect_exit(outcome)
    profiles = all_profiles(outcome)
    t.expect(list(profiles) == ["out.pb.gz"], "profiles: %s" % sorted(profiles), outcome)
    t.expect_near("child_work", work(outcome, "child_work"), 0.25, 0.06, outcome)
    t.expect_near("parent_work", work(outcome, "parent_work"), 0.3, 0.05, outcome)


@test()
def exec_chain_is_harvested(t):
    outcome = run(t, "/bin/sh", "-c", "exec %s execv %s 300 7" % (t.program("exec_ways"), t.program("worker")))
    t.expect_exit(outcome, 7)
    t.expect_near("work_before_exec", work(outcome, "work_before_exec"), 0.2, 0.05, outcome)
    t.expect_near("app_work", work(outcome, "app_work"), 0.3, 0.05, outcome)


@test()
def chroot_and_dropped_rights_lose_nothing(t):
    t.need_root()
    for how in "chroot", "drop_root", "closefrom", "removed_directory":
        outcome = run(t, "closes", how, cwd=t.new_dir("run_" + how))
        t.expect_exit(outcome, 7)
        t.expect_near("work_after_close", work(outcome, "work_after_close"), 0.3, 0.05, outcome)


@each([("exec", "app_work", 0.3), ("fork", "work_after_close", 0.3)])
def program_that_becomes_another_user_is_recorded(t, how, work_name, seconds):
    # Entry points of containers (gosu, su-exec, setpriv), su, and daemons that fork after they have dropped their rights. Their
    # profiles are written by us, where the program itself might not write.
    t.need_root()
    command = {"exec": [t.need("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups", t.program("worker"), 300, 7],
               "fork": [t.program("closes"), "drop_root_and_fork"]}[how]
    outcome = run(t, *command, cwd=t.new_dir("run_" + how))
    t.expect_exit(outcome, 7)
    t.expect_near(work_name, work(outcome, work_name), seconds, 0.05, outcome)
    t.expect(b"in memory" not in outcome.err, "records were not kept for the run", outcome)


@test()
def children_forked_in_a_chroot_are_told_of(t):
    # lighttpd's workers: they find no way to the records, and were in no profile without a word.
    t.need_root()
    outcome = run(t, "closes", "chroot_and_fork", cwd=t.new_dir("run_chroot"))
    t.expect_exit(outcome, 7)
    t.expect(b": 1 child is in no profile: a chroot hides" in outcome.err, "not said", outcome)
    hidden = [comment for profile in all_profiles(outcome).values() for comment in profile.comments if "children_hidden=1 (" in comment]
    t.expect(hidden, "not in the comments", outcome)


@test()
def fork_storm_with_ledgers(t):
    # A ledger file a child: creating it must neither be slow nor fill the disk with 256 MiB files.
    outcome = run(t, "fork_storm", 1024, 20, hz=1000, timeout=120)
    t.expect_exit(outcome)
    t.expect_near("work_between_forks", work(outcome, "work_between_forks"), 0.1, 0.06, outcome)  # 25 signals: 3 x 20 %


@test()
def terminal_and_input_are_the_program_s(t):
    # Output and stderr of the program pass through byte for byte; the table comes after, on stderr.
    reader = t.dir / "input"
    reader.write_bytes(b"line\n" * 3)
    with open(reader, "rb") as stdin:
        outcome = start(t, "/bin/sh", "-c", "wc -l; echo err >&2; printf '\\0x'", options=["-q"], stdin=stdin).finish()
    t.expect_exit(outcome)
    t.expect(outcome.out == b"3\n\0x", "stdout: %r" % outcome.out, outcome)
    t.expect(outcome.err == b"err\n", "stderr: %r" % outcome.err, outcome)


@each([(16, "worker", 300), (64, "worker", 300), (1500, "many_stacks", 1500)])
def file_system_of_the_ledger_is_full(t, kilobytes, program, millis):
    # Touching a page that tmpfs cannot give is SIGBUS. Space is reserved first; without it the samples are kept in plain
    # memory, or dropped and counted.
    t.need_root()
    script = ("mount -t tmpfs -o size=%dk tmpfs runtime || exit 88; dd if=/dev/zero of=runtime/filler bs=1k count=%d 2>/dev/null; "
              "XDG_RUNTIME_DIR=$PWD/runtime %s run --cpu=1000 -o out.pb.gz -- %s %d 7; echo status $?")
    t.new_dir("runtime")
    outcome = t.run(t.need("unshare"), "--mount", "sh", "-c",
                    script % (kilobytes, 8 if kilobytes < 1000 else 0, t.profagent, t.program(program), millis), agent=False,
                    env={"PROFAGENT_MAXDEPTH": 1024})
    if outcome.status == 88:
        raise Skip("cannot mount here")
    t.expect((b"status 7" if program == "worker" else b"status 0") in outcome.out, "the program ends otherwise", outcome)
    profiles = all_profiles(outcome)
    t.expect(profiles, "no profile", outcome)
    ticks = sum(p.ticks() for p in profiles.values())
    lost = sum(count for p in profiles.values() for name, count in p.losses().items() if name.startswith("samples_"))
    t.note("%d ticks kept, %d lost" % (ticks, lost))
    t.expect_near("ticks kept and lost", ticks + lost, millis, 0.15 * millis, outcome)


@test()
def nothing_is_left_behind(t):
    # The ledger directory is temporary: on /dev/shm it would eat memory for ever.
    runtime = t.new_dir("runtime")
    for how in ("many", "5"), ("abort",):
        outcome = run(t, "fork_child", *how, env={"XDG_RUNTIME_DIR": runtime})
        t.expect_exit(outcome)
        t.expect(os.listdir(runtime) == [], "left: %s" % os.listdir(runtime), outcome)


@test()
def command_that_does_not_exist(t):
    for program, status, words in (("/nonexistent/program", 127, "command not found"), ("/etc/passwd", 126, "ermission denied"),
                                   ("/", 126, "it is a directory")):
        outcome = t.run(t.profagent, "run", "--", program, agent=False)
        t.expect_exit(outcome, status)
        t.expect_one_error_line(outcome, program, words)


@test()
def profile_has_files_lines_and_inlines(t):
    outcome = run(t, "worker", 300)
    t.expect_exit(outcome)
    profile = outcome.profile("out.pb.gz")
    program = next(iter(profile.mappings.values()))
    t.expect(program.has_functions, "no functions: %s" % (program,), outcome)
    t.expect_pprof_agrees(t.dir / "out.pb.gz")
    t.expect(b"app_work" in outcome.out + outcome.err, "the table does not show app_work", outcome)
