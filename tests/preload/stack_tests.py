"""Stacks that a walk could fall off, and code that it cannot trust."""

import math
import random
import re
import shutil
import subprocess

from harness import Skip, signal_tick_hz
from runner import each, test


@each([("painted", "work_on_plain_stack"), ("painted_search", "add_without_cfi")])
def handler_uses_at_most_2_kib_of_stack(t, how, function):
    # Threads have 16 KiB stacks, Rust gives each an alternate stack of 8 KiB, and the kernel's frame takes 3.3 KiB with AVX-512.
    run = t.run("alternate_stack", how, hz=1000)
    t.expect_exit(run)
    kernel, used = map(int, run.out.split())
    t.expect(used > kernel, "no signal arrived on the alternate stack", run)
    t.note("the kernel's frame %d bytes, the handler %d" % (kernel, used - kernel))
    t.expect(used - kernel <= 2048, "the handler uses %d bytes of stack" % (used - kernel), run)
    t.expect_work(run, function, 0.5)


@each([("in_handler", "work_in_handler", 0.2), ("nested", "work_in_nested_handler", 0.2), ("nested", "work_in_handler", 0.2),
       ("autodisarm", "work_in_handler", 0.2), ("in_handler_with_room", "work_in_handler", 0.2), ("switch", "work_on_plain_stack", 0.3), ("switch", "work_in_handler", 0.2)])
def work_in_handlers_on_alternate_stacks(t, how, function, seconds):
    # The walk starts on the alternate stack and crosses the signal frame to the interrupted code.
    run = t.run("alternate_stack", how, hz=1000)
    t.expect_exit(run)
    t.expect_silent(run)
    profile = t.expect_work(run, function, seconds)
    whole = sum(s.values[0] for s in profile.stacks_with(function) if s.locations and
                any(line.function.name == "main" for location in s.locations for line in location.lines))
    t.expect(whole >= 0.98 * profile.cum(function), "only %d of %d ticks reach main" % (whole, profile.cum(function)), run)


@test()
def alternate_stack_that_is_too_small_for_any_signal(t):
    # MINSIGSTKSZ says 2048 bytes; the kernel's frame alone is 3.3 KiB with AVX-512. The program never runs a handler
    # there; a profiler that asks for SA_ONSTACK does, and the kernel kills the program.
    plain = t.run("alternate_stack", "tiny", agent=False)
    t.expect_exit(plain)
    run = t.run("alternate_stack", "tiny", hz=1000)
    t.expect_exit(run)
    t.expect_silent(run)


@test()
def alternate_stack_that_all_threads_share(t):
    # varnishd: a stack for the handler of a crash, one for all threads. Ticks in several at once overwrote each other: SIGSEGV.
    run = t.run("alternate_stack", "shared", hz=1000)
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect_work(run, "work_on_plain_stack", 4)


@each(["main", "threads"])
def coroutines_on_stacks_of_their_own(t, where):
    # The stack pointer is outside of the thread's stack; the pages around the coroutine's stack are unreadable.
    run = t.run("coroutines", where, hz=1000)
    t.expect_exit(run)
    t.expect_silent(run)
    times = 2 if where == "threads" else 1
    profile = t.expect_work(run, "coroutine_work", 0.32 * times)
    t.expect_work(run, "main_work", 0.08 * times)
    inside = sum(s.values[0] for s in profile.stacks_with("coroutine_work") if
                 sum(line.function.name == "Body" for location in s.locations for line in location.lines) >= 11)
    t.expect(inside >= 0.95 * profile.cum("coroutine_work"),
             "only %d of %d ticks show the coroutine's eleven callers" % (inside, profile.cum("coroutine_work")), run)


@test()
def longjmp_out_of_a_handler(t):
    # State kept over a handler (a flag, a lock, a mask) would stay set for ever.
    run = t.run("jumps", hz=1000)
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect(run.out == b"200 jumps\n", "jumps were lost", run)
    t.expect_work(run, "work_after_jump", 0.4)
    t.expect_work(run, "work_in_handler", 0.2)


@each(["main", "thread"])
def deep_recursion_is_cut_and_counted(t, where):
    # 100 000 frames: the walk must end at the limit, keep the leaf side and say that the root is missing.
    run = t.run("deep", 100000 if where == "main" else 400000, *(["thread"] if where == "thread" else []), hz=250)
    t.expect_exit(run)
    t.expect_silent(run)
    profile = t.expect_work(run, "deep_work", 0.3)
    stacks = profile.stacks_with("deep_work")
    for sample in stacks:
        names = [line.function.name for location in sample.locations for line in location.lines]
        t.expect(len(names) <= 128, "%d frames" % len(names), run)
        t.expect(names[-1] == "[truncated]", "the root side is %s" % names[-3:], run)
        t.expect("recurse" in names, "no callers: %s" % names[:4], run)
    t.expect(profile.losses().get("stacks_depth_limit", 0) >= 10, "the cut is not counted: %s" % profile.comments, run)


@each([(16, 16), (1024, 1024)])
def depth_limit_can_be_chosen(t, limit, depth):
    run = t.run("deep", 5000, hz=250, env={"PROFAGENT_MAXDEPTH": limit})
    t.expect_exit(run)
    t.expect_silent(run)
    profile = t.expect_work(run, "deep_work", 0.3)
    deepest = max(len(s.locations) for s in profile.samples)
    t.expect(deepest == depth, "the deepest stack has %d frames" % deepest, run)


@test()
def exceptions_in_a_library_of_a_c_program(t):
    # A preloaded unwinder takes over _Unwind_RaiseException when libgcc_s is a dependency of a dependency, and a signal
    # in the middle of a throw must not disturb the throw.
    run = t.run("exceptions", hz=1000)
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect_work(run, "throw_and_catch", 0.8)


@each([("leaf", "spin_without_cfi", "Leaf"), ("framed", "framed_without_cfi", "Framed"), ("adding", "add_without_cfi", "many_additions"),
       ("middle", "work_below_no_cfi", "call_without_cfi")])
def code_without_unwind_information(t, how, function, caller):
    # Hand-written assembly: the leaf is right whatever becomes of the callers. A profile of a program that lives in GMP, x264 or
    # OpenBLAS is worth little when it does not say who called them.
    run = t.run("wild_frames", how, hz=1000)
    t.expect_exit(run)
    t.expect_silent(run)
    profile = t.expect_work(run, function, 0.3, slack=0.1 if how == "adding" else 0.03)  # its caller works, too
    if how == "middle":
        return
    inside = [s for s in profile.stacks_with(function) if s.locations[0].lines[0].function.name == function]
    whole = sum(s.values[0] for s in inside if s.locations[1].lines[0].function.name == caller and
                any(line.function.name == "main" for location in s.locations for line in location.lines))
    ticks = sum(s.values[0] for s in inside)
    t.expect(whole >= 0.98 * ticks, "only %d of %d ticks are called by %s and reach main" % (whole, ticks, caller), run)


@test()
def goroutine_ends_at_its_first_function(t):
    # Go code has no unwind information but frame pointers. What was left on the stack above a goroutine's first function, return
    # addresses of calls long over, is not its caller.
    run = t.run("wild_frames", "goroutine", hz=1000)
    t.expect_exit(run)
    t.expect_silent(run)
    profile = t.expect_work(run, "goroutine_first", 0.3)
    inside = profile.stacks_with("goroutine_first")
    alone = sum(s.values[0] for s in inside if len(s.locations) == 1)
    ticks = sum(s.values[0] for s in inside)
    t.expect(alone >= 0.98 * ticks, "only %d of %d ticks end there" % (alone, ticks), run)


@each([("pointer", "pointer_third", ["pointer_second", "pointer_without_cfi", "Pointer"]),
       ("pointer_leaf", "pointer_leaf", ["pointer_second", "pointer_without_cfi", "Pointer"]),
       ("switched", "spin_with_cfi", ["switch_to_thread", "switch_first"]),
       ("switched_bare", "framed_without_cfi", ["switch_to_thread", "switch_first"])])
def frame_pointers_are_followed_where_there_is_nothing_else(t, how, function, callers):
    # Go code calls by pointers (interfaces, closures) and changes stacks (asmcgocall, systemstack): callers were left out, others were
    # made up of old return addresses, and C called by Go had no Go caller.
    run = t.run("wild_frames", how, hz=1000)
    t.expect_exit(run)
    t.expect_silent(run)
    profile = t.expect_work(run, function, 0.3)
    stacks = [([line.function.name for location in s.locations for line in location.lines], s.values[0])
              for s in profile.stacks_with(function)]
    whole = sum(ticks for names, ticks in stacks if names[1:len(callers) + 1] == callers and
                (how.startswith("pointer") or len(names) == len(callers) + 1))
    ticks = sum(ticks for _, ticks in stacks)
    t.expect(whole >= 0.98 * ticks, "only %d of %d ticks have the callers %s: %s" % (whole, ticks, callers, stacks[:3]), run)


WILD = {"end": "-8", "last_byte": "-1", "near_end": "-4096", "null": "0", "one": "1", "kernel": "-140737488355328",
        "hole": "0x7000000000000000", "low": "4096"}


@each(sorted(WILD))
def stack_and_frame_pointer_point_anywhere(t, where):
    # Additions to a pointer near 2^64 overflow: `bp + 16 <= limit` held, and a profiler's walk crashed clang.
    value = WILD[where]
    for rsp, rbp in ((value, value), (value, "64"), ("-16", value)):
        directory = t.new_dir("%s_%s" % (rsp, rbp))
        if rsp == WILD["hole"] and t.run("wild_frames", "registers", rsp, rbp, agent=False, cwd=directory).status != 0:
            continue  # AMD's processors do not return from an interrupt to a stack pointer that is no address
        run = t.run("wild_frames", "registers", rsp, rbp, hz=1000, cwd=directory)
        t.expect_exit(run)
        t.expect_silent(run)
        t.expect_work(run, "spin_with_registers", 0.3)


@each([1, 2, 3, 4, 5, 6])
def unwind_tables_are_scribbled_over(t, seed):
    # Packers, obfuscators and bad linkers: the tables are readable and wrong. No crash, no endless walk.
    run = t.run("wild_frames", "broken_eh_frame", t.program("libvictim.so"), seed, hz=1000)
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect_work(run, "victim_work_inner", 0.3)


@each([11, 12, 13, 14])
def library_with_broken_unwind_tables(t, seed):
    # The same in the file, so that everything that reads it when it is loaded sees the damage too.
    objcopy = t.need("objcopy")
    library, noise = t.dir / "libvictim.so", t.dir / "noise"
    shutil.copy(t.program("libvictim.so"), library)
    generator = random.Random(seed)
    for section in ".eh_frame", ".eh_frame_hdr":
        subprocess.run([objcopy, "-O", "binary", "--only-section=" + section, library, noise], check=True)
        data = bytearray(noise.read_bytes())
        if not data:
            raise Skip("libvictim.so has no %s" % section)
        for _ in range(max(4, len(data) // (4 if seed % 2 else 20))):
            data[generator.randrange(len(data))] = generator.choice([0, 0xff, 0x80, 0x7f, generator.randrange(256)])
        noise.write_bytes(data)
        subprocess.run([objcopy, "--update-section", "%s=%s" % (section, noise), library], check=True, stderr=subprocess.DEVNULL)
    run = t.run("wild_frames", "broken_eh_frame", library, seed, hz=1000)
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect_work(run, "victim_work_inner", 0.3)


@test()
def library_without_unwind_tables(t):
    # Built with -fno-asynchronous-unwind-tables, as embedded people do.
    run = t.run("wild_frames", "broken_eh_frame", t.program("libvictim_bare.so"), 1, hz=1000)
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect_work(run, "victim_work_inner", 0.3)


@each(["timer", "perf"])
def library_at_the_address_of_a_closed_one(t, engine):
    # A plug-in host: the second library lands exactly where the first was. Names and recipes cached by address would be
    # the first one's.
    run = t.run("dlclose_reuse", t.program("libreuse_first.so"), t.program("libreuse_second.so"), 20, hz=1000,
                env={"PROFAGENT_CPU_ENGINE": engine})
    t.expect_exit(run)
    t.expect_silent(run)
    reused = int(run.out.split()[0])
    if reused < 20:
        raise Skip("the loader did not reuse addresses: %s" % run.out)
    profile = run.profile()
    first, second = profile.cum("first_inner"), profile.cum("second_inner")
    # One signal a tick with perf events. Timers fire at the kernel's tick, and a busy machine misses every other of those.
    exact = any("perf" in comment for comment in profile.comments)
    signals = (first + second) * (1 if exact else min(1, signal_tick_hz() / 1000) / 2)
    t.expect(first + second > 400, "only %d ticks in the two libraries" % (first + second), run)
    t.expect_near("share of the first library", first / (first + second), 0.1, 4 * math.sqrt(0.09 / signals), run)
    for inner, outer in (("first_inner", "first_library"), ("second_inner", "second_library")):
        for sample in profile.stacks_with(inner):
            names = [line.function.name for location in sample.locations for line in location.lines]
            t.expect(outer in names, "%s without its caller: %s" % (inner, names), run)
            module = sample.locations[0].mapping.filename
            if names[0] == inner:
                t.expect(re.search(inner.split("_")[0], module), "%s is attributed to %s" % (inner, module), run)
