#!/usr/bin/env python3
"""Runs clang-tidy on our source files, two at a time, and remembers what passed.

usage: run_tidy.py BUILD_DIRECTORY [FILE...]        default: all that git knows of agent and symbolizer

A file is looked at again when it, a header that it includes, its flags or .clang-tidy changed. A fresh clone looks at everything.
"""
import concurrent.futures
import hashlib
import json
import os
import shlex
import subprocess
import sys


def main():
    build = sys.argv[1]
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as text:
        commands = json.load(text)
    wanted = sys.argv[2:] or ["agent", "symbolizer"]
    tracked = set(subprocess.check_output(["git", "ls-files", *wanted], text=True).split())
    configuration = b"".join(
        open(path, "rb").read() for path in sorted(
            subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", ":(glob)**/.clang-tidy"], text=True).split()))
    memory = os.path.join(build, "tidy_passed")
    os.makedirs(memory, exist_ok=True)

    work = {}
    for command in commands:
        path = os.path.relpath(os.path.join(command["directory"], command["file"]))
        if path in tracked and not path.endswith(".S"):
            work.setdefault(path, command)  # a file of two targets is looked at once

    def look(item):
        path, command = item
        arguments = shlex.split(command["command"])
        # The preprocessed text without its line markers' paths is all that clang-tidy can see but comments (NOLINT).
        if "-o" in arguments:
            at = arguments.index("-o")
            del arguments[at:at + 2]
        preprocessed = subprocess.run([*arguments, "-E", "-CC", "-o", "-"], cwd=command["directory"], stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL, check=False).stdout
        stamp = os.path.join(memory, hashlib.sha256(configuration + command["command"].encode() + preprocessed).hexdigest())
        if os.path.exists(stamp):
            return ""
        tidy = subprocess.run(["clang-tidy-14", "--quiet", "-p", build, path], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False)
        if tidy.returncode == 0 and "warning:" not in tidy.stdout:
            open(stamp, "w", encoding="ascii").close()
            return ""
        return tidy.stdout or f"{path}: clang-tidy failed\n{tidy.stderr}"

    with concurrent.futures.ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        found = [text for text in pool.map(look, sorted(work.items())) if text]
    # A header's warning appears once for every file that includes it.
    seen = set()
    for text in found:
        for block in text.split("\n\n"):
            if block not in seen:
                seen.add(block)
                print(block)
    print(f"{len(work)} files, {len(found)} with warnings")
    sys.exit(1 if found else 0)


main()
