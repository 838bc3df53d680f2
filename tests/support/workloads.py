"""The real programs that are profiled, and the work that they do.

Context: tests/real compares their profiles with perf's; tests/bench measures what the agent costs them. A workload is called
with a case (its private directory, `need` for commands that a machine may lack) and a scale, writes its input files and answers
the command line. At scale 1 it takes some seconds of CPU time, in one process; a fraction takes about that part.
"""

CPP = """
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <regex>
#include <string>
#include <unordered_map>
#include <vector>
template <class T, int N> struct Tower { std::map<T, Tower<T, N - 1>> next; T value; std::vector<std::function<T(T)>> f; };
template <class T> struct Tower<T, 0> { T value; };
Tower<std::string, 6> tower;
int main(int argc, char** argv) {
  std::regex r(argv[0]);
  std::map<std::string, std::vector<std::unique_ptr<int>>> m;
  for (int i = 0; i < argc; ++i) m[argv[i]].push_back(std::make_unique<int>(i));
  std::unordered_map<int, std::function<int(int)>> u;
  u[argc] = [&](int x) { return static_cast<int>(m.size()) + x; };
  tower.next["a"].next["b"].f.push_back([](std::string s) { return s + s; });
  std::cout << std::regex_match(argv[0], r) << u[argc](3) << tower.next.size();
}
"""

PYTHON = """
import json, re, collections
class Node:
    def __init__(self, v): self.v, self.n = v, None
def work(rounds):
    total = 0
    for r in range(rounds):
        d = collections.defaultdict(list)
        for i in range(3000):
            d[str(i %% 101)].append(i * 3 %% 17)
        text = json.dumps(d)
        total += sum(len(v) for v in json.loads(text).values())
        total += len(re.findall(r"[1-9]+, ?[0-7]", text))
        head = None
        for i in range(2000):
            node = Node(i); node.n = head; head = node
        while head: total += head.v %% 3; head = head.n
        total += sum(sorted((x * 7919 %% 1009 for x in range(3000)))[:10])
    return total
print(work(%d))
"""

SQL = """
create table t(id integer primary key, name text, value real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < %d)
  insert into t select i, 'name' || (i * 7919 %% 10007), i * 0.5 from n;
create index by_name on t(name);
select count(*), sum(value) from t where name like '%%77%%';
select name, count(*) c, avg(value) from t group by name order by c desc, name limit 3;
select count(*) from t a join t b on a.name = b.name where a.id < 4000;
update t set value = value * 2 where id %% 3 = 0;
select sum(length(upper(name) || lower(name))) from t;
"""


def clang(t, scale):
    (t.dir / "a.cc").write_text(CPP)
    level = ["-O0"] if scale < 1 else ["-O1"] if scale == 1 else ["-O3", "-g"]
    return [t.need("clang++-14"), "-std=c++17", *level, "-c", "a.cc", "-o", "a.o"]


def python3(t, scale):
    return ["/usr/bin/python3", "-c", PYTHON % int(1200 * scale)]


THREADS = """
import threading
def work():
    for i in range(%d): i * i
threads = [threading.Thread(target=work) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
"""


def python3_threads(t, rounds):
    """Four threads that compute, and so wait for the interpreter's lock most of the time. Not of WORKLOADS: it has threads."""
    return [t.need("python3"), "-c", THREADS % rounds]


def sqlite3(t, scale):
    (t.dir / "a.sql").write_text(SQL % int(800000 * scale))
    return [t.need("sqlite3"), ":memory:", ".read a.sql"]


def xz(t, scale):
    seed, lines = 1, []
    for i in range(int(160000 * scale)):
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        lines.append("%d entry %x of %d\n" % (seed % 5000, seed >> 12, i))
    (t.dir / "input").write_text("".join(lines))
    return [t.need("xz"), "-T1", "-6", "-k", "-f", "input"]


def openssl(t, scale):
    # libcrypto's hand-written assembly: AES-NI, AVX2 SHA, Montgomery multiplication, ChaCha. It works for a time that
    # is asked for, a second each at least, and counts what it got done.
    kinds = ["aes-128-cbc", "sha256", "rsa2048", "ecdhx25519"] if scale >= 1 else ["sha256", "ecdhx25519"]
    return [t.need("openssl"), "speed", "-seconds", str(max(1, int(scale))), "-bytes", "8192", *kinds]


WORKLOADS = {"clang": clang, "python3": python3, "sqlite3": sqlite3, "xz": xz, "openssl": openssl}
