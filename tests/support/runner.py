"""Collects tests, runs them two at a time, says what came of each and closes with the counts.

Context: tests only. `test` registers; `main` is the end of every suite's file:

    @test()
    def name_of_the_symptom(t):
        # What would go wrong in production.
        ...

    if __name__ == "__main__":
        main("preload")
"""

import argparse
import collections
import concurrent.futures
import ctypes
import os
import pathlib
import signal
import sys
import threading
import time
import traceback

from harness import Case, Deviation, Failure, Skip, Tools, scratch_directory

Test = collections.namedtuple("Test", "name function full alone")
_tests = []


def test(full=False, alone=False):
    """full: only with --full. alone: nothing else may run beside it (it measures wall time)."""
    if callable(full):
        raise SystemExit("@test of %s lacks its (): it would never run" % full.__name__)

    def register(function):
        name = function.__name__
        if any(known.name == name for known in _tests):
            raise SystemExit("two tests are named %s" % name)
        _tests.append(Test(name, function, full, alone))
        return function

    return register


def each(values, **options):
    """The same test for several values: `name[value]`, called as f(t, value)."""

    def register(function):
        for value in values:
            label = value if isinstance(value, str) else "-".join(map(str, value)) if isinstance(value, tuple) else value
            bound = (lambda v: lambda t: function(t, *v) if isinstance(v, tuple) else function(t, v))(value)
            bound.__name__ = "%s[%s]" % (function.__name__, label)
            test(**options)(bound)
        return function

    return register


class _Run:
    def __init__(self, options):
        self.options = options
        self.tools = Tools(options.build, options.full)
        self.counts = collections.Counter()
        self.failed = []
        self.again = []  # measured off the mark while others were running
        self.lock = threading.Lock()

    def one(self, chosen, last_try=False):
        started = time.monotonic()
        with scratch_directory(chosen.name.replace("/", "_"), self.options.keep) as directory:
            case = Case(chosen.name, self.tools, directory)
            try:
                chosen.function(case)
                verdict, reason = "PASS", "; ".join(case.notes) if self.options.verbose else ""
            except Skip as skip:
                verdict, reason = "SKIP", str(skip)
            except Deviation as deviation:
                verdict, reason = "FAIL" if last_try else "AGAIN", str(deviation)
            except Failure as failure:
                verdict, reason = "FAIL", str(failure)
            except Exception:  # a broken test fails; it must not take the others with it
                verdict, reason = "FAIL", "the test itself broke:\n" + traceback.format_exc()
            if self.options.keep:
                reason += "  [%s]" % directory
        with self.lock:
            self.counts[verdict] += 1
            if verdict == "FAIL":
                self.failed.append(chosen.name)
            if verdict == "AGAIN":
                self.again.append(chosen)
            print("%s %s (%.1f s)%s" % (verdict, chosen.name, time.monotonic() - started, ": " + reason if reason else ""),
                  flush=True)


def _adopt_orphans():
    """Grandchildren that outlive their program become ours, so that the end of the suite can end them."""
    PR_SET_CHILD_SUBREAPER = 36
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_orphans():
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == os.getpid():
                os.kill(int(entry.name), signal.SIGKILL)
        except (OSError, IndexError, ValueError):
            pass


def main(suite):
    parser = argparse.ArgumentParser(description="profagent's %s tests" % suite)
    parser.add_argument("names", nargs="*", help="tests to run (substrings of their names); default: all")
    parser.add_argument("--build", default=os.environ.get("PROFAGENT_BUILD", "build"), help="the meson build directory")
    parser.add_argument("--full", action="store_true", default=bool(os.environ.get("PROFAGENT_TEST_FULL")),
                        help="also the slow tests (PROFAGENT_TEST_FULL=1)")
    parser.add_argument("--list", action="store_true", help="print the names only")
    parser.add_argument("--keep", action="store_true", help="keep the tests' directories and say where they are")
    parser.add_argument("-v", "--verbose", action="store_true", help="print measured figures")
    parser.add_argument("-j", "--jobs", type=int, default=2)
    options = parser.parse_args()
    # Started in a shell's background or by nohup, we and all programs under test would ignore these.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)

    chosen = [t for t in _tests if (options.full or not t.full or options.names) and
              (not options.names or any(name in t.name for name in options.names))]
    if options.list:
        print("\n".join(t.name for t in chosen))
        return
    if not chosen:
        raise SystemExit("no test of %s matches %s" % (suite, " ".join(options.names)))
    _adopt_orphans()
    run = _Run(options)
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(run.one, [t for t in chosen if not t.alone]))
    for alone in (t for t in chosen if t.alone):
        run.one(alone)
    for deviant in list(run.again):
        run.one(deviant, last_try=True)
    _end_orphans()
    if run.failed:
        print("failed: " + " ".join(run.failed))
    print("%d passed, %d failed, %d skipped" % (run.counts["PASS"], run.counts["FAIL"], run.counts["SKIP"]))
    sys.exit(1 if run.failed else 0)
