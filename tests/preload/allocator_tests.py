"""Heap profiles over every allocator, in every order: all of its calls are seen, each once, and it behaves as without us."""

import os

from harness import Skip
from runner import each, test

LIBRARIES = "/usr/lib/x86_64-linux-gnu/"
ALLOCATORS = {"jemalloc": "libjemalloc.so.2", "tcmalloc_minimal": "libtcmalloc_minimal.so.4", "tcmalloc": "libtcmalloc.so.4",
              "mimalloc": "libmimalloc.so.2"}
ORDERS = [("glibc", "alone"), *((name, order) for name in ALLOCATORS for order in ("before", "after"))]

# Functions of allocator_ways.h. Each allocates 7 blocks of 4288 bytes and keeps 3.
WAYS = ["malloc", "calloc", "realloc", "realloc_to_nothing", "reallocarray", "memalign", "aligned_alloc", "valloc", "posix_memalign",
        "strdup", "pointers"]
WAYS += ["new" + array + aligned + form for array in ("", "_array") for aligned in ("", "_aligned") for form in ("", "_sized", "_nothrow")]
BLOCKS, KEPT, SIZE = 7, 3, 67 * 64


def preload(t, allocator, order, agent=True):
    """LD_PRELOAD with `allocator` on that side of the agent."""
    libraries = [str(t.agent)] if agent else []
    if allocator != "glibc":
        path = LIBRARIES + ALLOCATORS[allocator]
        if not os.path.exists(path):
            raise Skip("%s is not installed" % path)
        libraries.insert(0 if order == "before" else len(libraries), path)
    return ":".join(libraries)


def run_family(t, allocator, order, *argv, program="allocator_family", cwd=None, env=None):
    settings = {"LD_PRELOAD": preload(t, allocator, order), "CPUPROFILE": None, "MEMPROFILERATE": 1, "HEAPPROFILE": "heap.prof"}
    run = t.run(program, *argv, cwd=cwd, env={**settings, **(env or {})})
    t.expect_exit(run, 7)
    expect_no_word(t, allocator, run)
    return run


def expect_no_word(t, allocator, run):
    """Nobody says anything, but gperftools' own heap profiler, which HEAPPROFILE starts too."""
    words = [line for line in run.err.splitlines() if allocator != "tcmalloc" or line.startswith(b"profagent: ")]
    t.expect(not words, "expected an empty stderr", run)


def expect_counts(t, run, times=1, name="heap.prof"):
    """Every way is in the profile, to the block and the byte."""
    profile = run.profile(name)
    # Without our seeing its free, a block is live until its address is somebody else's.
    t.expect(not profile.losses().get("heap_missed_frees", 0), "losses: %s" % profile.losses(), run)
    profile.samples = [s for s in profile.samples if s.numbers.get("bytes") == SIZE]
    wrong = []
    for way in WAYS:
        got = tuple(profile.cum("use_" + way, kind) for kind in ("alloc_objects", "alloc_space", "inuse_objects", "inuse_space"))
        want = tuple(times * n for n in (BLOCKS, BLOCKS * SIZE, KEPT, KEPT * SIZE))
        if got != want:
            wrong.append("%s: %s, expected %s" % (way, got, want))
    t.expect(not wrong, "not what was allocated (objects, bytes, live objects, live bytes):\n    " + "\n    ".join(wrong), run)


@each(ORDERS)
def every_way_to_allocate_is_counted(t, allocator, order):
    # An allocator that is preloaded before us takes malloc away from us; one behind us has an operator new of its own.
    for program in "allocator_family", "allocator_family_no_pie", "allocator_family_now":
        expect_counts(t, run_family(t, allocator, order, "ways", program=program, cwd=t.new_dir(program)))


@each(ORDERS)
def threads_allocate_over_any_allocator(t, allocator, order):
    expect_counts(t, run_family(t, allocator, order, "threads"), 4)


@each(ORDERS)
def forked_child_allocates_over_any_allocator(t, allocator, order):
    # The child frees what its parent allocated, which is not in its profile and must not count there.
    run = run_family(t, allocator, order, "fork")
    expect_counts(t, run)
    children = [name for name in run.profiles() if name.startswith("heap.prof.allocator_family")]
    t.expect(len(children) == 1, "profiles: %s" % run.profiles(), run)
    expect_counts(t, run, name=children[0])


@each(ORDERS)
def library_that_is_loaded_later_is_counted(t, allocator, order):
    for how, library in ("now", "allocator_plugin"), ("lazy", "allocator_plugin"), ("now", "allocator_plugin_now"):
        run = run_family(t, allocator, order, "plugin_" + how, t.program("lib%s.so" % library), cwd=t.new_dir(how + library))
        expect_counts(t, run, 2)


@each(ORDERS)
def allocator_behaves_as_without_us(t, allocator, order):
    # errno, alignment, zero sizes, overflows, usable sizes: programs depend on what their allocator makes of them.
    for rate in 1, 524288, 0:
        directory = t.new_dir(str(rate))
        arguments = ["behaviour"] + (["pvalloc"] if allocator != "jemalloc" else [])  # jemalloc cannot free libc's pages
        plain = t.run("allocator_family", *arguments, agent=False, env={"LD_PRELOAD": preload(t, allocator, order, agent=False) or None})
        run = t.run("allocator_family", *arguments, cwd=directory,
                    env={"LD_PRELOAD": preload(t, allocator, order), "CPUPROFILE": None, "MEMPROFILERATE": rate})
        t.expect((run.status, run.out, run.err) == (plain.status, plain.out, plain.err), "rate %d: differs from\n%s\nin" % (rate, plain), run)
