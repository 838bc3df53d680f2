"""`profagent run` on a terminal: keys, job control, progress."""

import os
import pty
import re
import select
import signal
import subprocess
import time

from harness import PATH, Failure
from run_tests import run
from runner import test


class Terminal:
    """A shell with job control on a terminal of its own."""

    def __init__(self, t):
        self.text = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(t.dir)
            environment = {"PATH": PATH, "HOME": str(t.dir), "PS1": "prompt> ", "TERM": "dumb", "LANG": "C.UTF-8"}
            os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "-i"], environment)
        self.expect("prompt> ")

    def type(self, text):
        os.write(self.fd, text.encode())

    def expect(self, pattern, seconds=30):
        """The text up to and with the pattern; what comes later is left for the next call."""
        limit = time.monotonic() + seconds
        while True:
            found = re.search(pattern.encode(), self.text)
            if found:
                before, self.text = self.text[:found.end()], self.text[found.end():]
                return before.decode("utf-8", "replace")
            if not select.select([self.fd], [], [], max(0, limit - time.monotonic()))[0]:
                raise Failure("the terminal does not show %r: %r" % (pattern, self.text))
            try:
                self.text += os.read(self.fd, 65536)
            except OSError as error:
                raise Failure("the terminal ended: %r" % self.text) from error

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.close(self.fd)
        os.waitpid(self.pid, 0)


def on_terminal(function):
    def with_terminal(t):
        terminal = Terminal(t)
        try:
            function(t, terminal)
        finally:
            terminal.close()

    with_terminal.__name__ = function.__name__
    return test()(with_terminal)


@on_terminal
def interrupt_key_ends_the_program_and_keeps_the_profile(t, terminal):
    # ^C is how most servers end. A script around it must stop, too, as it would without us.
    terminal.type("bash -c '%s run -- %s wait; echo the script went on'\n" % (t.profagent, t.program("ends")))
    terminal.expect("ready")
    terminal.type("\x03")
    shown = terminal.expect("\nprompt> ")
    t.expect("the script went on\r\n" not in shown, "the script went on after ^C: %r" % shown)
    terminal.type("echo status $?\n")
    terminal.expect("status 130\r\n")
    t.expect((t.dir / "cpu.prof").exists(), "no profile: %r" % shown)
    t.expect("work_before_end" in shown, "no table: %r" % shown)


@on_terminal
def suspend_key_stops_and_fg_continues(t, terminal):
    terminal.type("%s run -q -- %s wait\n" % (t.profagent, t.program("ends")))
    terminal.expect("ready")
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.expect("prompt> ")
    expect_states(t, terminal, True)
    terminal.type("fg\n")
    terminal.expect("ends wait\r\n")
    expect_states(t, terminal, False)  # the shell shows the line before it gives the job the terminal
    terminal.type("\x1c")  # ^\
    terminal.expect("prompt> ")
    terminal.type("echo status $?\n")
    terminal.expect("status 131\r\n")
    t.expect((t.dir / "cpu.prof").exists(), "no profile")


@on_terminal
def profile_is_not_written_to_a_terminal(t, terminal):
    for name in "-", "/dev/stdout":
        terminal.type("%s run -o %s -- echo ran-$((6*7))\n" % (t.profagent, name))
        shown = terminal.expect("prompt> ")
        t.expect("profagent: the profile is not written to a terminal" in shown and "ran-42" not in shown, "shown: %r" % shown)


@on_terminal
def program_owns_the_terminal(t, terminal):
    # An editor or a shell under us: isatty, foreground process group, window size are as without us.
    program = ("import os; print(os.isatty(0), os.isatty(1), os.isatty(2), os.tcgetpgrp(0) == os.getpgrp(), "
               "input(), os.get_terminal_size().columns)")
    terminal.type("stty cols 123; %s run -q -- %s -c '%s'\n" % (t.profagent, t.need("python3"), program))
    terminal.type("typed\n")
    terminal.expect("True True True True typed 123\r\n")


@on_terminal
def progress_is_shown_and_goes_away(t, terminal):
    terminal.type("%s run -- %s 300\n" % (t.profagent, t.program("worker")))
    shown = terminal.expect("look further")
    t.expect("finding functions" in shown, "no progress line: %r" % shown)
    # Whatever stands in front of the table was wiped.
    t.expect(re.search("\r\x1b\\[K(profagent: [^\r]*\r\n)*File: ", shown) is not None, "not wiped: %r" % shown)


@test()
def no_progress_without_a_terminal(t):
    outcome = run(t, "worker", 300)
    t.expect(b"\x1b" not in outcome.err and b"finding functions" not in outcome.err, "terminal codes in a file", outcome)


def states(terminal):
    """Of the processes of the terminal's session, by program."""
    listed = subprocess.run(["ps", "-o", "comm=,stat=", "-g", str(terminal.pid)], capture_output=True, text=True, check=False).stdout
    return dict(line.split() for line in listed.splitlines())


def expect_states(t, terminal, stopped):
    limit = time.monotonic() + 20  # a signal is on its way
    while True:
        now = states(terminal)
        if all(now[name].startswith("T") == stopped for name in ("profagent", "ends")):
            return
        t.expect(time.monotonic() < limit, "expected %sstopped: %s" % ("" if stopped else "not ", now))


@on_terminal
def stop_and_continue_reach_the_program(t, terminal):
    # kill -TSTP and -CONT of profagent's pid, as a supervisor does it.
    terminal.type("%s run -q -- %s wait &\n" % (t.profagent, t.program("ends")))
    terminal.expect("ready")
    terminal.type("kill -TSTP $!\n")
    expect_states(t, terminal, True)
    terminal.type("kill -CONT $!\n")
    expect_states(t, terminal, False)
    # 148: the shell's news of the stop came after its news of the end of the stop (SIGCHLDs merge).
    terminal.type("kill -TERM $!; while wait $!; s=$?; [ $s -eq 148 ]; do sleep 0.01; done; echo status $s\n")
    terminal.expect("status 143\r\n")
