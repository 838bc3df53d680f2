"""Heap profiles of real programs: what is estimated from a sample agrees with a recording of every allocation.

Allowed: of n blocks of s bytes each is drawn with p = 1 - e^(-s/rate), so an estimate of their bytes has a variance of
n s^2 (1 - p) / p; four standard errors, and one percent for what the two runs did differently.
"""

import collections
import math

from pprof_reader import names_of
from runner import each
from workloads import WORKLOADS

RATE = 16 << 10
LARGEST = 5  # functions, beside the sum


def bytes_by_function(profile, kind):
    """function that called the allocator -> bytes; "" is the sum."""
    at = [name for name, _ in profile.sample_types].index(kind)
    found = collections.Counter()
    for sample in profile.samples:
        found[""] += sample.values[at]
        found[names_of(sample)[0]] += sample.values[at]
    return found


def variances(profile, kind):
    at = [name for name, _ in profile.sample_types].index(kind)
    found = collections.Counter()
    for sample in profile.samples:
        size = sample.numbers.get("bytes", 0)
        if size == 0:
            continue  # malloc(0) counts for nothing
        p = 1 - math.exp(-size / RATE)
        for function in "", names_of(sample)[0]:
            found[function] += sample.values[at] * size * (1 - p) / p
    return found


@each([("clang", 0.25), ("python3", 0.02), ("sqlite3", 0.1)])
def heap_estimates_agree_with_every_allocation(t, name, scale):
    argv = WORKLOADS[name](t, scale)
    profiles = {}
    for rate in 1, RATE:
        run = t.run(*argv, env={"CPUPROFILE": None, "HEAPPROFILE": "heap.prof", "MEMPROFILERATE": rate, "PYTHONMALLOC": "malloc",
                                "PYTHONHASHSEED": "0"}, timeout=120)
        t.expect_exit(run)
        # clang's driver compiles in its own process; whatever else a program starts has files of other names.
        profiles[rate] = run.profile("heap.prof")
    for kind in "alloc_space", "inuse_space":
        truth, variance = bytes_by_function(profiles[1], kind), variances(profiles[1], kind)
        estimates = bytes_by_function(profiles[RATE], kind)
        for function, exact in truth.most_common(1 + LARGEST):
            allowed = 4 * math.sqrt(variance[function]) + 0.01 * exact
            t.expect_near("%s of %s" % (kind, function or "all"), estimates[function], exact, allowed, run)
