#!/usr/bin/env python3
"""Checks that includes point one way, as the map in README.md says.

A folder may include itself and what stands in its line of ALLOWED. agent/lifecycle is the roof of the agent and knows every folder;
agent/encode and agent/ledger also link into the command, so they know no other folder of the agent.
"""
import os
import re
import subprocess
import sys

ALLOWED = {
    "agent/base": [],
    "agent/ledger": ["agent/base"],
    "agent/encode": ["agent/ledger", "agent/base"],
    "agent/unwind": ["agent/ledger", "agent/base"],
    "agent/capture": ["agent/unwind", "agent/ledger", "agent/base"],
    "agent/interpose": ["agent/capture", "agent/unwind", "agent/ledger", "agent/base"],
    "agent/lifecycle": ["agent/"],
    "symbolizer/pch": ["proto"],
    "symbolizer/profile": ["agent/base", "proto"],
    "symbolizer/symbolize": ["symbolizer/profile", "agent/base", "proto"],
    "symbolizer/check": ["symbolizer/symbolize", "symbolizer/profile", "agent/base"],
    "symbolizer/graph": ["symbolizer/profile", "agent/base", "proto"],
    "symbolizer/report": ["symbolizer/graph", "symbolizer/profile", "agent/base", "proto"],
    "symbolizer/run": ["symbolizer/report", "symbolizer/graph", "symbolizer/symbolize", "symbolizer/profile", "symbolizer/check",
                       "agent/encode", "agent/ledger", "agent/base", "proto"],
    "symbolizer/cli": ["symbolizer/", "agent/encode", "agent/ledger", "agent/base", "proto"],
    "symbolizer": ["symbolizer/", "agent/base"],
    "tests": ["agent/", "symbolizer/", "proto", "tests/"],
}


def folder_of(path):
    """The longest key of ALLOWED that holds this file."""
    folder = os.path.dirname(path)
    while folder and folder not in ALLOWED:
        folder = os.path.dirname(folder)
    return folder


def main():
    files = subprocess.check_output(["git", "ls-files", "agent", "symbolizer", "tests"], text=True).split()
    wrong = []
    for path in files:
        if not path.endswith((".cc", ".h", ".c")) or not os.path.exists(path):
            continue
        folder = folder_of(path)
        if not folder:
            wrong.append(f"{path}: its folder has no place in the layers (scripts/lib/check_layers.py)")
            continue
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
                if not match:
                    continue
                included = match.group(1)
                if "/" not in included and not os.path.exists(included):
                    # Programs under tests may have a header beside them, everything else is rooted at the tree.
                    if path.startswith("tests/") and os.path.exists(os.path.join(os.path.dirname(path), included)):
                        continue
                    wrong.append(f'{path}:{number}: "{included}" is not rooted at the tree')
                    continue
                if folder == "tests" and not included.startswith(("agent/", "symbolizer/", "proto/", "tests/")):
                    wrong.append(f'{path}:{number}: "{included}" is not rooted at the tree')
                    continue
                target = os.path.dirname(included)
                if target == folder or target.startswith(folder + "/"):
                    continue
                if any(target == rule or target.startswith(rule.rstrip("/") + "/") for rule in ALLOWED[folder]):
                    continue
                wrong.append(f'{path}:{number}: {folder} may not include "{included}"')
    print("\n".join(wrong), end="")
    sys.exit(1 if wrong else 0)


main()
