"""What no profile needs is not in the program's way: its calls lead straight to libc, or to the allocator that it has."""

import struct

from allocator_tests import preload
from runner import each, test

PROGRAMS = ["slots_lazy", "slots_now", "slots_holes", "slots_no_pie"]
HEAP = {"malloc", "free", "realloc"}
LOCK = {"pthread_mutex_lock"}
UNLOCK = {"pthread_mutex_unlock", "pthread_cond_signal"}
COND = {"pthread_cond_wait@GLIBC_2.2.5", "pthread_cond_wait@GLIBC_2.3.2"}
ALL = HEAP | LOCK | UNLOCK | COND
CPU_ONLY = {"MEMPROFILERATE": 0}
# What is asked for besides a CPU profile, and the functions that are ours then.
KINDS = {
    "cpu": (CPU_ONLY, set()),
    "heap": ({"MEMPROFILERATE": None}, HEAP),
    "block": ({"MEMPROFILERATE": 0, "BLOCKPROFILE": "block.prof"}, LOCK | COND),
    "mutex": ({"MEMPROFILERATE": 0, "MUTEXPROFILE": "mutex.prof"}, LOCK | UNLOCK | COND),
    "block rate of 0": ({"MEMPROFILERATE": 0, "BLOCKRATE": 0}, set()),
    "all": ({"BLOCKPROFILE": "block.prof", "MUTEXPROFILE": "mutex.prof"}, ALL),
}


def whose(t, run):
    """Of each function, whose the program's slots and dlsym say that it is, and how the slots are protected."""
    t.expect_exit(run, 7)
    t.expect_silent(run)
    libraries, protections = {}, set()
    for line in run.out.decode().splitlines():
        how, name, library, *protection = line.split()
        libraries.setdefault(name, []).append(library)
        protections.update(protection)
    t.expect(set(libraries) == ALL, "the program knows %s" % sorted(libraries), run)
    return libraries, protections


def expect_ours(t, run, ours, others="libc.so.6"):
    libraries, protections = whose(t, run)
    for name, found in libraries.items():
        expected = t.agent.name if name in ours else others
        t.expect(set(found) == {expected}, "%s leads to %s, expected %s" % (name, found, expected), run)
    return protections


@each((program, kind) for program in PROGRAMS for kind in KINDS)
def only_what_a_profile_needs_is_ours(t, program, kind):
    env, ours = KINDS[kind]
    plain = whose(t, t.run(program, agent=False))[1]
    protections = expect_ours(t, t.run(program, env=env), ours)
    t.expect(protections == plain, "the slots are %s, %s without us" % (protections, plain))


@each(PROGRAMS)
def the_allocator_behind_us_is_called(t, program):
    run = t.run(program, env={**CPU_ONLY, "LD_PRELOAD": preload(t, "jemalloc", "after")})
    libraries = whose(t, run)[0]
    for name in HEAP:
        t.expect(set(libraries[name]) == {"libjemalloc.so.2"}, "%s leads to %s" % (name, libraries[name]), run)


@test()
def data_of_the_allocator_behind_us_leads_to_it(t):
    library = t.tools.programs / "libforwarding_allocator.so"
    run = t.run("slots_now", env={**CPU_ONLY, "LD_PRELOAD": "%s:%s" % (t.agent, library)})
    t.expect(b"data malloc" in run.out, "not of that allocator", run)
    t.expect(set(whose(t, run)[0]["malloc"]) == {library.name}, "malloc leads elsewhere", run)


def with_program_headers_at_the_end(library, copy):
    """As llvm-bolt leaves it (rustc's libraries)."""
    image = bytearray(library.read_bytes())
    start, size, count = struct.unpack_from("<Q", image, 32) + struct.unpack_from("<HH", image, 54)
    headers = image[start : start + size * count]
    image += bytes(-len(image) % 8)
    struct.pack_into("<Q", image, 32, len(image))
    copy.write_bytes(image + headers)
    return copy


@each((headers, allocator) for headers in ["first", "last"] for allocator in ["glibc", "jemalloc"])
def what_is_read_only_is_left_alone(t, headers, allocator):
    library = t.tools.programs / "libread_only_words.so"
    if headers == "last":
        library = with_program_headers_at_the_end(library, t.dir / library.name)
    env = {**CPU_ONLY, "MEMPROFILERATE": 0 if allocator == "glibc" else None}
    run = t.run("slots_now", env={**env, "LD_PRELOAD": "%s:%s" % (preload(t, allocator, "before"), library)})
    t.expect_exit(run, 7)
    t.expect_silent(run)


@test()
def nothing_is_ours_where_nothing_is_recorded(t):
    run = t.run("slots_now", env={**CPU_ONLY, "CPUPROFILE": None})
    expect_ours(t, run, set())
    child = t.run("/bin/sh", "-c", "%s; exit $?" % t.program("slots_now"), env={"MEMPROFILERATE": None, "PROFAGENT_CHILDREN": 0})
    expect_ours(t, child, set())
