#!/usr/bin/env python3
"""Prints the golden profiles in many ways with profagent, and compares every byte.

With what: with the stored expectations (tests/golden/expected), which always works; and with `go tool pprof` on the same
file with the same options, where Go is installed. Go also writes profiles of its own for this, by go_program.go. Without
--full (PROFAGENT_TEST_FULL=1) every option is compared for some of the profiles, with it for all.

    viewer_golden_test.py --profagent EXE --make-profiles EXE --make-names EXE [--go-cache DIR] [--update]

--update writes the expectations, from what `go tool pprof` prints: never from what profagent prints.
"""

import argparse
import concurrent.futures
import glob
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
EXPECTED = HERE / "expected"

# scripts/test --full: every profile in every way.
FULL = os.environ.get("PROFAGENT_TEST_FULL") == "1"
QUICK_STEP = 4

# Stored for every profile. Together they show all columns, all kinds of places and all headers.
STORED = [
    "-top",
    "-top -cum -lines -nodecount=6",
    "-top -addresses -unit=auto",
    "-traces",
    "-raw",
]

# Compared with go tool pprof only.
COMPARED = STORED + [
    "-text",
    "-top -cum",
    "-top -cum=false -flat",
    "--top --nodecount 5",
    "-top -lines",
    "-top -addresses",
    "-top -files",
    "-top -filefunctions",
    "-top -functions=true",
    "-top -noinlines",
    "-top -addresses -noinlines",
    "-traces -noinlines",
    "-top -nodecount=5",
    "-top -nodecount=0x10 -lines",
    "-top -nodecount=0b11",
    "-top -nodecount=0o17 -nodefraction=0x1p-9",
    "-top -cum -nodecount 3 -lines",
    "-top -unit=ms -divide_by=3",
    "-top -unit=furlongs",
    "-top -unit=kb",
    "-top -divide_by=1e-3",
    "-top -divide_by=-2",
    "-top -divide_by=0",
    "-top -sample_index=0",
    "-top -sample_index=1",
    "-top -sample_index=cpu",
    "-top -sample_index=alloc_space",
    "-top -sample_index=inuse_nothing",
    "-top -sample_index=-1",
    "-top -sample_index=99",
    "-top -alloc_space",
    "-top -mean",
    "-top -mean -sample_index=0",
    "-top -trim=false",
    "-top -trim=false -lines -cum",
    "-top -nodefraction=0.1 -edgefraction=.2",
    "-top -nodefraction=0",
    "-top -nodefraction=0.02 -nodecount=20",
    "-top -nodefraction=1.5",
    "-top -edgefraction=0.5",
    "-top -edgefraction=1",
    "-top -focus=f",
    "-top -focus=f -ignore=g",
    "-top -ignore=^f$",
    "-top -hide=f",
    "-top -hide=main -lines",
    "-top -show=f -lines",
    "-traces -show=f|main",
    "-traces -hide=step|f",
    "-top -focus=no_such_function",
    "-top -focus=(unbalanced",
    "-traces -focus=\\.cc -ignore=lib",
    "-traces -show_from=main",
    "-traces -show_from=run|f",
    "-top -prune_from=f",
    "-traces -prune_from=run|^function_1",
    "-top -relative_percentages -focus=a",
    "-top -relative_percentages -ignore=a -cum",
    "-top -drop_negative",
    "-top -compact_labels",
    "-top -compact_labels -focus=f -hide=g",
    "-traces -mean",
    "-traces -tagfocus=thread=worker",
    "-traces -tagfocus=worker",
    "-traces -tagfocus=worker,main",
    "-traces -tagfocus=thread=worker,main",
    "-traces -tagfocus=1kb:10gb",
    "-traces -tagfocus=:2kb",
    "-traces -tagfocus=latency=1s:",
    "-traces -tagfocus=latency=1500ms",
    "-traces -tagfocus=-12345",
    "-top -tagignore=bytes=:2kb",
    "-top -tagignore=bytes",
    "-top -tagignore=",
    "-traces -tagshow=a",
    "-raw -taghide=a",
    "-raw -tagshow=thread|bytes -taghide=thread",
    "-traces -tagroot=thread,bytes -tagleaf=latency",
    "-raw -tagroot=bytes,thread",
    "-top -tagleaf=thread -cum",
    "-top -tagroot=thread -focus=worker",
    "-traces -lines",
    "-traces -addresses",
    "-traces -files",
    "-traces -nodecount=3",
    "-traces -sample_index=0 -unit=kb",
    "-raw -focus=f",
    "-raw -lines -noinlines",
    "-raw -hide=f -sample_index=0",
    "-top -symbolize=none",
    "-raw -symbolize=none",
    "-top -symbolize=none:local",
    "-top -symbolize=local:NONE",
    "-top -symbolize=remote:demangle=default",
    "-top -symbolize=nonsense",
    "-top -files -trim_path=/src:/a",
    "-top -files -source_path=/home/me/src:/x/project",
    "-top -lines -trim_path=/",
    "-top -add_comment=hello",
    "-top -buildid=f00",
    "-raw -buildid=",
    "-top -output=/dev/stdout",
]

# Which value is shown, of heap, block and mutex profiles: compared for those that the agent and Go write.
VALUES = [
    "-top -alloc_objects",
    "-top -inuse_space",
    "-top -inuse_objects",
    "-top -cum -sample_index=inuse_space",
    "-traces -sample_index=alloc_objects",
    "-raw -inuse_objects",
    "-top -total_delay",
    "-top -contentions",
    "-top -mean_delay",
    "-traces -mean_delay",
    "-top -contentions -total_delay",
    "-traces -tagfocus=lock=global_mu",
    "-traces -tagleaf=lock,bytes",
]

# The formatting of times follows the zone; the rest does not.
ZONES = ["UTC", "America/New_York", "Asia/Kolkata", "America/Sao_Paulo", "EST5EDT", "No/Such_Zone", ":Europe/Berlin", ""]
ZONE_OPTIONS = ["-top -nodecount=1", "-raw -focus=nothing"]

# Several files: merging and subtraction. Names of golden profiles.
SEVERAL = [
    ("-top", ["cpu", "many"]),
    ("-raw", ["cpu", "many"]),
    ("-raw", ["cpu", "cpu"]),
    ("-raw", ["cpu", "moved_cpu"]),
    ("-top", ["moved_cpu", "cpu", "drop_frames"]),
    ("-raw", ["cpu", "seconds"]),
    ("-traces", ["seconds", "cpu"]),
    ("-top", ["cpu", "heap"]),
    ("-raw", ["heap", "heap"]),
    ("-raw", ["unknown", "no_mapping", "labels"]),
    ("-top", ["cpu", "no_such_file"]),
    ("-raw", ["ff00", "cpu"]),
    ("-top -base=@cpu", ["many"]),
    ("-top -base=@many -drop_negative", ["cpu", "many"]),
    ("-raw -base=@cpu", ["cpu"]),
    ("-top -diff_base=@cpu", ["many"]),
    ("-traces -diff_base=@cpu", ["cpu", "cpu"]),
    ("-top -diff_base=@many -normalize", ["cpu"]),
    ("-raw -diff_base=@difference", ["cpu"]),
    ("-traces -diff_base=@difference", ["difference"]),
    ("-top -base=@negative", ["negative", "negative"]),
    ("-top -normalize", ["cpu"]),
    ("-top -base=@seconds -normalize", ["cpu"]),  # cannot be compared: nanoseconds and milliseconds
    ("-top -base=@cpu -diff_base=@cpu", ["cpu"]),
    ("-top -base=@heap", ["cpu"]),
    ("-top", ["/proc/self/exe", "cpu"]),
]


# Command lines that must fail: what follows `profagent`, the exit status, and what stderr must say. @X is golden profile X.
ERRORS = [
    ("", 2, "no command and no profile given"),
    ("-top", 2, "no profile source specified"),
    ("-nope @cpu", 2, "flag provided but not defined: -nope"),
    ("-list=main @cpu", 2, "-list of pprof is not in profagent yet"),
    ("-http=:8080 @cpu", 2, "-http of pprof is not in profagent yet"),
    ("-top=maybe @cpu", 2, 'invalid boolean value "maybe" for -top'),
    ("-top @cpu -nodecount", 2, "flag needs an argument: -nodecount"),
    ("-nodecount=x @cpu", 2, 'invalid value "x" for flag -nodecount: not a number'),
    ("-nodecount= @cpu", 2, 'invalid value "" for flag -nodecount: not a number'),
    ("-nodecount=99999999999999999999 @cpu", 2, 'invalid value "99999999999999999999" for flag -nodecount: not a number'),
    ("-nodefraction= @cpu", 2, 'invalid value "" for flag -nodefraction: not a number'),
    ("-divide_by=5e400 @cpu", 2, 'invalid value "5e400" for flag -divide_by: not a number'),
    ("-divide_by=0x10 @cpu", 2, 'invalid value "0x10" for flag -divide_by: not a number'),
    ("-edgefraction=nan(1) @cpu", 2, 'invalid value "nan(1)" for flag -edgefraction: not a number'),
    ("-normalize -base=@seconds @cpu", 1, "incompatible period types cpu/nanoseconds and cpu/ms"),
    ("-top -raw @cpu", 2, "must set at most one output format"),
    ("-cum -flat @cpu", 2, "conflicting options set: [cum flat]"),
    ("-base=@cpu -diff_base=@cpu @cpu", 2, "-base and -diff_base flags cannot both be specified"),
    ("-symbolize=force @cpu", 2, "-symbolize=force is not in profagent yet"),
    ("/no/such/profile", 1, "profagent: /no/such/profile: No such file or directory\n"),
    ("/proc/self", 1, "profagent: /proc/self: is a directory, not a profile\n"),
    ("/proc/self/exe", 1, "this is an ELF file"),
    ("/dev/null", 1, "parsing profile: empty input file"),
    ("-output=/no/such/directory/x @cpu", 1, "/no/such/directory/x: cannot write: No such file or directory"),
    ("-sample_index=heap @cpu", 1, 'sample_index "heap" must be one of: [samples cpu]'),
    ("-focus=( @cpu", 1, "parsing focus regexp"),
    ("@no_types", 1, "profile has no samples"),
]


class Run:
    def __init__(self, command, environment):
        done = subprocess.run(command, capture_output=True, env=environment, stdin=subprocess.DEVNULL, timeout=120)
        self.ok = done.returncode == 0
        self.status = done.returncode
        self.out = done.stdout
        self.err = done.stderr.decode(errors="replace")


def environment(zone="UTC"):
    return dict(os.environ, TZ=zone, HOME="/nonexistent", PPROF_TMPDIR="/nonexistent")


def shown(out):
    """What of an output is stored: all of a short one, the hash of a long one."""
    text = out.decode(errors="backslashreplace")
    if len(out) <= 12000:
        return text
    lines = text.splitlines(keepends=True)
    return "".join(lines[:10]) + f"... {len(lines)} lines, sha256 {hashlib.sha256(out).hexdigest()}\n"


def expectation(runner, profile):
    parts = []
    for options in STORED:
        run = runner(options.split() + [str(profile)])
        parts.append(f"=== {options}\n" + (shown(run.out) if run.ok else "fails\n"))
    return "".join(parts)


def first_difference(want, got):
    want_lines, got_lines = want.splitlines(), got.splitlines()
    for number, (one, other) in enumerate(zip(want_lines, got_lines), 1):
        if one != other:
            return f"line {number}:\n    want {one!r}\n    got  {other!r}"
    return f"{len(want_lines)} lines wanted, got {len(got_lines)}"


def go_profiles(directory, cache):
    """Profiles that Go writes itself: what its own runtime puts into them."""
    program = pathlib.Path(directory, "go_program")
    command = ["go", "build", "-o", str(program), str(HERE / "go_program.go")]
    # Not in the user's cache, a test leaves nothing behind; but kept with the build, it takes minutes to fill.
    build_environment = dict(os.environ, GO111MODULE="off", GOCACHE=os.path.abspath(cache), GOFLAGS="")
    built = subprocess.run(command, capture_output=True, env=build_environment, text=True)
    if built.returncode != 0:
        print("note: go build fails here, so no profiles written by Go:", built.stderr.strip())
        return []
    subprocess.run([str(program), directory], check=True)
    return sorted(pathlib.Path(directory).glob("go_*.prof"))


# Whose symbols must all be named alike. Those that are not installed are skipped.
LIBRARIES = ["libstdc++.so.6", "libLLVM-14.so.1", "libclang-cpp.so.14", "librustc_driver*.so", "libprotobuf.so.32"]
LIBRARY_PATHS = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/llvm-14/lib", os.path.expanduser("~/.rustup/toolchains/*/lib")]


def symbols(library):
    """Every symbol that a library exports or imports, without versions."""
    listed = subprocess.run(["nm", "-D", str(library)], capture_output=True, text=True, errors="replace").stdout
    return sorted({line.split()[-1].split("@")[0] for line in listed.splitlines() if line.strip()})


def name_failures(make_names, pprof, profagent, directory):
    """Compares how both shorten the names of whole libraries. Yields (number of names, failures)."""
    for pattern in LIBRARIES:
        found = [path for place in LIBRARY_PATHS for path in glob.glob(f"{place}/{pattern}")]
        names = symbols(found[0]) if found else []
        if not names:
            print(f"note: no {pattern} with symbols here, so its names are not compared")
            continue
        profile = str(pathlib.Path(directory, "names.pb.gz"))
        subprocess.run([make_names, profile], input="\n".join(names), text=True, check=True)
        want = pprof(["-raw", profile]).out.splitlines()
        got = profagent(["-raw", profile]).out.splitlines()
        wrong = [(one, other) for one, other in zip(want, got) if one != other] or ([] if len(want) == len(got) else [(want[-1:], got[-1:])])
        yield len(names), [f"a name of {found[0]}: want {one!r}\n    got  {other!r}" for one, other in wrong]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--profagent", required=True)
    parser.add_argument("--make-profiles", required=True)
    parser.add_argument("--make-names", required=True)
    parser.add_argument("--go-cache", required=True)
    parser.add_argument("--update", action="store_true")
    arguments = parser.parse_args()

    def pprof(options, zone="UTC"):
        return Run(["go", "tool", "pprof"] + options, environment(zone))

    def profagent(options, zone="UTC"):
        return Run([arguments.profagent] + options, environment(zone))

    failures, compared = [], 0
    have_go = shutil.which("go") is not None and Run(["go", "tool", "-n", "pprof"], os.environ).ok
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([arguments.make_profiles, directory], check=True)
        profiles = sorted(pathlib.Path(directory).glob("*.pb.gz"))
        by_name = {profile.name.removesuffix(".pb.gz"): profile for profile in profiles}

        if arguments.update:
            EXPECTED.mkdir(exist_ok=True)
            for name, profile in by_name.items():
                (EXPECTED / f"{name}.txt").write_text(expectation(pprof, profile))
            return 0

        for name, profile in by_name.items():
            stored = EXPECTED / f"{name}.txt"
            want = stored.read_text() if stored.exists() else f"no file {stored}: run with --update"
            got = expectation(profagent, profile)
            compared += len(STORED)
            if want != got:
                failures.append(f"{name}: not as stored, {first_difference(want, got)}")

        for line, status, says in ERRORS:
            words = [word.split("@")[0] + str(by_name[word.split("@")[1]]) if "@" in word else word for word in line.split()]
            run = profagent(words)
            compared += 1
            if run.status != status or says not in run.err or run.out:
                failures.append(f"profagent {line}: exits with {run.status}, says {run.err!r}; want {status}, {says!r}")
        both_ways = [profagent(words + [str(by_name["cpu"])] + more) for words, more in (
            (["-top", "-cum", "-nodecount=3"], []), ([], ["-nodecount", "3", "--cum"]))]
        if both_ways[0].out != both_ways[1].out or not both_ways[0].ok:
            failures.append("options after the file do not mean the same as before it")
        # A report says as much as its profile, which nobody else can read.
        report = pathlib.Path(directory, "report.txt")
        subprocess.run([arguments.profagent, "-top", f"-output={report}", str(by_name["cpu"])], umask=0o077, check=True,
                       capture_output=True)
        if report.stat().st_mode & 0o777 != 0o600:
            failures.append(f"-output under umask 077 makes a file of mode {report.stat().st_mode & 0o777:o}")
        help_text = profagent(["--help"])
        if not help_text.ok or b"-nodecount N" not in help_text.out or b"\n  run " not in help_text.out:
            failures.append("profagent --help says nothing of -nodecount or of run")

        if not have_go:
            print("note: no `go tool pprof` here; compared with the stored expectations only")
        else:
            def all_options(profile):
                if not profile.name.startswith("agent_"):
                    return COMPARED
                # All kinds are printed alike: two of them in every way are enough.
                return VALUES + (COMPARED if profile.name.startswith(("agent_heap.", "agent_block.")) else STORED)

            def quick(which, options):
                """Without --full: what is stored, and of the rest every QUICK_STEP-th, others for each profile."""
                if FULL:
                    return options
                return [word for at, word in enumerate(options) if word in STORED or (at + which) % QUICK_STEP == 0]

            jobs = [(options.split(), [str(profile)], "UTC")
                    for which, profile in enumerate(profiles) for options in quick(which, all_options(profile))]
            jobs += [(options.split(), [str(by_name[name])], zone)
                     for options in ZONE_OPTIONS for zone in ZONES for name in ("cpu", "files", "raw")]

            def path_of(name):
                return name if name.startswith("/") or name == "ff00" else str(by_name.get(name, name))

            for options, names in SEVERAL:
                words = [word if "@" not in word else word.split("@")[0] + path_of(word.split("@")[1])
                         for word in options.split()]
                jobs.append((words, [path_of(name) for name in names], "UTC"))
            go_written = go_profiles(directory, arguments.go_cache)
            jobs += [(options.split(), [str(profile)], "UTC")
                     for which, profile in enumerate(go_written) for options in quick(which, COMPARED + VALUES)]

            def compare(job):
                options, files, zone = job
                want, got = pprof(options + files, zone), profagent(options + files, zone)
                if want.ok == got.ok and want.out == got.out:
                    return None
                what = f"{' '.join(options)} {' '.join(os.path.basename(f) for f in files)} TZ={zone}"
                if want.ok != got.ok:
                    return f"{what}: pprof exits with {want.status} ({want.err.strip()[-200:]}), profagent with {got.status} ({got.err.strip()[-200:]})"
                return f"{what}: {first_difference(want.out.decode(errors='replace'), got.out.decode(errors='replace'))}"

            with concurrent.futures.ThreadPoolExecutor(2) as executor:
                for failure in executor.map(compare, jobs):
                    compared += 1
                    if failure:
                        failures.append(failure)

        if have_go:
            for count, wrong in name_failures(arguments.make_names, pprof, profagent, directory):
                compared += count
                failures += wrong

    for failure in failures[:40]:
        print("FAIL", failure)
    print(f"{compared} outputs compared, {len(failures)} differ")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
