"""Heap profiles over every allocator, in every order: all of its calls are seen, each once, and it behaves as without us."""

import os
import shutil

from harness import Skip
from pprof_reader import names_of
from runner import each, test

LIBRARIES = "/usr/lib/x86_64-linux-gnu/"
ALLOCATORS = {"jemalloc": "libjemalloc.so.2", "tcmalloc_minimal": "libtcmalloc_minimal.so.4", "tcmalloc": "libtcmalloc.so.4",
              "mimalloc": "libmimalloc.so.2"}
ORDERS = [("glibc", "alone"), *((name, order) for name in ALLOCATORS for order in ("before", "after"))]

# Functions of allocator_ways.h. Each allocates 7 blocks of 4288 bytes and keeps 3.
WAYS = ["malloc", "calloc", "realloc", "realloc_to_nothing", "reallocarray", "memalign", "aligned_alloc", "valloc", "posix_memalign",
        "free_sized", "free_aligned_sized", "mallocx", "rallocx", "strdup", "pointers"]
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


# Libraries of ours that are in the way of other calls.
OURS = ["nesting_allocator", "forwarding_allocator", "pool_allocator"]


def with_library(t, name, order):
    libraries = [str(t.agent), str(t.program("lib%s.so" % name))]
    return {"LD_PRELOAD": ":".join(libraries if order == "after" else reversed(libraries))}


@each(["before", "after"])
def library_whose_malloc_waits_for_its_constructor(t, order):
    # That runs after ours: the library was asked before what its malloc and calloc do, and jumped to 0.
    source = t.dir / "allocate.c"
    source.write_text("#include <stdlib.h>\nvoid* kept[10];\n__attribute__((noinline)) void allocate(void) {\n"
                      "  for (int i = 0; i < 10; ++i) kept[i] = calloc(1, 4288);\n}\n"
                      "int main(void) {\n  allocate();\n  free(kept[0]);\n  return 7;\n}\n")
    t.expect_exit(t.run(t.need("gcc"), "-w", "-fno-builtin", "-rdynamic", "-o", t.dir / "allocate", source, agent=False))
    env = {**with_library(t, "waiting_allocator", order), "CPUPROFILE": None, "MEMPROFILERATE": 1, "HEAPPROFILE": "heap.prof"}
    run = t.run(t.dir / "allocate", env=env)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    profile = run.profile("heap.prof")
    got = [profile.cum("allocate", kind) for kind in ("alloc_objects", "alloc_space", "inuse_objects", "inuse_space")]
    t.expect(got == [10, 42880, 9, 38592], "not what was allocated: %s" % got, run)


@each(ORDERS)
def every_way_to_allocate_is_counted(t, allocator, order):
    # An allocator that is preloaded before us takes malloc away from us; one behind us has an operator new of its own.
    for suffix in "", "_no_pie", "_now", "_large_pages":
        program = "allocator_family" + suffix
        expect_counts(t, run_family(t, allocator, order, "ways", program=program, cwd=t.new_dir(program)))


@each((name, order) for name, order in ORDERS if name != "mimalloc")  # Debian's is C: it aborts instead of throwing
def blocks_after_a_bad_alloc_are_counted(t, allocator, order):
    # The exception skips what the hook does behind the call: all further blocks would be taken for the allocator's own.
    expect_counts(t, run_family(t, allocator, order, "after_bad_alloc"))


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
        for program in "allocator_family", "allocator_family_no_pie":
            run = run_family(t, allocator, order, "plugin_" + how, t.program("lib%s.so" % library), program=program,
                             cwd=t.new_dir(how + library + program))
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


@each(ORDERS)
def libraries_come_and_go_over_any_allocator(t, allocator, order):
    # Two threads open, use and close; what is unmapped under them must not be looked into, nor remembered as done.
    copy = t.dir / "libcopy.so"
    shutil.copy(t.program("liballocator_plugin.so"), copy)
    run = run_family(t, allocator, order, "closes", t.program("liballocator_plugin_now.so"), copy, env={"MEMPROFILERATE": 512})
    t.expect(run.profile("heap.prof").cum("use_malloc", "alloc_space") > 0, "nothing was seen", run)


@each(ORDERS)
def deeply_bound_library_keeps_its_allocator(t, allocator, order):
    # RTLD_DEEPBIND binds it to libc's malloc: a free that led to another allocator would end the program.
    for how in "now", "lazy":
        run = run_family(t, allocator, order, "own_blocks_" + how, t.program("liballocator_plugin.so"), cwd=t.new_dir(how))
        profile = run.profile("heap.prof")
        for way in WAYS:
            got = profile.cum("use_" + way, "alloc_objects")
            t.expect(got >= BLOCKS, "%s: %d objects, expected at least %d" % (way, got, BLOCKS), run)


@each(ORDERS)
def library_that_is_opened_again_is_counted(t, allocator, order):
    expect_counts(t, run_family(t, allocator, order, "reopen", t.program("liballocator_plugin.so")), 4)


@test()
def loader_knows_a_library_when_it_is_relocated(t):
    # What slot_patch.h leans on: before that, a library's slots and their protection are still the loader's.
    run = t.run("allocator_family", "plugin_now", t.program("libself_finding.so"), agent=False)
    t.expect(run.out.startswith(b"found: 0 1 1"), "glibc does it in another order", run)


@each(["before", "after"])
def allocator_that_lacks_a_function_gets_no_foreign_block(t, order):
    # To find out how it works inside, we gave it what libc's aligned_alloc had given us.
    run = t.run("worker", 20, 7, env=with_library(t, "old_allocator", order))
    t.expect_exit(run, 7)
    t.expect_silent(run)


@each([(name, order) for name in OURS for order in ("before", "after")])
def library_in_the_way_counts_once(t, name, order):
    # A calloc that calls malloc by its name, a tracer that hands every call on, a pool that asks for large chunks.
    run = run_family(t, "glibc", "alone", "ways", env=with_library(t, name, order))
    expect_counts(t, run)
    chunks = [s for s in run.profile("heap.prof").samples if s.numbers.get("bytes", 0) >= 1 << 20]
    t.expect(not chunks, "an allocator's own needs are counted as the program's: %s" % chunks, run)


@each([(name, order) for name in OURS for order in ("before", "after")])
def library_in_the_way_counts_once_at_a_sampling_rate(t, name, order):
    # A call that is not a sample leaves no mark by which the call inside of it could be known.
    rate = 65536
    run = run_family(t, "glibc", "alone", "many", env={**with_library(t, name, order), "MEMPROFILERATE": rate})
    total = 20000 * SIZE
    error = rate * (total / rate) ** 0.5  # of a Poisson process
    t.expect_near("bytes", run.profile("heap.prof").cum("use_calloc_and_free", "alloc_space"), total, 5 * error, run)


@each([(name, order) for name in OURS for order in ("before", "after")])
def questions_to_an_allocator_are_no_samples(t, name, order):
    # Blocks by which we find out how its functions call each other were live to the end; they had the thread's first gap drawn, too,
    # and after them the program's first block was a sample at any rate.
    settings = {**with_library(t, name, order), "CPUPROFILE": None, "HEAPPROFILE": "heap.prof"}
    for rate, blocks in (1, 50), (10 ** 15, 0):
        run = t.run("heap", "peak", cwd=t.new_dir("rate%d" % rate), env={**settings, "MEMPROFILERATE": rate})
        t.expect_silent(run)
        samples = run.profile("heap.prof").samples
        t.expect(sum(s.values[0] for s in samples) == blocks, "not %d blocks: %s" % (blocks, [(s.values, names_of(s)) for s in samples]), run)


def expect_same(t, program, env, plain_env, arguments=()):
    """Status and output with the agent, at the extreme rates, are those without."""
    plain = t.run(program, *arguments, agent=False, env=plain_env)
    for rate in 1, 524288, 0:
        run = t.run(program, *arguments, cwd=t.new_dir("rate%d" % rate), env={"CPUPROFILE": None, "MEMPROFILERATE": rate, **env})
        t.expect((run.status, run.out, run.err) == (plain.status, plain.out, plain.err), "rate %d: differs from\n%s\nin" % (rate, plain), run)
    return plain


@each(ORDERS)
def operators_of_the_program_stay_its_own(t, allocator, order):
    # Calls of libstdc++ that were not bound yet were led to the allocator's, whose blocks the program's operator delete got.
    plain = expect_same(t, "own_operators", {"LD_PRELOAD": preload(t, allocator, order)},
                        {"LD_PRELOAD": preload(t, allocator, order, agent=False) or None})
    t.expect_exit(plain, 7)


@each(ORDERS)
def memory_is_asked_for_at_the_ends_of_things(t, allocator, order):
    # Thread-local destructors, keys of threads that are nearly gone, exit handlers, destructors.
    plain = expect_same(t, "allocation_times", {"LD_PRELOAD": preload(t, allocator, order)},
                        {"LD_PRELOAD": preload(t, allocator, order, agent=False) or None})
    t.expect_exit(plain, 7)


@test()
def resolver_asks_for_memory(t):
    # An IFUNC resolver of the program runs before any constructor.
    t.expect_exit(expect_same(t, "allocating_resolver", {}, {}), 7)


@each([(name, order) for name in ["allocating_dlsym", "early_allocations", *OURS] for order in ("before", "after")])
def library_asks_for_memory_at_odd_times(t, name, order):
    # Before our constructor, inside the dlsym that looks libc's functions up, after our destructors.
    env = with_library(t, name, order)
    plain = expect_same(t, "allocation_times", env, {"LD_PRELOAD": str(t.program("lib%s.so" % name))})
    t.expect_exit(plain, 7)
    expect_counts(t, run_family(t, "glibc", "alone", "ways", env=env))


@test()
def program_with_an_allocator_of_its_own(t):
    # Nothing of it passes by: one line says so, and an empty profile is not taken for a program without a heap.
    for explicit in {"HEAPPROFILE": "heap.prof"}, {"MEMPROFILERATE": "1", "CPUPROFILE": "cpu.prof"}:
        run = t.run("allocator_family_own", "ways", cwd=t.new_dir(next(iter(explicit))), env={"CPUPROFILE": None, **explicit})
        t.expect_exit(run, 7)
        t.expect_one_error_line(run, "heap profile", "allocator of its own")
    run = t.run("allocator_family_own", "ways", hz=100, cwd=t.new_dir("quiet"))
    t.expect_exit(run, 7)
    t.expect_silent(run)
    checked = t.run(t.profagent, "check", t.program("allocator_family_own"), agent=False)
    t.expect(b"defines malloc and free itself" in checked.out, "check says nothing", checked)


@test()
def program_with_an_allocator_of_its_own_behaves(t):
    for how in "threads", "fork", "behaviour":
        plain = t.run("allocator_family_own", how, agent=False)
        run = t.run("allocator_family_own", how, hz=1000, cwd=t.new_dir(how))
        t.expect((run.status, run.out, run.err) == (plain.status, plain.out, plain.err), "differs from\n%s\nin" % plain, run)


@test()
def program_whose_allocator_is_not_ready_before_main(t):
    # GCL's (maxima) crashes when it is asked for memory before; whose malloc it is must not be found out by that.
    run = t.run("late_allocator", env={"CPUPROFILE": None, "HEAPPROFILE": "heap.prof"})
    t.expect_exit(run, 7)
    t.expect_one_error_line(run, "heap profile", "allocator of its own")
    run = t.run("late_allocator", hz=100, cwd=t.new_dir("quiet"))
    t.expect_exit(run, 7)
    t.expect_silent(run)


@test()
def program_that_hands_every_allocation_on(t):
    expect_counts(t, run_family(t, "glibc", "alone", "ways", program="allocator_family_hands_on"))


@each(["-static-libasan", "-shared-libasan"])
def program_with_the_address_sanitizer(t, flag):
    # Its allocator is in the program, or insists on being the first library.
    compiler, source = t.need("g++"), t.tools.source
    binary = t.dir / "sanitized"
    flags = [] if flag == "-shared-libasan" else [flag]  # g++'s default is the shared one
    built = t.run(compiler, "-std=c++20", "-O1", "-w", "-fsanitize=address", *flags, "-I", source, "-pthread",
                  source / "tests/preload/programs/allocation_times.cc", "-o", binary, agent=False)
    if built.status != 0:
        raise Skip("g++ has no address sanitizer here")
    env = {"ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=0"}
    plain = t.run(binary, agent=False, env=env)
    t.expect_exit(plain, 7)
    run = t.run(binary, env={**env, "CPUPROFILE": None, "HEAPPROFILE": "heap.prof"})
    t.expect((run.status, run.out) == (plain.status, plain.out), "differs from\n%s\nin" % plain, run)
    # (g++'s static one does not export its own functions, only the allocator's.)
    t.expect_one_error_line(run, "heap profile", "sanitizer" if flag == "-shared-libasan" else "allocator of its own")
