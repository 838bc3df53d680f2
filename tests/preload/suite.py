#!/usr/bin/env python3
"""Hostile programs under the agent. `suite.py --list` names them; see tests/README.md."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
sys.dont_write_bytecode = True

from runner import main  # noqa: E402

import allocator_tests  # noqa: E402,F401
import block_mutex_tests  # noqa: E402,F401
import end_tests  # noqa: E402,F401
import file_tests  # noqa: E402,F401
import fork_exec_tests  # noqa: E402,F401
import heap_tests  # noqa: E402,F401
import idle_hook_tests  # noqa: E402,F401
import jit_tests  # noqa: E402,F401
import limit_tests  # noqa: E402,F401
import module_tests  # noqa: E402,F401
import own_sigprof_tests  # noqa: E402,F401
import run_command_tests  # noqa: E402,F401
import run_kinds_tests  # noqa: E402,F401
import run_storage_tests  # noqa: E402,F401
import run_terminal_tests  # noqa: E402,F401
import run_tests  # noqa: E402,F401
import sandbox_tests  # noqa: E402,F401
import signal_tests  # noqa: E402,F401
import stack_tests  # noqa: E402,F401
import started_program_tests  # noqa: E402,F401
import thread_tests  # noqa: E402,F401

if __name__ == "__main__":
    main("preload")
