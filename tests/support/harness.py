"""Runs programs under the agent and collects what they did: exit, output, profiles.

Context: every black-box test (tests/preload, accuracy, compat, real). A test is a function of one argument, a Case.
Promises: a clean environment (nothing of the caller's leaks in but PATH), a private directory, a time-out on every
program after which its whole process group is killed, output in files (a pipe would keep us waiting for any
grandchild that inherited it). A failed expectation raises Failure with all that is known of the run.
"""

import contextlib
import errno
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import pprof_reader as profile_reader

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


class Failure(Exception):
    pass


class Deviation(Failure):
    """A measured figure is off. On a shared machine one run can be; the runner measures once more, alone, and says so."""


class Skip(Exception):
    pass


class Tools:
    """Where the things under test are."""

    def __init__(self, build, full=False):
        build = pathlib.Path(build).resolve()
        self.build, self.full = build, full
        self.agent = build / "agent" / "libprofagent.so"
        self.profagent = build / "symbolizer" / "profagent"
        self.programs = build / "tests" / "preload"
        self.source = pathlib.Path(__file__).resolve().parents[2]

    def go_pprof(self):
        """The pprof of the Go tool chain itself: starting it through `go tool` costs four times as much."""
        if not shutil.which("go"):
            return None
        tools = subprocess.run(["go", "env", "GOTOOLDIR"], capture_output=True, text=True,
                               env={"PATH": PATH, "HOME": "/tmp"}).stdout.strip()
        return os.path.join(tools, "pprof")


def signal_tick_hz():
    """Signals a second that the kernel can deliver to a thread by a CPU clock timer: its CONFIG_HZ."""
    return round(1 / time.clock_getres(6))  # CLOCK_MONOTONIC_COARSE ticks at CONFIG_HZ


class Outcome:
    """What a program did."""

    def __init__(self, case, argv, directory, status, usage, seconds, out, err, timed_out):
        self.case, self.argv, self.directory = case, argv, pathlib.Path(directory)
        self.usage, self.seconds, self.out, self.err, self.timed_out = usage, seconds, out, err, timed_out
        self.signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        self.core = bool(os.WIFSIGNALED(status) and os.WCOREDUMP(status))
        self.status = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None

    @property
    def cpu_seconds(self):
        """getrusage of the program and of the children that it waited for."""
        return self.usage.ru_utime + self.usage.ru_stime

    def end(self):
        return "exit %d" % self.status if self.status is not None else signal.Signals(self.signal).name

    def profiles(self):
        """Names of all profiles in the run's directory, whatever the naming rules made of them."""
        return sorted(p.name for p in self.directory.iterdir()
                      if re.search(r"\.prof|\.pb\.gz", p.name) and not p.name.endswith(".tmp"))

    def profile(self, name="cpu.prof"):
        path = self.directory / name
        if not path.exists():
            raise Failure("no profile %s; there are %s\n%s" % (name, self.profiles(), self))
        try:
            return profile_reader.read(path)
        except profile_reader.BadProfile as error:
            raise Failure("%s: %s\n%s" % (name, error, self)) from error

    def __str__(self):
        def cut(text):
            return text if len(text) < 3000 else text[:1500] + "\n...\n" + text[-1500:]

        return "  %s\n  in %s: %s%s after %.2f s, %.2f s CPU\n  stdout: %s\n  stderr: %s" % (
            " ".join(map(str, self.argv)), self.directory, self.end(), " (TIMED OUT)" if self.timed_out else "",
            self.seconds, self.cpu_seconds, cut(self.out.decode("utf-8", "replace")),
            cut(self.err.decode("utf-8", "replace")))


class Running:
    """A program that has been started."""

    def __init__(self, case, argv, env, cwd, timeout, stdin):
        self.case, self.argv, self.cwd, self.timed_out = case, argv, cwd, False
        self._out = tempfile.TemporaryFile()
        self._err = tempfile.TemporaryFile()
        self._started = time.monotonic()
        self._process = self._begin(list(map(str, argv)), env=env, cwd=cwd, stdin=stdin, stdout=self._out, stderr=self._err,
                                    start_new_session=True)
        self.pid = self._process.pid
        self._timer = threading.Timer(timeout, self._time_out)
        self._timer.start()

    @staticmethod
    def _begin(argv, **options):
        # A program that was just written, by a copy in a test, is busy as long as a child that another test's thread is starting
        # holds the descriptor that wrote it.
        for _ in range(200):
            try:
                return subprocess.Popen(argv, **options)
            except OSError as error:
                if error.errno != errno.ETXTBSY:
                    raise
                time.sleep(0.01)
        return subprocess.Popen(argv, **options)

    def _time_out(self):
        self.timed_out = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def output(self):
        return os.pread(self._out.fileno(), 1 << 20, 0)

    def wait_for_output(self, text, timeout=20):
        """Until the program has written `text`; the only way for a test to know where the program is."""
        limit = time.monotonic() + timeout
        while text not in self.output():
            if time.monotonic() > limit:
                self.signal(signal.SIGKILL)
                raise Failure("did not write %r within %d s\n%s" % (text, timeout, self.finish()))
            time.sleep(0.005)

    def signal(self, number):
        os.kill(self.pid, number)

    def finish(self):
        _, status, usage = os.wait4(self.pid, 0)
        self._process.returncode = status
        self._timer.cancel()
        seconds = time.monotonic() - self._started
        texts = []
        for file in (self._out, self._err):
            file.seek(0)
            texts.append(file.read())
            file.close()
        return Outcome(self.case, self.argv, self.cwd, status, usage, seconds, *texts, self.timed_out)


class Case:
    """One run of one test. Everything that a test needs is reached through it."""

    def __init__(self, name, tools, directory):
        self.name, self.tools, self.dir = name, tools, pathlib.Path(directory)
        self.notes = []

    # Where things are.

    @property
    def agent(self):
        if not self.tools.agent.exists():
            raise Failure("%s is not built" % self.tools.agent)
        return self.tools.agent

    @property
    def profagent(self):
        if not os.access(self.tools.profagent, os.X_OK):
            raise Failure("%s is not built" % self.tools.profagent)
        return self.tools.profagent

    def program(self, name):
        path = self.tools.programs / name
        if not path.exists():
            raise Failure("%s is not built" % path)
        return path

    def need(self, *names):
        """Skips where the machine lacks a command; answers its path (or their paths)."""
        found = []
        for name in names:
            path = shutil.which(name, path=PATH)
            if path is None:
                raise Skip("%s is not installed" % name)
            found.append(path)
        return found[0] if len(found) == 1 else found

    def need_root(self):
        if os.geteuid() != 0:
            raise Skip("needs root")

    def new_dir(self, name):
        path = self.dir / name
        path.mkdir()
        return path

    # Running.

    def environment(self, agent=True, hz=None, env=None, cwd=None):
        result = {"PATH": PATH, "HOME": str(self.dir), "LANG": "C.UTF-8"}
        if agent:
            result["LD_PRELOAD"] = str(self.agent)
            result["CPUPROFILE"] = str(pathlib.Path(cwd or self.dir) / "cpu.prof")
            if hz is not None:
                result["CPUPROFILE_FREQUENCY"] = str(hz)
        for key, value in (env or {}).items():
            if value is None:
                result.pop(key, None)
            else:
                result[key] = str(value)
        return result

    def start(self, *argv, agent=True, hz=None, env=None, cwd=None, timeout=60, stdin=subprocess.DEVNULL, prefix=()):
        """Starts a program under the agent. argv[0]: the name of a test program, or a path.

        `prefix`: a command (prlimit, setpriv, strace, ...) that ends up executing the program. It is itself not
        preloaded: env(1) sets the agent's variables behind it.
        """
        cwd = pathlib.Path(cwd or self.dir)
        argv = [argv[0] if os.sep in str(argv[0]) else self.program(argv[0]), *argv[1:]]
        environment = self.environment(agent, hz, env, cwd)
        if prefix:
            plain = self.environment(agent=False, cwd=cwd)
            added = ["%s=%s" % item for item in environment.items() if plain.get(item[0]) != item[1]]
            argv, environment = [*prefix, "env", *added, *argv], plain
        return Running(self, argv, environment, cwd, timeout, stdin)

    def run(self, *argv, **options):
        outcome = self.start(*argv, **options).finish()
        if outcome.timed_out:
            raise Failure("hangs\n%s" % outcome)
        return outcome

    # Judging. Every message says what was expected; the outcome says what happened.

    def expect(self, condition, message, outcome=None, kind=Failure):
        if not condition:
            raise kind(message + ("\n%s" % outcome if outcome is not None else ""))

    def expect_exit(self, outcome, status=0):
        self.expect(outcome.status == status, "expected exit %d, got %s" % (status, outcome.end()), outcome)

    def expect_signal(self, outcome, number):
        self.expect(outcome.signal == number,
                    "expected death by %s, got %s" % (signal.Signals(number).name, outcome.end()), outcome)

    def expect_silent(self, outcome):
        self.expect(outcome.err == b"", "expected an empty stderr", outcome)

    def expect_one_error_line(self, outcome, *words):
        """Bad input gets one line that begins with `profagent: ` and holds all the words."""
        lines = outcome.err.decode("utf-8", "replace").splitlines()
        self.expect(len(lines) == 1 and lines[0].startswith("profagent: "),
                    "expected exactly one line `profagent: ...` on stderr", outcome)
        for word in words:
            self.expect(str(word) in lines[0], "expected %r in the error line" % str(word), outcome)

    def expect_near(self, what, value, expected, tolerance, outcome=None):
        self.note("%s %.4g (expected %.4g +- %.2g)" % (what, value, expected, tolerance))
        self.expect(abs(value - expected) <= tolerance,
                    "%s is %.5g, expected %.5g +- %.3g" % (what, value, expected, tolerance), outcome, Deviation)

    def expect_work(self, outcome, function, seconds, name="cpu.prof", tolerance=0.1, slack=0.03):
        """The profile holds `seconds` of CPU time under `function`, within tolerance plus a few ticks."""
        profile = outcome.profile(name)
        got = profile.cum(function, "cpu") / 1e9
        self.expect(abs(got - seconds) <= tolerance * seconds + slack,
                    "%s: %s has %.3f s of CPU time, expected %.3f; leaves: %s; losses: %s" %
                    (name, function, got, seconds, profile.by_leaf().most_common(6), profile.losses()), outcome, Deviation)
        return profile

    def note(self, text):
        """Measured figures, shown behind PASS with --verbose."""
        self.notes.append(str(text))

    # Other readers.

    def pprof(self, report, path, *options):
        tool = self.tools.go_pprof()
        if tool is None:
            raise Skip("go is not installed")
        done = subprocess.run([tool, "-" + report, "-symbolize=none", *options, str(path)], capture_output=True, text=True,
                              env={"PATH": PATH, "HOME": str(self.dir), "PPROF_TMPDIR": str(self.dir)}, timeout=60)
        self.expect(done.returncode == 0, "go tool pprof -%s %s fails:\n%s%s" % (report, path, done.stdout, done.stderr))
        return done.stdout

    def expect_pprof_agrees(self, path):
        """go tool pprof reads the profile, and -raw, -top and our own reader see the same samples."""
        ours = profile_reader.read(path)
        raw = self.pprof("raw", path)
        body = raw.split("Samples:\n", 1)[1].split("Locations\n", 1)[0]
        rows = re.findall(r"^\s*((?:-?\d+ +)+|-?\d+):", body.replace(":", " :"), re.M)
        rows = re.findall(r"^ *(-?\d+(?: +-?\d+)*) *:", "\n".join(body.splitlines()[1:]), re.M)
        values = [[int(v) for v in row.split()] for row in rows]
        self.expect(len(values) == len(ours.samples), "pprof -raw shows %d samples, the file has %d" %
                    (len(values), len(ours.samples)))
        for index, (kind, _) in enumerate(ours.sample_types):
            self.expect(sum(v[index] for v in values) == ours.total(kind), "pprof -raw sums %s to %d, the file to %d" %
                        (kind, sum(v[index] for v in values), ours.total(kind)))
        self.expect(self.pprof("traces", path).count("-----------+---") >= min(1, len(ours.samples)),
                    "pprof -traces shows nothing")
        return self.pprof("top", path)


@contextlib.contextmanager
def scratch_directory(name, keep):
    path = tempfile.mkdtemp(prefix="profagent-%s-" % name[:40])
    os.chmod(path, 0o755)
    try:
        yield path
    finally:
        if not keep:
            shutil.rmtree(path, ignore_errors=True)
