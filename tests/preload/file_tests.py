"""Bad input, full disks, closed descriptors: one clear line, never a failure of the program."""

import json
import os
import pathlib
import shutil
import stat
import sys

from harness import Skip
from runner import each, test


@each(["abc", "0", "-1", "10001", "99999999999999999999", "1.5", "100x", " 100", "100 "])
def bad_frequency_is_one_line(t, value):
    # The default is used, so that a typing error costs precision and not the profile.
    run = t.run("worker", 300, 7, env={"CPUPROFILE_FREQUENCY": value})
    t.expect_exit(run, 7)
    t.expect_one_error_line(run, "CPUPROFILE_FREQUENCY", value, "10000")
    t.expect_work(run, "app_work", 0.3, slack=0.05)
    t.expect(run.profile().period == 10000000, "the period is %d" % run.profile().period, run)


@each([1, 10, 250, 10000])
def frequencies_at_the_edges(t, hz):
    run = t.run("worker", 400, 7, hz=hz)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    profile = run.profile()
    t.expect(profile.period == 1000000000 // hz, "the period is %d" % profile.period, run)
    if hz >= 10:
        t.expect_work(run, "app_work", 0.4, slack=1.5 / hz)


@each([("PROFAGENT_MEMORY", "abc"), ("PROFAGENT_MEMORY", "-5"), ("PROFAGENT_MEMORY", "1"), ("PROFAGENT_MAXDEPTH", "0"),
       ("PROFAGENT_MAXDEPTH", "1025"), ("PROFAGENT_CHILDREN", "2"), ("PROFAGENT_CHILDREN", "yes"), ("PROFAGENT_VERBOSE", "9"),
       ("PROFAGENT_CPU_ENGINE", "sundial"), ("PROFAGENT_SIGNAL", "USR3"), ("PROFAGENT_CPU_SIGNAL", "KILL"),
       ("PROFAGENT_LOCK_LABELS", "yes"), ("MEMPROFILERATE", "512k"), ("BLOCKRATE", "10us"), ("MUTEXFRACTION", "1.5")])
def bad_value_is_one_line(t, name, value):
    run = t.run("worker", 300, 7, hz=100, env={name: value})
    t.expect_exit(run, 7)
    t.expect_one_error_line(run, name, value, "accepted", "using")
    t.expect_work(run, "app_work", 0.3, slack=0.05)


@each([("BLOCKRATE", "10us", "block.prof", "waits_for_the_lock", 10000), ("MUTEXFRACTION", "1.5", "mutex.prof", "lets_others_wait", 10)])
def bad_rate_costs_the_rate_and_not_the_profile(t, name, value, file, function, rate):
    # "using 10000", said the line, and there was no profile.
    run = t.run("keeps", "return", env={"CPUPROFILE": None, name: value})
    t.expect_exit(run, 7)
    t.expect_one_error_line(run, name, value, "using %d" % rate)
    t.expect(run.profiles() == [file], "files: %s" % run.profiles(), run)
    if name == "BLOCKRATE":  # one contention in ten is drawn
        t.expect(run.profile(file).cum(function, "delay") > 0, "the wait is not in it", run)


@each(["PROFAGENT_MEMORY", "CPUPROFILE"])
def control_characters_in_a_value_stay_out_of_the_line(t, name):
    # What is said about a value with a line break in it was two lines, and an escape sequence painted the terminal.
    run = t.run("worker", 100, 7, hz=100, env={name: "missing\n\x1b[31m/cpu.prof"})
    t.expect_exit(run, 7)
    t.expect_one_error_line(run, "?", "?[31m")
    t.expect(b"\x1b" not in run.err, "an escape sequence", run)


@test()
def agent_without_cpuprofile_is_silent(t):
    run = t.run("secure", env={"CPUPROFILE": None})
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect(b"timers 0" in run.out, "timers without being asked", run)
    t.expect(run.profiles() == [], "profiles: %s" % run.profiles(), run)


@test()
def static_program_runs(t):
    # Nothing is loaded into it; it must simply run.
    run = t.run("worker_static", 100, 7, hz=100)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect(run.profiles() == [], "profiles: %s" % run.profiles(), run)


@test()
def missing_directory(t):
    run = t.run("worker", 100, 7, hz=100, env={"CPUPROFILE": t.dir / "missing" / "cpu.prof"})
    t.expect_exit(run, 7)
    t.expect_one_error_line(run, t.dir / "missing", "No such file")


@test()
def directory_as_profile(t):
    t.new_dir("taken.prof")
    run = t.run("worker", 100, 7, hz=100, env={"CPUPROFILE": t.dir / "taken.prof"})
    t.expect_exit(run, 7)
    t.expect_one_error_line(run, t.dir / "taken.prof", "irectory")
    t.expect(sorted(os.listdir(t.dir)) == ["taken.prof"] and not os.listdir(t.dir / "taken.prof"), "files were left: %s" %
             os.listdir(t.dir), run)


@test()
def device_as_profile(t):
    # /dev/full and /dev/null are not replaced by a file: root's typing error must not destroy the device.
    for device in "/dev/full", "/dev/null":
        before = os.stat(device)
        run = t.run("worker", 100, 7, hz=100, env={"CPUPROFILE": device})
        after = os.stat(device)
        t.expect_exit(run, 7)
        t.expect(stat.S_ISCHR(after.st_mode) and after.st_rdev == before.st_rdev and after.st_mode == before.st_mode,
                 "%s was replaced" % device, run)
        leftovers = [name for name in os.listdir("/dev") if name.startswith("full.") or name.startswith("null.")]
        t.expect(not leftovers, "left in /dev: %s" % leftovers, run)
        if device == "/dev/full":
            t.expect_one_error_line(run, device)


@test()
def read_only_directory(t):
    t.need_root()
    target = t.new_dir("locked")
    os.chmod(target, 0o555)
    prefix = [t.need("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"]
    agent = t.dir / "libprofagent.so"
    shutil.copy(t.agent, agent)
    run = t.run(copy_program(t, "worker"), 100, 7, hz=100, prefix=prefix,
                env={"LD_PRELOAD": agent, "CPUPROFILE": target / "cpu.prof"})
    t.expect_exit(run, 7)
    t.expect_one_error_line(run, target, "ermission denied")


def copy_program(t, name):
    """For runs as another user, who may not be able to reach the build directory."""
    path = t.dir / name
    shutil.copy(t.program(name), path)
    os.chmod(path, 0o755)
    return path


@test()
def existing_file_is_replaced_whole(t):
    # A viewer that reads while we write must see the old profile or the new one.
    (t.dir / "cpu.prof").write_bytes(b"old" * 100000)
    before = os.stat(t.dir / "cpu.prof").st_ino
    run = t.run("worker", 200, 7, hz=250)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect_work(run, "app_work", 0.2)
    t.expect(os.stat(t.dir / "cpu.prof").st_ino != before, "the old file was written over in place", run)


@test()
def full_disk(t):
    # 64 KiB of tmpfs, all used: one line, and no half of a profile that a viewer stumbles over later.
    t.need_root()
    mount = t.new_dir("full")
    script = ("mount -t tmpfs -o size=64k tmpfs full && dd if=/dev/zero of=full/filler bs=4k count=32 2>/dev/null; "
              "env LD_PRELOAD=%s CPUPROFILE=%s/cpu.prof CPUPROFILE_FREQUENCY=250 %s 200 7; echo $?; ls -a full; umount full")
    run = t.run(t.need("unshare"), "--mount", "sh", "-c", script % (t.agent, mount, t.program("worker")), agent=False)
    if b"mount" in run.err:
        raise Skip("cannot mount here: %s" % run.err.decode())
    t.expect(run.out.split() == [b"7", b".", b"..", b"filler"], "status or files differ", run)
    t.expect_one_error_line(run, mount, "No space left")


@test()
def limit_of_file_size(t):
    # Writing past RLIMIT_FSIZE raises SIGXFSZ, which kills: our write must not.
    run = t.run("worker", 200, 7, hz=250, prefix=[t.need("prlimit"), "--fsize=400:400"])
    t.expect_exit(run, 7)
    t.expect_one_error_line(run, "cpu.prof", "too large")
    t.expect(run.profiles() == [], "half a profile was left: %s" % os.listdir(t.dir), run)


@each(["closefrom", "close_range", "close_each", "close_stderr", "dup_over_all"])
def program_closes_descriptors_that_it_does_not_know(t, how):
    # Daemons close everything. A descriptor of ours would be closed with them, or worse: be one of the program's by then.
    run = t.run("closes", how, hz=250)
    t.expect_exit(run, 7)
    t.expect_work(run, "work_after_close", 0.3 if how != "dup_over_all" else 0.35)


@test()
def thread_writes_to_a_closed_stderr(t):
    # The number is free, and the next file has it: a profile must not.
    run = t.run("closes", "write_to_closed", hz=250)
    t.expect_exit(run, 7)
    for path in t.dir.glob("cpu.prof*"):
        t.expect(b"not a profile" not in path.read_bytes(), "the program wrote into %s" % path, run)
    t.expect_work(run, "work_after_close", 0.3)


@test()
def stderr_is_somebody_elses_file(t):
    # Descriptor 2 was closed and is a data file now: an error line of ours would corrupt it.
    run = t.run("closes", "reuse_stderr", t.dir / "data", hz=250)
    t.expect_exit(run, 7)
    t.expect((t.dir / "data").read_bytes() == b"", "wrote into the program's file", run)
    t.expect_work(run, "work_after_close", 0.3)


@each(["reuse_stderr", "append_to_data"])
def line_of_ours_in_a_data_file_at_descriptor_2(t, how):
    # The same, when there is something to say: our line stood in the program's journal.
    run = t.run("closes", how, t.dir / "data", hz=250, env={"PROFAGENT_VERBOSE": 2})
    t.expect_exit(run, 7)
    t.expect((t.dir / "data").read_bytes() == b"", "wrote into the program's file", run)
    t.expect_work(run, "work_after_close", 0.3)


@test()
def log_file_of_a_daemon_gets_our_lines(t):
    run = t.run("closes", "append_to_log", t.dir / "log", hz=250, env={"PROFAGENT_VERBOSE": 1})
    t.expect_exit(run, 7)
    t.expect(b"profagent: wrote a CPU profile" in (t.dir / "log").read_bytes(), "no line in the log", run)


@each(["reader_left", "reader_sleeps", "file_limit"])
def line_of_ours_kills_or_stops_the_program(t, kind):
    # `program 2>&1 | head`: SIGPIPE, SIGXFSZ, or a write that never ends, for a line that the program did not write.
    run = t.run("closes", "begin_with", kind, hz=250, timeout=20,
                env={"PROFAGENT_VERBOSE": 2, "CPUPROFILE": t.dir / "missing" / "cpu.prof"})
    t.expect_exit(run, 7)


@each([3, 0])
def no_free_descriptor(t, limit):
    # RLIMIT_NOFILE is used up: the file cannot be opened. One line; the program's status stands. (0: poll took no descriptor any
    # more, and there was no line.)
    run = t.run("closes", "no_free_descriptor", limit, hz=250)
    t.expect_exit(run, 7)
    if not run.profiles():
        t.expect_one_error_line(run, "cpu.prof", "oo many open files")


@test()
def descriptors_are_used_up_at_the_end(t):
    # A server that leaks descriptors had no profile: 1024 is its soft limit only, and at its end that may be passed.
    run = t.run("closes", "descriptors_used_up", hz=250)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect_work(run, "work_after_close", 0.3)


@each(["chdir", "removed_directory", "umask"])
def relative_name_is_kept_from_the_start(t, how):
    # `CPUPROFILE=cpu.prof`, and the daemon goes to /: the file belongs where the user was.
    run = t.run("closes", how, hz=250, env={"CPUPROFILE": "cpu.prof"})
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect_work(run, "work_after_close", 0.3)
    t.expect(stat.S_IMODE(os.stat(t.dir / "cpu.prof").st_mode) == 0o600, "mode", run)


@test()
def relative_name_of_a_child_of_a_program_that_went_elsewhere(t):
    # A daemon goes to / and forks, postgres to its database: the files of the children belong where the user was, too.
    run = t.run("closes", "chdir_and_fork", hz=250, env={"CPUPROFILE": "cpu.prof"})
    t.expect_exit(run, 7)
    t.expect_silent(run)
    children = [name for name in run.profiles() if name.startswith("cpu.prof.closes.")]
    t.expect(len(children) == 1, "one child's profile beside the plain one, not %s" % run.profiles(), run)


@each(["chroot", "drop_root"])
def program_loses_access_to_the_file(t, how):
    # chroot, setuid: what cannot be written is said; the program ends as it would.
    t.need_root()
    os.chmod(t.dir, 0o700)
    run = t.run("closes", how, hz=250)
    t.expect_exit(run, 7)
    if run.profiles():
        t.expect_work(run, "work_after_close", 0.3)
    else:
        t.expect_one_error_line(run, "cpu.prof")


@test()
def setuid_program_is_left_alone(t):
    # ld.so drops preloads with a slash for setuid programs; the program runs with nothing of ours in it.
    t.need_root()
    program = copy_program(t, "secure")
    os.chown(program, 1, 1)
    os.chmod(program, 0o4755)
    os.chmod(t.dir, 0o777)
    run = t.run(program, hz=250, prefix=[t.need("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"])
    t.expect_exit(run)
    t.expect(run.out.startswith(b"secure 1, timers 0"), "not a privileged run", run)
    t.expect(run.profiles() == [], "profiles: %s" % run.profiles(), run)


@test()
def agent_inside_a_setuid_program_is_inert(t):
    # A library in a system directory that itself is setuid does get loaded: then AT_SECURE is all that protects the
    # owner from a CPUPROFILE that names a file of his. In a mount namespace, so the system stays as it is.
    t.need_root()
    victim = "/usr/lib/x86_64-linux-gnu/libBrokenLocale.so.1"
    if not os.path.exists(victim):
        raise Skip("%s is not there to be mounted over" % victim)
    library, program = t.dir / "agent.so", copy_program(t, "secure")
    shutil.copy(t.agent, library)
    os.chmod(library, 0o4755)
    os.chown(program, 1, 1)
    os.chmod(program, 0o4755)
    os.chmod(t.dir, 0o777)
    script = ("mount --bind %s %s || exit 88; exec setpriv --reuid=65534 --regid=65534 --clear-groups env "
              "LD_PRELOAD=libBrokenLocale.so.1 CPUPROFILE=%s/cpu.prof CPUPROFILE_FREQUENCY=abc sh -c '%s; %s'")
    loaded = "LD_TRACE_LOADED_OBJECTS=1 true"
    run = t.run(t.need("unshare"), "--mount", "sh", "-c", script % (library, victim, t.dir, program, loaded), agent=False)
    if run.status == 88:
        raise Skip("cannot mount here")
    t.expect(run.out.startswith(b"secure 1, timers 0"), "not inert", run)
    t.expect(not any(".secure." in name for name in run.profiles()), "profiles: %s" % run.profiles(), run)


@test()
def verbose_says_one_line_a_profile(t):
    run = t.run("worker", 200, 7, hz=250, env={"PROFAGENT_VERBOSE": 1})
    t.expect_exit(run, 7)
    t.expect_one_error_line(run, "cpu.prof")


@test()
def empty_name_turns_profiling_off(t):
    # CPUPROFILE= is how a user switches an inherited setting off.
    run = t.run("secure", hz=250, env={"CPUPROFILE": ""})
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect(b"timers 0" in run.out, "timers without being asked", run)


@test()
def very_long_names(t):
    # Longer than PATH_MAX, and a component longer than NAME_MAX.
    for name in ("x" * 5000, "y" * 300, "/".join(["z" * 200] * 30)):
        run = t.run("worker", 100, 7, hz=100, env={"CPUPROFILE": t.dir / name})
        t.expect_exit(run, 7)
        lines = run.err.splitlines()
        t.expect(len(lines) == 1 and lines[0].startswith(b"profagent: ") and len(lines[0]) < 4096, "expected one short line", run)


@test()
def long_but_legal_name(t):
    # 255 bytes are legal; the temporary name beside it is longer and is not.
    name = "n" * 250 + ".prof"
    run = t.run("worker", 200, 7, hz=250, env={"CPUPROFILE": t.dir / name})
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect_work(run, "app_work", 0.2, name=name)


@test()
def directory_deeper_than_a_name_can_be(t):
    # Nothing names it, neither getcwd nor /proc/self/cwd. The profile was /cpu.prof.
    descend = ("import os, sys\nfor _ in range(20): os.mkdir('d' * 250); os.chdir('d' * 250)\n"
               "os.execv(sys.argv[1], sys.argv[1:])")
    run = t.run(sys.executable, "-c", descend, t.program("worker"), 200, 7, hz=250, env={"CPUPROFILE": "cpu.prof"})
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect(any("cpu.prof" in files for _, _, files, _ in os.fwalk(t.dir)), "there is no profile", run)


@test()
def symbolic_link_as_profile(t):
    # A link in a shared directory must not make us write somewhere else through a temporary file of a known name.
    (t.dir / "target").write_text("precious")
    os.symlink("target", t.dir / "cpu.prof")
    run = t.run("worker", 200, 7, hz=250)
    t.expect_exit(run, 7)
    t.expect_work(run, "app_work", 0.2)


@each(["absolute", "link"])
def two_kinds_with_one_file_have_two(t, how):
    # The heap's was written over the CPU's, in silence.
    name = t.dir / "cpu.prof"
    if how == "link":
        os.symlink(".", t.dir / "here")
        name = "here/cpu.prof"
    run = t.run("worker", 200, 7, hz=250, env={"CPUPROFILE": "cpu.prof", "HEAPPROFILE": name, "MEMPROFILERATE": 1})
    t.expect_exit(run, 7)
    t.expect_one_error_line(run, "HEAPPROFILE", "CPUPROFILE names the same file", "cpu.heap.prof")
    t.expect(run.profiles() == ["cpu.heap.prof", "cpu.prof"], "the files are %s" % run.profiles(), run)
    t.expect_work(run, "app_work", 0.2)


@test()
def profile_with_no_samples_is_readable(t):
    run = t.run("/bin/true", hz=1)
    t.expect_exit(run)
    t.expect_silent(run)
    if run.profiles():
        t.expect_pprof_agrees(t.dir / "cpu.prof")


@test()
def shell_builtins_and_missing_program(t):
    plain = t.run("/bin/sh", "-c", "/nonexistent; echo $?", agent=False)
    run = t.run("/bin/sh", "-c", "/nonexistent; echo $?", hz=1000)
    t.expect((run.out, run.err, run.status) == (plain.out, plain.err, plain.status), "the shell's answer differs", run)


@test()
def installed_library_is_found_by_its_name(t):
    options = {option["name"]: option["value"] for option in json.loads((t.tools.build / "meson-info/intro-buildoptions.json").read_text())}
    if options["prefix"] != "/usr/local":
        raise Skip("the build has a prefix of its own")
    searched = [line.strip() for file in pathlib.Path("/etc/ld.so.conf.d").glob("*.conf") for line in file.read_text().splitlines()]
    if "/usr/local/lib" not in searched:
        raise Skip("no Debian: the loader looks into nothing of /usr/local")
    directory = os.path.join(options["prefix"], options["libdir"])
    t.expect(directory in searched, "the loader does not look into " + directory)
