"""`profagent run` as a command: signals, files, errors, and the installed one. (run_tests.py has what happens to the
programs inside.)"""

import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

from harness import PATH, Skip
from run_tests import all_profiles, run, start, work
from runner import each, test


@each(["SIGUSR1", "SIGALRM", "SIGQUIT"])
def other_signals_are_passed_on(t, name):
    outcome = start(t, "ends", "wait")
    outcome.wait_for_output(b"ready")
    outcome.signal(getattr(signal, name))
    t.expect_exit(outcome.finish(), 128 + getattr(signal, name))


@test()
def alarm_that_was_set_before_ends_the_program(t):
    # perl -e 'alarm 9; exec @ARGV' PROGRAM: a timeout that lasts across exec, and not across fork.
    command = [t.profagent, "run", "-q", "-o", t.dir / "x.prof", "--", t.program("ends"), "wait"]
    ended = subprocess.run(command, capture_output=True, check=False, timeout=20, preexec_fn=lambda: signal.alarm(1))
    t.expect(ended.returncode == 128 + signal.SIGALRM, "%d instead of 142" % ended.returncode)


@test()
def signal_is_passed_on_once(t):
    # SIGHUP means "read your configuration": twice would be wrong, and so would be none.
    program = ("trap 'echo hup' HUP; trap 'echo done; exit 5' TERM; echo ready; while :; do sleep 0.01; done")
    outcome = start(t, "/bin/sh", "-c", program)
    outcome.wait_for_output(b"ready")
    outcome.signal(signal.SIGHUP)
    outcome.wait_for_output(b"hup")
    outcome.signal(signal.SIGTERM)
    outcome = outcome.finish()
    t.expect_exit(outcome, 5)
    t.expect(outcome.out == b"ready\nhup\ndone\n", "expected one hup", outcome)


@test()
def signal_of_the_program_to_its_group_is_not_doubled(t):
    program = "trap 'echo usr' USR1; kill -USR1 0; sleep 0.05; exit 3"
    outcome = start(t, "/bin/sh", "-c", program).finish()
    t.expect_exit(outcome, 3)
    t.expect(outcome.out == b"usr\n", "expected one usr", outcome)


@test()
def signal_mask_and_ignored_signals_are_the_callers(t):
    # nohup profagent run app: SIGHUP must still be ignored. And nothing that run holds back for itself may stay blocked.
    show = [t.need("grep"), "-E", "^Sig(Blk|Ign)", "/proc/self/status"]
    for prefix in [], ["nohup"], [t.need("python3"), "-c", "import signal, os, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
                                  "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); os.execvp(sys.argv[1], sys.argv[1:])"]:
        plain = t.run("/usr/bin/env", *prefix, *show, agent=False)
        profiled = t.run("/usr/bin/env", *prefix, t.profagent, "run", "-q", "-o", "x.pb.gz", "--", *show, agent=False)
        t.expect_exit(profiled, 0)
        t.expect(plain.out == profiled.out, "masks differ: %s" % plain.out.decode(), profiled)


@test()
def ignored_sigchld_does_not_hide_the_exit_status(t):
    outcome = t.run(t.need("python3"), "-c", "import signal, os, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
                    "os.execv(sys.argv[1], sys.argv[1:])", t.profagent, "run", "-q", "--", "/bin/sh", "-c", "exit 9", agent=False)
    t.expect_exit(outcome, 9)


@test()
def standard_streams_are_the_callers(t):
    outcome = t.run("/bin/sh", "-c", "echo input | %s run -q -- sh -c 'cat; echo error >&2'" % t.profagent, agent=False)
    t.expect_exit(outcome, 0)
    t.expect(outcome.out == b"input\n" and outcome.err == b"error\n", "streams differ", outcome)


@test()
def report_waits_for_a_slow_reader_of_a_stream_that_does_not_block(t):
    # Node makes its standard error so, which is ours: what did not fit into the pipe any more was lost.
    (t.dir / "fill.py").write_text("import os\nos.set_blocking(2, False)\ntry:\n  while True: os.write(2, b'x')\n"
                                   "except BlockingIOError: pass\n")
    outcome = t.run("/bin/sh", "-c", "%s run --cpu -o x.prof -- %s fill.py 2>&1 | (sleep 1; cat)" % (t.profagent, sys.executable),
                    agent=False)
    t.expect(b"profagent: wrote x.prof" in outcome.out, "no report", outcome)


@test()
def closed_streams_stay_closed(t):
    # A daemon's supervisor may start us without any. Our own files must not take their numbers.
    show = "exec %s run -o x.pb.gz -- /bin/sh -c 'ls -l /proc/self/fd >%s' 0<&- 1>&- 2>&-" % (t.profagent, t.dir / "fds")
    t.expect_exit(t.run("/bin/sh", "-c", show, agent=False), 0)
    plain = t.run("/bin/sh", "-c", "exec /bin/sh -c 'ls -l /proc/self/fd >%s' 0<&- 1>&- 2>&-" % (t.dir / "plain"), agent=False)
    t.expect_exit(plain, 0)

    def numbers(name):
        return re.findall(r" (\d+) -> ", (t.dir / name).read_text())

    t.expect(numbers("fds") == numbers("plain"), "descriptors %s, without us %s" % (numbers("fds"), numbers("plain")))
    t.expect((t.dir / "x.pb.gz").exists(), "no profile")


@test()
def no_descriptor_of_ours_reaches_the_program(t):
    outcome = t.run(t.profagent, "run", "-q", "-o", "x.pb.gz", "--", "/bin/ls", "/proc/self/fd", agent=False)
    plain = t.run("/bin/ls", "/proc/self/fd", agent=False)
    t.expect(outcome.out == plain.out, "without us: %s" % plain.out, outcome)


@test()
def unwritable_place_is_said_before_the_program_starts(t):
    # Not after an hour of work.
    marker = t.dir / "started"
    for place, word in ("/proc/x.prof", "/proc"), ("missing/x.prof", "missing"), ("file/x.prof", "file"):
        (t.dir / "file").write_text("")
        outcome = t.run(t.profagent, "run", "-o", place, "--", "/bin/touch", marker, agent=False)
        t.expect_exit(outcome, 1)
        t.expect_one_error_line(outcome, word)
        t.expect(not marker.exists(), "the program was started", outcome)


@test()
def missing_agent_is_said_before_the_program_starts(t):
    marker = t.dir / "started"
    outcome = t.run(t.profagent, "run", "--", "/bin/touch", marker, agent=False, env={"PROFAGENT_LIBRARY": "/nonexistent.so"})
    t.expect_exit(outcome, 1)
    t.expect_one_error_line(outcome, "PROFAGENT_LIBRARY=/nonexistent.so")
    t.expect(not marker.exists(), "the program was started", outcome)


@test()
def command_not_found_and_not_executable(t):
    text = t.dir / "text"
    text.write_text("x")
    for command, status in ("no-such-command-here", 127), ("/nonexistent/x", 127), (text, 126), ("/", 126):
        outcome = t.run(t.profagent, "run", "--", command, agent=False)
        t.expect_exit(outcome, status)
        t.expect_one_error_line(outcome, command)
    t.expect(not (t.dir / "cpu.prof").exists(), "a profile of nothing")


@test()
def wrong_command_lines_are_named(t):
    for options, word in ([], "no command"), (["--cpu=0", "--", "true"], "0"), (["--cpu=abc", "--", "true"], "abc"), \
            (["--cpu=10001", "--", "true"], "10001"), (["--heap=0", "--", "true"], "--heap"), (["--block=5ms", "--", "true"], "5ms"), \
            (["--mutex=99999999999999999999", "--", "true"], "--mutex"), (["--frobnicate", "--", "true"], "--frobnicate"), (["--top=-1", "true"], "--top"):
        outcome = t.run(t.profagent, "run", *options, agent=False)
        t.expect_exit(outcome, 2)
        t.expect(outcome.err.startswith(b"profagent: ") and word.encode() in outcome.err, "expected %r" % word, outcome)


@test()
def command_keeps_its_own_options(t):
    for separator in [], ["--"]:
        outcome = t.run(t.profagent, "run", "-q", "--cpu", "--heap", "65536", *separator, "/bin/echo", "--cpu", "-o", "x", "--", "y", agent=False)
        t.expect_exit(outcome, 0)
        t.expect(outcome.out == b"--cpu -o x -- y\n", "the command's options were taken", outcome)


@test()
def short_options_in_one_word_keep_their_value(t):
    for options in ["-qo", "x.prof"], ["-qox.prof"], ["-qo", "x.prof", "--"], ["-qox.prof", "--"]:
        outcome = t.run(t.profagent, "run", "--cpu", *options, "/bin/echo", "-qo", "y", agent=False)
        t.expect_exit(outcome, 0)
        t.expect(outcome.out == b"-qo y\n", "the command was not found", outcome)
        t.expect((t.dir / "x.prof").exists(), "the profile has another name", outcome)
        (t.dir / "x.prof").unlink()


@test()
def script_without_a_first_line_runs(t):
    script = t.dir / "script"
    script.write_text("exit 4\n")
    script.chmod(0o755)
    t.expect_exit(t.run(t.profagent, "run", "-q", "--", script, agent=False), 4)


@test()
def static_program_runs_all_the_same(t):
    outcome = run(t, "worker_static", 50, 7)
    t.expect_exit(outcome, 7)
    t.expect_one_error_line(outcome, "worker_static", "statically linked")
    t.expect(not all_profiles(outcome), "a profile out of nothing", outcome)


@test()
def profile_names_follow_the_rules(t):
    outcome = run(t, "/bin/sh", "-c", "%s 100; %s 100; exec %s 100" % ((t.program("worker"),) * 3), output="named/")
    t.expect_exit(outcome)
    # (The shell gets a profile too when a tick hits it.)
    names = sorted(path.name for path in (t.dir / "named").iterdir() if ".dash." not in path.name)
    t.expect("cpu.prof" in names and len(names) == 3, "names: %s" % names, outcome)
    for name in names:
        t.expect(re.fullmatch(r"cpu\.prof(\.worker\.\d+)?", name) is not None, "name %s" % name, outcome)
        t.expect_near(name, outcome.profile("named/" + name).cum("app_work", "cpu") / 1e9, 0.1, 0.03)
    modes = {oct((t.dir / "named" / name).stat().st_mode & 0o777) for name in names}
    t.expect(modes == {"0o600"}, "modes: %s" % modes)


@test()
def names_of_programs_do_not_drive_the_terminal(t):
    odd = t.dir / "red\033[31m\nprofagent: wrote"
    shutil.copy(t.program("worker"), odd)
    outcome = run(t, "/bin/sh", "-c", "%s 100 & %s 100; wait" % ((shlex.quote(str(odd)),) * 2), output="named/")
    t.expect_exit(outcome)
    t.expect(b"\\x1b[31m\\x0aprofagent" in outcome.err, "the name is not shown", outcome)
    t.expect(b"\033" not in outcome.err, "the name is shown as it is", outcome)


@test()
def exec_leaves_the_plain_name_to_the_new_program(t):
    outcome = run(t, "exec_ways", "execv", t.program("worker"), 300, 7, output="x.pb.gz")
    t.expect_exit(outcome, 7)
    t.expect_near("app_work", outcome.profile("x.pb.gz").cum("app_work", "cpu") / 1e9, 0.3, 0.05, outcome)
    others = [p.name for p in t.dir.iterdir() if re.fullmatch(r"x\.pb\.gz\.exec_ways\.\d+", p.name)]
    t.expect(len(others) == 1, "others: %s" % others, outcome)
    t.expect_near("before", outcome.profile(others[0]).cum("work_before_exec", "cpu") / 1e9, 0.2, 0.05, outcome)


@test()
def quiet_says_nothing(t):
    t.expect_silent(run(t, "worker", 100, options=["-q"]))


@test()
def table_has_the_lines_that_were_asked_for(t):
    for lines in 0, 1, 3:
        outcome = run(t, "worker", 200, options=["--top", lines])
        rows = re.findall(rb"^ +[\d.]+m?s .*%  \S", outcome.err, re.M)
        t.expect(len(rows) <= lines and (lines == 0 or len(rows) >= 1), "%d rows for --top %d" % (len(rows), lines), outcome)


@test()
def daemon_is_not_waited_for(t):
    # What a daemon did so far is in its profile, and a line names it.
    program = "%s wait >%s & echo $! >%s; until grep -q ready %s; do sleep 0.01; done; exit 3"
    log, pid = t.dir / "log", t.dir / "pid"
    log.write_text("")
    outcome = run(t, "/bin/sh", "-c", program % (t.program("ends"), log, pid, log))
    t.expect_exit(outcome, 3)
    t.expect(b"still running: ends" in outcome.err, "the daemon is not named", outcome)
    t.expect(work(outcome, "work_before_end") > 0.25, "its samples are lost", outcome)
    os.kill(int(pid.read_text()), signal.SIGKILL)


@test()
def daemon_without_records_is_named(t):
    # One that was forked just before the command ended had not begun to record: not a word of it, nor of --wait.
    program = "unset LD_PRELOAD; sleep 60 >%s 2>&1 & echo $! >%s; until grep -q sleep /proc/$!/comm; do :; done"
    pid = t.dir / "pid"
    outcome = run(t, "/bin/sh", "-c", program % (os.devnull, pid))
    t.expect_exit(outcome, 0)
    t.expect(b"still running: sleep (pid %s); without records" % pid.read_bytes().strip() in outcome.err, "the daemon is not named", outcome)
    os.kill(int(pid.read_text()), signal.SIGKILL)


@each(["in a pid namespace", "not dumpable"])
def process_that_may_not_be_looked_at(t, which):
    # Of what ran as 1 in a pid namespace a user's run said that it is still running, for it may not look at the 1 outside, init;
    # of a daemon that is not dumpable, as ssh-agent, that it was killed.
    t.need_root()
    for path in t.profagent, t.agent, t.program("worker"):
        shutil.copy(path, t.dir)
    user = [t.need("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"]
    home = t.new_dir("home")
    os.chown(home, 65534, 65534)
    log, pid = home / "log", home / "pid"
    if which == "not dumpable":
        daemon = "import ctypes, time; ctypes.CDLL(None).prctl(4, 0); print(sum(range(3_000_000)), flush=True); time.sleep(60)"
        command = ["/bin/sh", "-c", "%s -c '%s' >%s & echo $! >%s; until grep -qs 4 %s; do sleep 0.01; done" %
                   (t.need("python3"), daemon, *(shlex.quote(str(path)) for path in (log, pid, log)))]
    else:
        command = [t.need("unshare"), "--user", "--map-root-user", "--pid", "--fork", t.dir / "worker", 200]
    outcome = t.run(*user, t.dir / "profagent", "run", "--cpu=250", "-o", home / "cpu.prof", "--", *command, agent=False,
                    env={"PROFAGENT_LIBRARY": t.dir / "libprofagent.so"})
    if pid.exists():
        os.kill(int(pid.read_text()), signal.SIGKILL)
    if b"unshare failed" in outcome.err:
        raise Skip("no user namespaces here")
    t.expect_exit(outcome)
    t.expect(b"was killed" not in outcome.err, "called dead", outcome)
    t.expect((b"still running: python3" in outcome.err) == (which == "not dumpable"), "which one is still running", outcome)
    t.expect((b"still running" in outcome.err) == (which == "not dumpable"), "which one is still running", outcome)


@test()
def wait_waits_for_everybody(t):
    outcome = run(t, "/bin/sh", "-c", "(%s 300 &) ; exit 3" % t.program("worker"), options=["--wait"])
    t.expect_exit(outcome, 3)
    t.expect_near("app_work", work(outcome, "app_work"), 0.3, 0.05, outcome)
    t.expect(b"still running" not in outcome.err, "did not wait", outcome)


@test()
def run_within_run(t):
    # Each has its own tree; the inner one's profile is of the inner command.
    outcome = run(t, t.profagent, "run", "-o", "inner.pb.gz", "--", t.program("worker"), 300, 7)
    t.expect_exit(outcome, 7)
    t.expect_near("app_work", outcome.profile("inner.pb.gz").cum("app_work", "cpu") / 1e9, 0.3, 0.05, outcome)


@test()
def library_of_a_path_that_LD_PRELOAD_cannot_carry(t):
    odd = t.new_dir("a directory: with $ORIGIN")
    shutil.copy(t.agent, odd)
    outcome = run(t, "worker", 200, env={"PROFAGENT_LIBRARY": odd / "libprofagent.so"})
    t.expect_exit(outcome)
    t.expect_near("app_work", work(outcome, "app_work"), 0.2, 0.05, outcome)


@test()
def preloaded_library_of_the_user_stays(t):
    outcome = run(t, "/bin/sh", "-c", "echo $LD_PRELOAD", env={"LD_PRELOAD": "/lib/x86_64-linux-gnu/libm.so.6"})
    t.expect(outcome.out.rstrip().endswith(b"libprofagent.so:/lib/x86_64-linux-gnu/libm.so.6"), "LD_PRELOAD changed", outcome)


@test()
def killed_run_leaves_records_that_the_next_run_names(t):
    place = t.new_dir("runtime")
    env = {"XDG_RUNTIME_DIR": place}
    first = start(t, "ends", "wait", env=env)
    first.wait_for_output(b"ready")
    child = int(subprocess.run(["pgrep", "-P", str(first.pid)], capture_output=True, text=True, check=False).stdout.split()[0])
    first.signal(signal.SIGKILL)
    first.finish()
    left = list(place.iterdir())
    mode = 0o711 if os.geteuid() == 0 else 0o700  # root's: what changes its user may come to what is in it, if it knows the name
    t.expect(len(left) == 1 and left[0].stat().st_mode & 0o777 == mode, "left: %s" % left)
    t.expect(os.path.exists("/proc/%d" % child), "the program died with its profiler")
    second = run(t, "worker", 50, env=env)
    t.expect(str(left[0]).encode() in second.err, "the next run does not name %s" % left[0], second)
    t.expect(left[0].exists(), "the records of a living process were removed", second)
    os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while os.path.exists("/proc/%d/maps" % child) and pathlib.Path("/proc/%d/maps" % child).read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    for directory in [left[0], *filter(pathlib.Path.is_dir, left[0].iterdir())]:
        os.utime(directory, (time.time() - 90000,) * 2)
    run(t, "worker", 50, env=env)
    t.expect(not left[0].exists(), "records of a day ago were not removed")


@test()
def program_whose_interpreter_is_missing(t):
    script = t.dir / "script"
    script.write_text("#!/nonexistent/interpreter\n")
    script.chmod(0o755)
    outcome = t.run(t.profagent, "run", "--", script, agent=False)
    t.expect_exit(outcome, 127)
    t.expect_one_error_line(outcome, script, "the interpreter or loader that it asks for is not there")


@test()
def failure_of_our_own_is_no_fault_of_the_command(t):
    # 126 would say that the command cannot be executed.
    outcome = t.run(t.need("prlimit"), "--nofile=5", t.profagent, "run", "--", "/bin/true", agent=False)
    t.expect_exit(outcome, 1)
    t.expect_one_error_line(outcome, "cannot make a pipe", "Too many open files")
    gone = t.new_dir("gone")
    outcome = t.run("/bin/sh", "-c", "rmdir %s; exec %s run -- true" % (gone, t.profagent), agent=False, cwd=gone)
    t.expect_exit(outcome, 1)
    t.expect_one_error_line(outcome, "the current directory", "No such file")


@test()
def names_that_nobody_meant_are_refused(t):
    # -o "$NAME" of a variable that is not set put the profiles into the current directory; --cpu="$HZ" took 100.
    for options, word in (["-o", ""], "--output"), (["--output="], "--output"), (["--cpu="], "--cpu"):
        outcome = t.run(t.profagent, "run", *options, "--", "/bin/true", agent=False)
        t.expect_exit(outcome, 2)
        t.expect(word.encode() in outcome.err and not outcome.profiles(), "expected %r" % word, outcome)
    for command, status in (["-top", ""], 2), (["symbolize", "", "-o", "x"], 1), (["symbolize", "x", "-o", ""], 1):
        outcome = t.run(t.profagent, *command, agent=False)
        t.expect_exit(outcome, status)
        t.expect(b"is empty" in outcome.err, "not said", outcome)


@test()
def long_but_legal_name_of_a_profile(t):
    # The temporary name beside it was longer, and the profile was lost at the end.
    outcome = run(t, "worker", 100, output="n" * 249 + ".pb.gz")
    t.expect_exit(outcome)
    t.expect_near("app_work", work(outcome, "app_work"), 0.1, 0.05, outcome)
    outcome = t.run(t.profagent, "run", "-o", "n" * 256, "--", "/bin/touch", t.dir / "started", agent=False)
    t.expect_exit(outcome, 1)
    t.expect_one_error_line(outcome, "File name too long")
    t.expect(not (t.dir / "started").exists(), "said too late", outcome)


@test()
def file_that_could_not_be_written_is_not_recommended(t):
    place = t.new_dir("runtime")
    outcome = run(t, "worker", 100, 7, output="/dev/full", env={"XDG_RUNTIME_DIR": place})
    t.expect_exit(outcome, 7)
    t.expect(b"/dev/full: cannot write: No space left" in outcome.err and b"the records are kept" in outcome.err, "not said", outcome)
    t.expect(b"wrote /dev/full" not in outcome.err and b"look further" not in outcome.err, "recommended", outcome)


@test()
def limit_of_file_size_is_an_error_as_any_other(t):
    # SIGXFSZ ended profagent in place of the command, whose messages went to a file, or left half a profile behind.
    place = t.new_dir("runtime")
    outcome = t.run(t.need("prlimit"), "--fsize=50", t.profagent, "run", "--", t.program("worker_static"), "50", "7", agent=False,
                    env={"XDG_RUNTIME_DIR": place})
    t.expect(outcome.signal == 0 and outcome.status == 7 and not os.listdir(place), "ended otherwise", outcome)
    run(t, "worker", 100, output="x.pb.gz")
    outcome = t.run(t.need("prlimit"), "--fsize=100", t.profagent, "symbolize", "x.pb.gz", "-o", "y.pb.gz", agent=False)
    t.expect_exit(outcome, 1)
    t.expect_one_error_line(outcome, "y.pb.gz", "File too large")
    t.expect(sorted(os.listdir(t.dir)) == ["runtime", "x.pb.gz"], "left: %s" % os.listdir(t.dir), outcome)


@test()
def reader_of_the_messages_may_leave(t):
    # profagent run ... 2>&1 | head -1: the command's exit status and its profiles were lost with it.
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen([t.profagent, "run", "--cpu", "-o", "x.pb.gz", "--", t.program("worker"), "100", "7"], cwd=t.dir, stderr=writing,
                               env=t.environment(agent=False))
    os.close(writing)
    t.expect(process.wait(60) == 7, "ends with %s" % process.returncode)
    t.expect((t.dir / "x.pb.gz").exists(), "no profile")


@each([["-top", "x"], ["--help"], ["--version"], ["run", "--help"], ["check", "/bin/true"]])
def output_that_goes_nowhere_is_a_failure(t, command):
    # As of any command: a script must not take an empty file for a report.
    run(t, "worker", 50, output="x")
    for target, reason in (">/dev/full", "No space left on device"), (">&-", "Bad file descriptor"):
        outcome = t.run("/bin/sh", "-c", 'exec "$0" "$@" ' + target, t.profagent, *command, agent=False)
        t.expect_exit(outcome, 1)
        t.expect_one_error_line(outcome, "cannot write to standard output", reason)


@test()
def profile_that_does_not_fit_into_memory_is_one_line(t):
    subprocess.run("head -c 300000000 /dev/zero | gzip -1 >large.pb.gz", shell=True, check=True, cwd=t.dir)
    outcome = t.run(t.need("prlimit"), "--as=100000000", t.profagent, "-top", "large.pb.gz", agent=False)
    t.expect_exit(outcome, 1)
    t.expect_one_error_line(outcome, "memory")


@test()
def number_that_is_none_is_named(t):
    outcome = t.run(t.profagent, "-nodecount=x", "y", agent=False)
    t.expect_exit(outcome, 2)
    t.expect(b'profagent: invalid value "x" for flag -nodecount: not a number\n' in outcome.err, "said otherwise", outcome)


@test()
def installed_command_finds_the_installed_library(t):
    # The first thing that a user does after `meson install`. DESTDIR and a tree that was moved must work alike.
    meson = shutil.which("meson", path=PATH) or shutil.which("meson")
    t.expect(meson is not None, "meson is gone")
    destination = t.dir / "destination"
    t.expect_exit(t.run(meson, "install", "-C", t.tools.build, "--no-rebuild", "--quiet", "--destdir", destination, agent=False, timeout=120))
    moved = t.dir / "moved"
    destination.rename(moved)
    commands = list(moved.rglob("bin/profagent"))
    libraries = list(moved.rglob("libprofagent.so"))
    pages = list(moved.rglob("man/man1/profagent.1*"))
    t.expect(len(commands) == len(libraries) == len(pages) == 1, "installed: %s" % [str(p) for p in moved.rglob("*")])
    outcome = t.run(commands[0], "run", "-o", "x.pb.gz", "--", "/bin/sh", "-c", "echo $LD_PRELOAD; exec %s 300 7" % t.program("worker"),
                    agent=False)
    t.expect_exit(outcome, 7)
    t.expect(outcome.out.strip() == str(libraries[0]).encode(), "another library than the installed one was used", outcome)
    t.expect_near("app_work", work(outcome, "app_work"), 0.3, 0.05, outcome)
