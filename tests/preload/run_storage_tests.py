"""`profagent run`: where records and profiles are kept, when there is little room or the place is unusual."""

import contextlib
import os
import subprocess
import tempfile

from harness import Skip
from run_tests import all_profiles, work
from runner import each, test


def in_small_tmpfs(t, size, place, *argv, **more):
    """Runs argv where `place` is a tmpfs of that size, in a mount namespace of its own."""
    t.need_root()
    script = 'mount -t tmpfs -o size=%s none %s || exit 77; exec "$@"' % (size, place)
    outcome = t.run("/usr/bin/env", "unshare", "--mount", "sh", "-c", script, "sh", *argv, agent=False, **more)
    if outcome.status == 77:
        raise Skip("no mounts here: %s" % outcome.err.decode())
    return outcome


@contextlib.contextmanager
def place_on_disk():
    """For this test alone: others run at the same time."""
    if subprocess.check_output(["stat", "-f", "-c", "%T", "/var/tmp"], text=True).strip() in ("tmpfs", "ramfs"):
        raise Skip("/var/tmp is no disk")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as path:
        os.chmod(path, 0o1777)
        yield path


@each(["/dev/stdout", "-", "/dev/fd/7", "/proc/self/fd/7"])
def descriptor_is_written_to_as_it_is(t, name):
    # `-` was a file of that name, though it is standard output to `profagent symbolize`.
    # `-o /dev/stdout >file`: the file was replaced, and what the command had printed with it; /dev/fd/7 was refused.
    script = 'echo before >out; exec %s run --cpu=250 -o %s -- %s 200 %s>>out' % (t.profagent, name, t.program("worker"), name[-1] if name[-1] == "7" else "")
    outcome = t.run("/bin/sh", "-c", script, agent=False)
    t.expect_exit(outcome)
    data = (t.dir / "out").read_bytes()
    t.expect(data.startswith(b"before\n"), "what was in the file is gone", outcome)
    (t.dir / "x.pb.gz").write_bytes(data[data.index(b"\x1f\x8b"):])
    t.expect_near("app_work", outcome.profile("x.pb.gz").cum("app_work", "cpu") / 1e9, 0.2, 0.05, outcome)
    refused = t.run("/bin/sh", "-c", "exec %s run -o /dev/fd/8 -- /bin/true" % t.profagent, agent=False)
    t.expect_exit(refused, 1)
    t.expect(refused.err == b"profagent: cannot write profiles to /dev/fd/8: Bad file descriptor\n", "said otherwise", refused)


@test()
def place_without_space_is_passed_over(t):
    # A container's /dev/shm or a user's runtime directory may be tiny.
    small = t.new_dir("small")
    outcome = in_small_tmpfs(t, "64k", small, t.profagent, "run", "-o", "x.pb.gz", "--", "/bin/sh", "-c",
                             "echo $PROFAGENT_LEDGER_DIR; exec %s 200" % t.program("worker"), env={"XDG_RUNTIME_DIR": small})
    t.expect_exit(outcome)
    t.expect(not outcome.out.startswith(str(small).encode()), "records into 64 KiB", outcome)
    t.expect_near("app_work", work(outcome, "app_work"), 0.2, 0.05, outcome)


@each([False, True])
def tmpfs_that_fills_up_loses_nothing(t, merge):
    # The new program's agent finds no space: it records in memory and writes its profile itself, and we take that.
    small = t.new_dir("small")
    # The one that fills is not profiled: at its end, a ledger of its own would make room again.
    fill = ("exec env -u LD_PRELOAD AGENT=$LD_PRELOAD sh -c 'head -c 64M /dev/zero >%s/filler 2>/dev/null; LD_PRELOAD=$AGENT exec %s 300 7'"
            % (small, t.program("worker")))
    outcome = in_small_tmpfs(t, "32m", small, t.profagent, "run", "--cpu=250", "-o", "x.pb.gz", *(["--merge"] if merge else []), "--",
                             "/bin/sh", "-c", fill, env={"XDG_RUNTIME_DIR": small})
    t.expect_exit(outcome, 7)
    t.expect(b"kept in memory" in outcome.err, "the agent does not say it", outcome)
    t.expect_near("app_work", outcome.profile("x.pb.gz").cum("app_work", "cpu") / 1e9, 0.3, 0.05, outcome)
    t.expect(not merge or list(all_profiles(outcome)) == ["x.pb.gz"], "merged: %s" % list(all_profiles(outcome)), outcome)


@test()
def records_of_processes_that_ended_take_little_memory(t):
    # A tmpfs is memory, and a container's limit counts it: in one of 40 MiB a program that forks was killed by the out-of-memory killer
    # after 2000 children of 20 KiB each, and `profagent run` with it.
    with place_on_disk() as disk:
        place = t.new_dir("place")
        script = ("for i in $(seq 1500); do (:); done; exec env -u LD_PRELOAD sh -c 'ls %s | grep profagent-run; du -sk %s'" % (disk, place))
        outcome = in_small_tmpfs(t, "2g", place, t.profagent, "run", "--cpu=250", "--merge", "-o", "x.pb.gz", "--", "/bin/sh", "-c", script,
                                 env={"XDG_RUNTIME_DIR": place, "TMPDIR": disk}, timeout=60)
        t.expect_exit(outcome)
        t.expect(b"profagent-run-" in outcome.out, "the disk was not used", outcome)
        taken = int(outcome.out.split(b"\n")[-2].split()[0])
        t.expect(taken <= 18 << 10, "%d KiB of memory are taken" % taken, outcome)
        t.expect(os.listdir(disk) == [], "left: %s" % os.listdir(disk), outcome)


@test()
def records_of_processes_that_ended_make_room(t):
    # A build in a container: /dev/shm has 64 MB, and each of a thousand compilers leaves a part of one. Here 14 of 18 are taken, and
    # the 180 processes leave 4.8 MB.
    with place_on_disk() as disk:
        small = t.new_dir("small")
        script = ("head -c 14M /dev/zero >%s/filler; for i in $(seq 180); do %s 10; done; ls %s | grep profagent-run"
                  % (small, t.program("worker"), disk))
        outcome = in_small_tmpfs(t, "18m", small, t.profagent, "run", "--cpu=250", "--merge", "-o", "x.pb.gz", "--", "/bin/sh", "-c", script,
                                 env={"XDG_RUNTIME_DIR": small, "TMPDIR": disk})
        t.expect_exit(outcome)
        t.expect(b"kept in memory" not in outcome.err, "a process found no room", outcome)
        t.expect(b"profagent-run-" in outcome.out, "the disk was not used", outcome)
        t.expect_near("app_work", outcome.profile("x.pb.gz").cum("app_work", "cpu") / 1e9, 180 * 0.01, 0.2, outcome)
        t.expect(os.listdir(disk) == [], "left: %s" % os.listdir(disk), outcome)


@test()
def removed_records_are_called_removed(t):
    # A clean-up of /dev/shm while the command ran was called "the agent was not loaded into it".
    outcome = t.run(t.profagent, "run", "-o", "x.pb.gz", "--", "/bin/sh", "-c", 'echo "$PROFAGENT_LEDGER_DIR"; rm -r "$PROFAGENT_LEDGER_DIR"; exit 7',
                    agent=False)
    t.expect_exit(outcome, 7)
    wanted = b"profagent: somebody removed %s, where the records were; what they held is lost\n" % outcome.out.strip()
    t.expect(wanted in outcome.err and b"not loaded" not in outcome.err, "said otherwise", outcome)
