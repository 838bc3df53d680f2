"""Programs and libraries of every make: loaded late, closed, replaced, stripped, oddly named. Names must be right or absent."""

import gzip
import os
import re
import shutil
import signal
import time

from harness import Skip
from runner import each, test


@each(["worker_no_pie", "worker_lazy", "worker_frame_pointers"])
def programs_linked_otherwise(t, program):
    run = t.run(program, 300, 7, hz=250)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect_work(run, "app_work", 0.3)
    t.expect_work(run, "main", 0.3)
    t.expect("app_work" in t.expect_pprof_agrees(t.dir / "cpu.prof"), "go tool pprof shows no names", run)


@each([(code, work) for code in ("segments", "segments_no_pie", "segments_large_pages", "libsegments.so")
       for work in ("near", "far", "hole")])
def code_in_segments_with_holes_between_them(t, code, work):
    # Each segment has its own distance between address and file; what is in the hole is none of the object's.
    is_library = code.endswith(".so")
    program = "segments" if is_library else code
    code = str(t.program(code))
    run = t.run(program, *(["library", code] if is_library else []), work, 300, hz=250)
    t.expect_exit(run)
    t.expect_silent(run)
    profile = t.expect_work(run, work + "_work", 0.3)
    t.expect_work(run, "main", 0.3)
    first = next(iter(profile.mappings.values()))
    t.expect(first.filename == str(t.program(program)) and first.start and first.build_id, "mapping[0] is %s" % (first,), run)
    for location in profile.locations.values():
        mapping = profile.mappings.get(location.mapping)
        t.expect(mapping is None or mapping.start <= location.address < mapping.limit,
                 "%#x is outside of its mapping %s" % (location.address, mapping), run)
    leaf = profile.by_leaf().most_common(1)[0][0]
    t.expect(leaf == work + "_work" if work != "hole" else re.fullmatch("0x[0-9a-f]+", leaf), "the hottest leaf is %s" % leaf, run)
    t.expect_pprof_agrees(t.dir / "cpu.prof")

    # The offsets of a separate debug file are not those of the file that ran.
    kept = t.dir / "kept.debug"
    t.run(t.need("objcopy"), "--only-keep-debug", code, kept, agent=False)
    build_id = next(m.build_id for m in profile.mappings.values() if os.path.samefile(m.filename, code))
    place = t.dir / "debug/.build-id" / build_id[:2]
    place.mkdir(parents=True)
    os.rename(kept, place / (build_id[2:] + ".debug"))
    for text in "whole", "debug":
        source = t.dir / "cpu.prof"
        if text == "debug":  # the path leads nowhere
            data = gzip.decompress(source.read_bytes())
            source = t.dir / "moved.prof"
            source.write_bytes(data.replace(code.encode(), b"/" * len(code)))
        done = t.run(t.profagent, "symbolize", "--debug-path", t.dir / "debug", "-o", t.dir / (text + ".prof"), source, agent=False)
        t.expect_exit(done)
        named = run.profile(text + ".prof")
        lines = {(line.function.name, os.path.basename(line.function.filename)) for location in named.locations.values()
                 for line in location.lines if line.line}
        t.expect((work + "_work", "segments.c") in lines, "symbolized with the %s: %s" % (text, sorted(lines)), done)


@each(["bfd -Wl,-z,noseparate-code", "bfd -no-pie -fno-pie -Wl,-Ttext-segment=0x10000000", "gold", "gold -no-pie -fno-pie",
       "lld-14", "lld-14 -Wl,-z,separate-loadable-segments", "lld-14 -Wl,-z,noseparate-code -Wl,--no-rosegment",
       "lld-14 -no-pie -fno-pie -Wl,-z,max-page-size=0x200000"])
def layouts_of_other_linkers(t, how):
    # Segments that share a page of the file, or have holes between them; one segment for all.
    linker, *options = how.split()
    t.need("ld." + linker)
    compiler = "clang-14" if linker == "lld-14" else "gcc"
    source = t.tools.source
    program = t.dir / "worker"
    built = t.run(t.need(compiler), "-fuse-ld=" + linker, "-O2", "-g", "-D_GNU_SOURCE", "-w", "-I", source, *options,
                  source / "tests/preload/programs/worker.c", "-o", program, agent=False)
    t.expect_exit(built)
    run = t.run(program, 300, 7, hz=250)
    t.expect_exit(run, 7)
    profile = t.expect_work(run, "app_work", 0.3)
    t.expect_work(run, "main", 0.3)
    t.expect(next(iter(profile.mappings.values())).filename == str(program), "mappings: %s" % profile.mappings, run)
    t.expect_exit(t.run(t.profagent, "symbolize", "-o", t.dir / "named.prof", t.dir / "cpu.prof", agent=False))
    named = run.profile("named.prof")
    lines = {line.function.name for location in named.locations.values() for line in location.lines
             if line.line and line.function.filename.endswith("worker.c")}
    t.expect(lines == {"app_work", "main"}, "functions with lines: %s" % lines, run)


@test()
def stripped_program_shows_addresses(t):
    # No name is better than the nearest exported one.
    run = t.run("worker_stripped", 300, 7, hz=250)
    t.expect_exit(run, 7)
    leaves = run.profile().by_leaf()
    name = leaves.most_common(1)[0][0]
    t.expect(re.fullmatch(r"worker_stripped\+0x[0-9a-f]+", name), "leaves: %s" % leaves.most_common(4), run)


@test()
def program_built_for_gprof(t):
    # libc's profil sets SIGPROF's handler and the timer from inside libc, where nobody interposes.
    plain = t.run("worker_gprof", 400, 7, agent=False)
    os.rename(t.dir / "gmon.out", t.dir / "plain.gmon")
    run = t.run("worker_gprof", 400, 7, hz=250)
    t.expect((run.status, run.out, run.err) == (plain.status, plain.out, plain.err), "behaves otherwise", run)
    t.expect((t.dir / "gmon.out").exists(), "gprof's own output is missing", run)
    profile = run.profile()
    t.expect(profile.cum("app_work", "cpu") > 0.35e9 or profile.losses().get("handler_replaced", 0),
             "time is missing and the comments do not say so: %s" % profile.comments, run)


@each(["timer", "perf"])
def gprof_that_begins_before_the_agent(t, engine):
    # Its end put SIG_DFL back behind our handler: `Profiling timer expired` in the destructors of libraries.
    plain = t.run("gprof_early", agent=False)
    os.rename(t.dir / "gmon.out", t.dir / "plain.gmon")
    run = t.run("gprof_early", hz=250, env={"PROFAGENT_CPU_ENGINE": engine})
    t.expect((run.status, run.out, run.err) == (plain.status, plain.out, plain.err), "behaves otherwise", run)
    t.expect(os.path.getsize(t.dir / "gmon.out") == os.path.getsize(t.dir / "plain.gmon"), "gprof's output differs", run)
    t.expect_work(run, "library_work", 0.3)
    t.expect_work(run, "ending_work", 0.2)


@test()
def program_that_is_deleted_while_it_runs(t):
    # Updates replace binaries under running services. Without the file there may be no names, but no wrong ones either.
    path = t.dir / "service"
    shutil.copy(t.program("ends"), path)
    running = t.start(path, "wait", hz=250)
    running.wait_for_output(b"ready")
    os.unlink(path)
    time.sleep(0.1)
    running.signal(signal.SIGTERM)
    run = running.finish()
    t.expect_signal(run, signal.SIGTERM)
    leaf = run.profile().by_leaf().most_common(1)[0][0]
    t.expect(leaf == "work_before_end" or leaf.startswith("service+0x"), "the hottest leaf is called %s" % leaf, run)


@test()
def program_that_is_replaced_while_it_runs(t):
    # The new file at the old path has another build-id: its symbols are not those of what runs.
    path = t.dir / "service"
    shutil.copy(t.program("ends"), path)
    running = t.start(path, "wait", hz=250)
    running.wait_for_output(b"ready")
    os.unlink(path)
    shutil.copy(t.program("signals"), path)
    time.sleep(0.1)
    running.signal(signal.SIGTERM)
    run = running.finish()
    t.expect_signal(run, signal.SIGTERM)
    leaf = run.profile().by_leaf().most_common(1)[0][0]
    t.expect(leaf == "work_before_end" or leaf.startswith("service+0x"), "the hottest leaf is called %s" % leaf, run)


@each(["with space", "caf\u00e9", "new\nline", "quote\"s", "percent%d%s", "-dash", "x" * 255])
def odd_names_of_programs(t, name):
    path = t.dir / name
    shutil.copy(t.program("worker"), path)
    run = t.run(path, 200, 7, hz=250)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    profile = t.expect_work(run, "app_work", 0.2)
    program = next(iter(profile.mappings.values()))
    t.expect(os.path.basename(program.filename) == name, "the program is called %r" % program.filename, run)
    t.expect_pprof_agrees(t.dir / "cpu.prof")


@test()
def profile_name_with_odd_characters(t):
    run = t.run("worker", 200, 7, hz=250, env={"CPUPROFILE": t.dir / "a b\u00e9%%.prof"})
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect_work(run, "app_work", 0.2, name="a b\u00e9%.prof")


@test()
def command_line_of_a_megabyte(t):
    run = t.run("worker", 200, 7, *(["y" * 1000] * 1000), hz=250)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect_work(run, "app_work", 0.2)


@test()
def work_in_a_constructor_during_dlopen(t):
    # The loader's lock is held; also, the library takes most of the thread-local storage that dlopen can still give.
    run = t.run("plugins", "open", t.program("libconstructor.so"), hz=1000)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect_work(run, "constructor_work", 0.2)


@test()
def crash_in_a_constructor_during_dlopen(t):
    # Whoever asks the loader for its list of libraries now waits for a lock of his own thread, or of a dead one.
    run = t.run("plugins", "open", t.program("libconstructor.so"), hz=1000, env={"CRASH_IN_CONSTRUCTOR": 1})
    t.expect_signal(run, signal.SIGABRT)
    t.expect_silent(run)
    t.expect_work(run, "constructor_work", 0.2)


@each(["first", "last"])
def library_that_was_opened_before_the_agent_is_closed(t, order):
    # It was taken for one that stays: what came in its place had its names, and was unwound by what was no more there.
    opening = t.program("libopening.so")
    libraries = [str(opening), str(t.agent)] if order == "first" else [str(t.agent), str(opening)]
    run = t.run("plugins", "opened_before", t.program("libreuse_second.so"), hz=250,
                env={"LD_PRELOAD": ":".join(libraries), "LIBRARY_TO_OPEN": t.program("libreuse_first.so")})
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect_work(run, "first_inner", 0.2)
    t.expect_work(run, "second_inner", 0.2)


@test()
def libraries_come_and_go_in_threads(t):
    # The first load is kept open by nobody: each round maps and unmaps what the other thread may be walking past.
    other = t.dir / "libother.so"
    shutil.copy(t.program("libvictim.so"), other)
    run = t.run("plugins", "threads", t.program("libvictim.so"), other, hz=1000)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    profile = t.expect_work(run, "victim_work_inner", 0.24, tolerance=0.25)
    for name in profile.by_leaf():
        t.expect(not name.startswith(("first_", "second_")), "a name from nowhere: %s" % name, run)
    t.expect(len(profile.mappings) < 2000, "%d mappings" % len(profile.mappings), run)


@each(["reopens", "other", "destructor"])
def forked_workers_name_what_was_closed_before(t, how):
    # apache2 after a reload, its modules where they were: the workers' frames were "[module 12]+0xc206".
    run = t.run("forks_after_close", how, t.program("libreuse_first.so"), t.program("libreuse_second.so"), hz=1000)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    child, = (name for name in run.profiles() if name.startswith("cpu.prof."))
    profile = t.expect_work(run, "first_inner", 0.2, name=child)
    for sample in profile.stacks_with("first_inner"):
        for location in sample.locations:
            name = location.lines[0].function.name
            if name.startswith("first_"):
                t.expect("libreuse_first" in location.mapping.filename, "%s of no library" % name, run)
            t.expect(not name.startswith("[module"), "a frame of no library: %s" % name, run)


@test()
def forks_when_libc_has_closed_libraries_of_its_own(t):
    # iconv's, not through dlclose: the child read the headers of what was unmapped, and died of SIGSEGV.
    run = t.run("forks_after_close", "iconv", env={"HEAPPROFILE": "heap.prof", "MEMPROFILERATE": 1})
    if run.status == 77:
        raise Skip("iconv does not know all character sets here")
    t.expect_exit(run, 7)
    t.expect_silent(run)


@test()
def forks_while_another_thread_closes_a_library(t):
    # One child in two hundred died of SIGSEGV: what the thread was closing looked as if it were there.
    run = t.run("forks_after_close", "closing", t.program("libreuse_first.so"), hz=1000,
                env={"HEAPPROFILE": "heap.prof", "MEMPROFILERATE": 1})
    t.expect_exit(run, 7)
    t.expect_silent(run)


@test()
def second_libc_in_a_namespace_of_its_own(t):
    run = t.run("plugins", "namespace", t.program("libvictim.so"), hz=1000)
    t.expect_exit(run, 7)
    t.expect_silent(run)
    t.expect_work(run, "victim_work_inner", 0.3)


@test()
def proc_is_not_mounted(t):
    # Minimal containers and chroots: no /proc/self/exe, no maps.
    t.need_root()
    worker = t.program("worker")
    for started in worker, "./worker":
        script = "mount -t tmpfs tmpfs /proc || exit 88; cd %s; exec env LD_PRELOAD=%s CPUPROFILE=%s/%%e.prof %s 300 7"
        run = t.run(t.need("unshare"), "--mount", "sh", "-c", script % (worker.parent, t.agent, t.dir, started), agent=False)
        if run.status == 88:
            raise Skip("cannot mount here")
        t.expect_exit(run, 7)
        t.expect(all(line.startswith(b"profagent: ") for line in run.err.splitlines()) and run.err.count(b"\n") <= 1, "stderr", run)
        profile = t.expect_work(run, "app_work", 0.3, name="worker.prof", tolerance=0.2)
        first = next(iter(profile.mappings.values()))
        t.expect(first.filename == str(worker) and first.build_id, "mapping[0] is %s" % (first,), run)
        os.unlink(t.dir / "worker.prof")


@each(["whole path", "./relative"])
def program_that_the_loader_is_started_with(t, how):
    # `ld.so ./app`: the kernel runs the loader, and says so wherever it is asked.
    worker = t.program("worker")
    loader = "/lib64/ld-linux-x86-64.so.2"
    if not os.path.exists(loader):
        raise Skip("no %s" % loader)
    run = t.run(loader, worker if how == "whole path" else "./worker", 300, 7, hz=250, cwd=worker.parent,
                env={"CPUPROFILE": t.dir / "%e.prof"})
    t.expect_exit(run, 7)
    t.expect_silent(run)
    run.directory = t.dir
    profile = t.expect_work(run, "app_work", 0.3, name="worker.prof")
    t.expect_work(run, "main", 0.3, name="worker.prof")
    first = next(iter(profile.mappings.values()))
    t.expect(first.filename == str(worker) and first.build_id, "mapping[0] is %s" % (first,), run)


@each(["unlimited", "65536", "1073741824"])
def stack_limits(t, limit):
    # The main thread's bounds come from RLIMIT_STACK, which may be unlimited.
    run = t.run("deep", 500, hz=250, prefix=[t.need("prlimit"), "--stack=%s:unlimited" % limit])
    t.expect_exit(run)
    t.expect_silent(run)
    t.expect_work(run, "deep_work", 0.3)


@each([("libprofiler.so.0",), ("libtcmalloc.so.4",), ("libtcmalloc_and_profiler.so.4",)])
def beside_gperftools(t, library):
    # Two profilers with one signal between them: one may lose, the program must not.
    path = "/usr/lib/x86_64-linux-gnu/" + library
    if not os.path.exists(path):
        raise Skip("%s is not installed" % path)
    for preload in "%s:%s" % (t.agent, path), "%s:%s" % (path, t.agent):
        directory = t.new_dir("a" if preload.endswith(library) else "b")
        run = t.run("worker", 300, 7, hz=250, cwd=directory, env={"LD_PRELOAD": preload})
        t.expect_exit(run, 7)


@each([("address",), ("thread",), ("undefined",)], full=True)
def sanitized_program(t, kind):
    # Sanitizers interpose what we interpose. (clang: its runtime is inside the program; gcc's libasan insists on being
    # the first library and says so itself.)
    clang = t.need("clang-14")
    binary = t.dir / "sanitized"
    source = t.tools.source
    built = t.run(clang, "-O1", "-g", "-fsanitize=" + kind, "-D_GNU_SOURCE", "-I", source, "-pthread", "-w",
                  source / "tests/preload/programs/threads.c", "-o", binary, agent=False)
    if built.status != 0:
        raise Skip("clang-14 has no %s runtime here" % kind)
    for how in "come_and_go", "named", "small_stacks":
        plain = t.run(binary, how, agent=False)
        run = t.run(binary, how, hz=1000)
        t.expect((run.status, run.out, run.err) == (plain.status, plain.out, plain.err), "behaves otherwise", run)
        if plain.status == 0:
            t.expect(run.profile().ticks() > 0, "nothing was recorded", run)
