#!/usr/bin/env python3
"""Runs the tests of one build directory through meson and counts what they did.

A gtest binary is counted by the XML that it writes. Any other test is counted by the last line of the form
`N passed, N failed, N skipped` that it prints, or as one test by its exit status (77: skipped). A test that crashes, runs
out of time or exits with a failure that its counts do not show is one failure more.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

COUNTS = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped\s*$", re.MULTILINE)


def select(build, words, only_unit, without):
    """The tests to run, as meson describes them."""
    listing = json.loads(subprocess.check_output(["meson", "introspect", "--tests", build]))
    chosen = []
    for test in listing:
        if only_unit and test["protocol"] != "gtest":
            continue
        if without and any(without in word for word in test["cmd"]):
            continue
        if words and not any(word in test["name"] for word in words):
            continue
        chosen.append(test)
    return chosen


def build_only(build, tests):
    """Configures, and builds the executables of these tests alone."""
    targets = {target["id"]: target for target in json.loads(
        subprocess.check_output(["meson", "introspect", "--targets", build]))}
    names = set()
    for test in tests:
        for identifier in test["depends"]:
            for filename in targets[identifier]["filename"]:
                names.add(os.path.relpath(filename, os.path.abspath(build)))
    return subprocess.call(["scripts/build", build, *sorted(names)]) == 0


def count(test, build):
    """(passed, failed, skipped) of one line of testlog.json."""
    failed_run = test["result"] not in ("OK", "SKIP", "EXPECTEDFAIL")
    xml = os.path.join(build, test["name"].split(" / ")[-1] + ".xml")
    found = None
    if os.path.exists(xml):
        root = ElementTree.parse(xml).getroot()
        cases = root.findall(".//testcase")
        failed = sum(1 for case in cases if case.find("failure") is not None)
        skipped = sum(1 for case in cases if case.get("result") == "skipped" or case.find("skipped") is not None)
        ran = sum(1 for case in cases if case.get("status") == "run") - failed - skipped
        found = [ran, failed, skipped]
    else:
        lines = COUNTS.findall(test.get("stdout", ""))
        if lines:
            found = [int(number) for number in lines[-1]]
    if found is None:
        if test["result"] == "SKIP":
            return [0, 0, 1]
        return [0, 1, 0] if failed_run else [1, 0, 0]
    if failed_run and found[1] == 0:
        found[1] = 1
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", help="append `passed failed skipped` to this file")
    parser.add_argument("--only-unit", action="store_true", help="the gtest binaries only")
    parser.add_argument("--without", help="no tests whose program's path has this in it")
    parser.add_argument("--build", action="store_true", help="build what these tests need first")
    parser.add_argument("build_directory")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    build = options.build_directory

    totals = [0, 0, 0]

    def finish():
        if options.counts:
            with open(options.counts, "a", encoding="ascii") as out:
                print(*totals, file=out)
        sys.exit(1 if totals[1] > 0 else 0)

    if options.build and not os.path.exists(os.path.join(build, "build.ninja")):
        # Configure without compiling: scripts/build with a target that costs nothing.
        if subprocess.call(["scripts/build", build, "-t", "clean"]) != 0:
            totals[1] += 1
            finish()
    tests = select(build, options.words, options.only_unit, options.without)
    if not tests:
        finish()
    if options.build and not build_only(build, tests):
        totals[1] += 1
        finish()

    for test in tests:  # results of an earlier run must not be counted again
        xml = os.path.join(build, test["name"] + ".xml")
        if os.path.exists(xml):
            os.unlink(xml)
    log = os.path.join(build, "meson-logs", "testlog.json")
    if os.path.exists(log):
        os.unlink(log)
    environment = dict(os.environ)
    environment.setdefault("ASAN_OPTIONS", "abort_on_error=0:detect_stack_use_after_return=0")
    environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1")
    environment.setdefault("TSAN_OPTIONS", "halt_on_error=1")
    # What measures, or runs two tests at a time itself, is not parallel by its meson.build, and runs alone.
    ran = subprocess.run(
        ["meson", "test", "-C", build, "--no-rebuild", "--num-processes=2", *[test["name"] for test in tests]],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace")
    if not os.path.exists(log):
        print(ran.stdout)
        totals[1] += 1
        finish()
    with open(log, encoding="utf-8", errors="replace") as lines:
        results = [json.loads(line) for line in lines]
    for result in results:
        numbers = count(result, build)
        totals = [a + b for a, b in zip(totals, numbers)]
        name = result["name"].split(" / ")[-1]
        print(f"{name}: {numbers[0]} passed, {numbers[1]} failed, {numbers[2]} skipped ({result['duration']:.1f} s)")
        if numbers[1] > 0:
            print(f"----- {name}: {result['result']}, exit status {result['returncode']}")
            text = result.get("stdout", "") + result.get("stderr", "")
            lines = text.splitlines()
            # Of a long output only what is not a pass: hundreds of those would push out what failed.
            # But the last: where a crash came.
            passed = re.compile(r"\[( RUN      |       OK )\]|(PASS|SKIP) ")
            kept = [line for line in lines[:-1] if not passed.match(line)] + lines[-1:]
            print("\n".join(kept[-200:]))
            print(f"----- end of {name}")
        elif numbers[2] > 0:
            for line in result.get("stdout", "").splitlines():
                if re.match(r"\s*(SKIP|skip)", line) or "Skipped" in line:
                    print("  " + line.strip())
    missing = len(tests) - len(results)
    if missing > 0:
        print(f"{missing} tests did not run:\n{ran.stdout[-2000:]}")
        totals[1] += missing
    finish()


main()
