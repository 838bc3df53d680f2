#!/usr/bin/env python3
"""Our stacks against libunwind's, frame by frame, in real programs.

A library is preloaded that walks every CPU signal twice (unwind_oracle_preload.cc). Of the samples, at least 99.95 % have
to be equal: every address, and where the stack ends. Differences are printed whole; those of a class that is known are
counted by its name (the classes are explained in the preload library); only those where the oracle itself is wrong for sure
(at_return) are taken off, and there may be few.

Each program runs once; with --full until it has given the 2000 samples that 0.05 % need to mean something.
"""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
sys.dont_write_bytecode = True

from harness import Failure, Skip  # noqa: E402
from runner import each, main  # noqa: E402
from workloads import WORKLOADS  # noqa: E402

LEAST_EQUAL = 0.9995
MOST_AT_RETURN = 0.005  # seen: 0.001 of openssl's, none of the others'
LEAST_SAMPLES = 20
FULL_SAMPLES = 2000
MOST_RUNS = 30
LINE = re.compile(r"^program (\S+) samples (\d+) equal (\d+) deeper (\d+) no_cfi (\d+) at_return (\d+) ends (.*)$", re.M)


@each(list(WORKLOADS))
def frames_are_those_of_libunwind(t, name):
    library = t.tools.build / "tests" / "real" / "libunwind_oracle.so"
    if not library.exists():
        raise Skip("%s is not built (libunwind-dev)" % library)
    argv = WORKLOADS[name](t, 1)
    out = t.dir / "oracle.txt"  # the runs append to it
    samples, runs = 0, 0
    while runs == 0 or (t.tools.full and 0 < samples < FULL_SAMPLES and runs < MOST_RUNS):
        outcome = t.run(*argv, agent=False, env={"LD_PRELOAD": library, "UNWIND_ORACLE_OUT": out}, timeout=600)
        t.expect_exit(outcome)
        runs += 1
        text = out.read_text(errors="replace")
        found = [list(map(int, each[1:6])) for each in LINE.findall(text)]
        samples, equal, deeper, no_cfi, at_return = map(sum, zip(*found)) if found else (0, 0, 0, 0, 0)
        samples -= at_return
    t.note("%d samples in %d runs, %d equal (%.3f %%), %d deeper, %d without CFI; %d more at return instructions" %
           (samples, runs, equal, 100 * equal / max(1, samples), deeper, no_cfi, at_return))
    if samples < LEAST_SAMPLES:
        raise Skip("only %d samples: libunwind cannot be loaded, or there is no CPU timer" % samples)
    if at_return > MOST_AT_RETURN * samples:
        raise Failure("%d samples at return instructions, of %d others\n%s" % (at_return, samples, text[:20000]))
    # One odd sample of a few hundred is no 0.05 %: it is shown, and counts when it is not alone.
    if samples - equal > max(1, (1 - LEAST_EQUAL) * samples):
        raise Failure("%d of %d samples differ (%d deeper, %d no_cfi)\n%s" %
                      (samples - equal, samples, deeper, no_cfi, text[:20000]))
    if t.tools.full and samples < FULL_SAMPLES:
        raise Failure("only %d samples in %d runs" % (samples, runs))


if __name__ == "__main__":
    main("unwind_oracle")
