#!/usr/bin/env python3
"""Real programs do the same work with and without the agent: output, exit status, stderr and files, byte for byte.

Everything runs with all profiles at their most extreme rates (1000 Hz; every allocation, wait and contention) and in a
directory of the same name, so that paths in outputs agree.
"""

import glob
import hashlib
import os
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
sys.dont_write_bytecode = True

from harness import Skip  # noqa: E402
from runner import main, test  # noqa: E402

FIXED = {"SOURCE_DATE_EPOCH": "1000000000", "GIT_AUTHOR_DATE": "2001-09-09T01:46:40Z", "GIT_COMMITTER_DATE": "2001-09-09T01:46:40Z",
         "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com", "GIT_COMMITTER_NAME": "a",
         "GIT_COMMITTER_EMAIL": "a@example.com", "GIT_CONFIG_NOSYSTEM": "1", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


def digest(directory):
    """Every file below the directory: path, mode and content."""
    result = {}
    for path in sorted(pathlib.Path(directory).rglob("*")):
        if path.is_symlink():
            result[str(path.relative_to(directory))] = "-> " + os.readlink(path)
        elif path.is_file():
            result[str(path.relative_to(directory))] = "%o %s" % (path.stat().st_mode, hashlib.sha256(path.read_bytes()).hexdigest())
    return result


def same(t, script, prepare=None, ignore_files=(), profiled=True, times=1):
    """Runs a shell script in a fresh directory without and with the agent, and compares all that it did."""
    work, results = t.dir / "work", []
    profiles = t.new_dir("profiles")
    for round_number in range(1 + times):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        if prepare:
            prepare(work)
        agent = round_number > 0
        env = dict(FIXED)
        if agent:
            env.update({"CPUPROFILE": profiles / "cpu.prof", "HEAPPROFILE": profiles / "heap.prof", "MEMPROFILERATE": 1,
                        "BLOCKPROFILE": profiles / "block.prof", "BLOCKRATE": 1,
                        "MUTEXPROFILE": profiles / "mutex.prof", "MUTEXFRACTION": 1,
                        "PROFAGENT_SIGNAL": 0})  # clang handles USR2 itself, of which its user is told
        run = t.run("/bin/bash", "-c", script, agent=agent, hz=1000, env=env, cwd=work, timeout=120)
        files = {name: text for name, text in digest(work).items() if not any(part in name for part in ignore_files)}
        results.append((run, files))
    (plain, plain_files), *others = results
    for run, files in others:
        t.expect(run.status == plain.status, "exit %s, without the agent %s" % (run.end(), plain.end()), run)
        t.expect(run.err == plain.err, "stderr differs from\n%s" % plain, run)
        t.expect(run.out == plain.out, "output differs from\n%s" % plain, run)
        different = sorted(name for name in set(files) | set(plain_files) if files.get(name) != plain_files.get(name))
        t.expect(not different, "files differ: %s" % different[:10], run)
    t.expect(plain.status == 0, "the workload itself fails", plain)
    found = list(profiles.glob("cpu.prof*"))
    t.expect(list(profiles.glob("heap.prof*")), "no heap profile was written", run)
    t.expect(found or not profiled, "no profile was written", run)
    t.note("%d profiles" % len(found))
    return found


C_SOURCE = "\n".join("int function_%d(int a) { int s = 0; for (int i = 0; i < a; ++i) s += i * %d; return s; }" % (i, i)
                     for i in range(400)) + "\nint main(void) { return function_3(0); }\n"

CC_SOURCE = """
#include <algorithm>
#include <iostream>
#include <map>
#include <string>
#include <vector>
template <int N> struct F { static constexpr long value = F<N - 1>::value + F<N - 2>::value; };
template <> struct F<0> { static constexpr long value = 0; };
template <> struct F<1> { static constexpr long value = 1; };
int main() {
  std::map<std::string, std::vector<int>> m;
  for (int i = 0; i < 100; ++i) m["k" + std::to_string(i % 7)].push_back(i);
  for (auto& [k, v] : m) { std::sort(v.rbegin(), v.rend()); std::cout << k << ' ' << v.front() << '\\n'; }
  std::cout << F<40>::value << '\\n';
}
"""


@test()
def gcc_compiles_and_links(t):
    # A compiler driver forks, execs, pipes and waits; a changed object file breaks reproducible builds.
    t.need("gcc")

    def prepare(work):
        (work / "a.c").write_text(C_SOURCE)

    same(t, "gcc -O2 -g -Wall -c a.c && gcc -pipe -O1 a.c -o a && ./a && objdump -d a | md5sum", prepare)


@test()
def gpp_compiles_cpp(t):
    t.need("g++")

    def prepare(work):
        (work / "a.cc").write_text(CC_SOURCE)

    same(t, "g++ -std=c++20 -O1 a.cc -o a && ./a", prepare)


@test()
def gcc_reports_errors(t):
    t.need("gcc")

    def prepare(work):
        (work / "bad.c").write_text("int main(void) { return undeclared; }\n#error stop\n")

    same(t, "gcc -c bad.c; echo $?; gcc -c missing.c; echo $?; gcc -x c -E - </dev/null; echo $?", prepare, profiled=False)


@test()
def clang_compiles_cpp(t):
    t.need("clang++-14")

    def prepare(work):
        (work / "a.cc").write_text(CC_SOURCE)

    same(t, "clang++-14 -std=c++17 -O1 -c a.cc -o a.o", prepare)


@test()
def git_works(t):
    # clone forks upload-pack and index-pack, which has threads; gc repacks.
    t.need("git")

    def prepare(work):
        os.makedirs(work / "source")
        for i in range(60):
            (work / "source" / ("file%d" % i)).write_text("".join("line %d of %d\n" % (j * i, i) for j in range(200)))

    same(t, """
set -e
cd source && git init -q -b main . && git add . && git commit -q -m first
for i in 1 2 3 4 5; do echo change $i >> file$i; git commit -q -a -m "change $i"; done
cd .. && git clone -q source copy 2>&1 && git clone -q --depth 1 file://$PWD/source shallow
cd copy && git log --stat | tail -20 && git diff HEAD~3 | md5sum && git checkout -q -b other && git rebase -q HEAD~2 && git status
git grep -c 'line 10' | head -5; git blame file3 | md5sum; git gc -q; git fsck; git count-objects
""", prepare, ignore_files=("/index", "/logs/", "/info/packs", ".pack", ".idx", ".rev", "FETCH_HEAD", "commit-graph"))


@test()
def python_with_subprocesses_and_threads(t):
    same(t, r"""/usr/bin/python3 -X faulthandler - <<'END'
import concurrent.futures, multiprocessing, os, queue, signal, subprocess, sys, threading, time
print(subprocess.run(["sh", "-c", "echo out; echo err >&2; exit 3"], capture_output=True))
print(subprocess.check_output("echo $((6*7))", shell=True))
processes = [subprocess.Popen([sys.executable, "-c", "import sys; print(sum(range(int(sys.argv[1]))))", str(i)],
                              stdout=subprocess.PIPE) for i in range(4)]
print([p.communicate() for p in processes])
def work(n): return sum(i * i for i in range(n))
with concurrent.futures.ThreadPoolExecutor(4) as pool: print(list(pool.map(work, range(0, 60000, 10000))))
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool: print(pool.map(abs, range(-5, 5)))
got = []
signal.signal(signal.SIGALRM, lambda *a: got.append(1)); signal.setitimer(signal.ITIMER_REAL, 0.05); signal.pause(); print(got)
child = os.fork()
if child == 0: work(300000); os._exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
try: subprocess.run(["sleep", "5"], timeout=0.1)
except subprocess.TimeoutExpired as e: print("timeout")
print(work(2000000))
sys.exit(0)
END""")


@test()
def python_passes_its_own_tests(t):
    # Under PYTHONMALLOC=malloc every object is a malloc of its own.
    if not glob.glob("/usr/lib/python3*/test/test_dict.py"):
        raise Skip("python3's own tests are not installed")
    # Both fail alike where the tests do not even begin: all three must have passed.
    same(t, "PYTHONMALLOC=malloc /usr/bin/python3 -m test test_json test_dict test_list >said 2>&1; "
            "grep -E 'tests? OK|failed|Tests result|^Result' said; grep -q 'All 3 tests OK' said && rm said")


@test()
def python_tracebacks_and_exits(t):
    # The shell reports pids and faulthandler addresses: masked.
    same(t, """{
/usr/bin/python3 -c 'raise ValueError("x")'; echo $?
/usr/bin/python3 -c 'import os; os.abort()'; echo $?
/usr/bin/python3 -c 'import os, signal; os.kill(os.getpid(), signal.SIGKILL)'; echo $?
/usr/bin/python3 -c 'import sys; sys.exit(42)'; echo $?
/usr/bin/python3 -c 'import faulthandler, ctypes; faulthandler.enable(); ctypes.string_at(0)' 2>&1 | head -3; echo ${PIPESTATUS[0]}
/usr/bin/python3 -c 'import sys; sys.setrecursionlimit(100000); f = lambda n: f(n + 1) if n < 20000 else n; print(f(0))'; echo $?
} 2>&1 | sed -E 's/ [0-9]{3,} / PID /; s/0x[0-9a-f]+/ADDRESS/g'""", profiled=False)


@test()
def sqlite_queries(t):
    t.need("sqlite3")
    same(t, """sqlite3 test.db <<'END'
.bail on
create table t(id integer primary key, name text, value real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
  insert into t select i, 'name' || (i * 7919 % 10007), i * 0.5 from n;
create index by_name on t(name);
select count(*), sum(value), min(name), max(name) from t;
select name, count(*) c from t group by name order by c desc, name limit 5;
update t set value = value * 2 where id % 3 = 0;
delete from t where id % 7 = 0;
vacuum;
pragma integrity_check;
explain query plan select * from t where name = 'name5';
select hex(md5) from (select 'x' as md5);
END
sqlite3 test.db 'select * from missing'; echo $?""")


@test()
def perl_works(t):
    t.need("perl")
    same(t, r"""perl -e 'my %h; $h{$_ % 977} .= chr(65 + $_ % 26) for 1..300000; print length(join "", map { $h{$_} } sort { $a <=> $b } keys %h), "\n";
my $pid = fork; if (!$pid) { exec "echo", "child" } waitpid $pid, 0; print $? >> 8, "\n"; $SIG{ALRM} = sub { print "alarm\n" }; alarm 1;
select undef, undef, undef, 1.5; open my $p, "-|", "seq 1 5"; print <$p>; close $p; die "dead\n"'; echo $?""")


@test()
def make_builds_in_parallel(t):
    # The jobserver passes descriptors and counts on SIGCHLD; make vforks.
    t.need("make", "gcc")

    def prepare(work):
        for i in range(8):
            (work / ("m%d.c" % i)).write_text(C_SOURCE.replace("function_", "m%d_" % i).replace("int main", "int main%d" % i))
        (work / "main.c").write_text("int main(void) { return 0; }\n")
        (work / "Makefile").write_text(
            "objects = $(patsubst %.c,%.o,$(sort $(wildcard *.c)))\nall: program\n\t@./program && echo built $(words $(objects))\n"
            "program: $(objects)\n\t@$(CC) -o $@ $^\n%.o: %.c\n\t@$(CC) -O1 -c $< -o $@\n"
            "sub:\n\t@$(MAKE) --no-print-directory -f Makefile fail\nfail:\n\t@exit 3\n")

    same(t, "make -j2 all && make all && make sub; echo $?", prepare)


@test()
def bash_pipes_and_jobs(t):
    same(t, r"""
set -o pipefail
seq 1 200000 | grep 7 | sed 's/7/x/' | awk '{ n += length($0) } END { print n }'
yes | head -n 100000 | md5sum; echo ${PIPESTATUS[*]}
for i in $(seq 1 40); do ( exit $((i % 5)) ); r=$r$?; done; echo $r
x=$(for i in $(seq 1 3000); do echo $i; done | wc -l); echo $x
(sleep 0.2; echo late) & (exit 4) & wait %2; echo $?; wait
trap 'echo got USR1' USR1; kill -USR1 $$; trap 'echo bye' EXIT
diff <(seq 1 5) <(seq 2 6); echo $?
coproc cat; echo through >&${COPROC[1]}; read -u ${COPROC[0]} line; echo $line; kill $COPROC_PID; wait $COPROC_PID; echo $?
find /usr/share/doc -maxdepth 1 -name 'lib*' | sort | tail -3 | xargs -n1 basename
timeout 0.2 sleep 5; echo $?
ulimit -t 100; cat /dev/null; [ -t 0 ]; echo $?
""")


@test()
def sort_of_a_big_file(t):
    t.need("sort")

    def prepare(work):
        seed = 1
        with open(work / "lines", "w", encoding="ascii") as file:
            for _ in range(250000):
                seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
                file.write("%d\t%x\n" % (seed, seed * 31))

    same(t, "sort lines | md5sum; sort -n --parallel=2 -S 1M lines | md5sum; sort -c lines; echo $?", prepare)


@test()
def archives_and_compression(t):
    def prepare(work):
        (work / "data").mkdir()
        for i in range(20):
            (work / "data" / str(i)).write_text("".join("%d %d\n" % (i, j * j) for j in range(4000)))

    same(t, "tar --mtime=@0 --owner=0 --group=0 --sort=name -cf a.tar data && gzip -nk a.tar && xz -k -T2 a.tar && "
            "bzip2 -k a.tar && xz -dc a.tar.xz | cmp - a.tar && gzip -dc a.tar.gz | md5sum", prepare)


@test()
def openssl_works(t):
    t.need("openssl")
    same(t, "head -c 3000000 /dev/zero | openssl enc -aes-256-ctr -K 00 -iv 00 2>/dev/null | openssl dgst -sha256; "
            "head -c 5000000 /dev/zero | openssl dgst -sha512; openssl prime 2147483647; openssl version")


@test(full=True)
def gdb_runs_a_program(t):
    # ptrace, SIGTRAP, SIGCHLD, and 250 000 lines of unwinder of its own.
    t.need("gdb", "gcc")

    def prepare(work):
        (work / "a.c").write_text("int f(int x) { return x * 2; }\nint main(void) { return f(3); }\n")

    # It says the process's number, which is never the same.
    same(t, "gcc -g -O0 a.c -o a && gdb -nx -q -batch -ex 'break f' -ex run -ex 'p x' -ex bt -ex c ./a 2>&1 | "
            "sed -e '/[Tt]hread/d' -e 's/(process [0-9]*)/(process)/'", prepare)


if __name__ == "__main__":
    main("compat")
