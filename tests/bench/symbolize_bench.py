#!/usr/bin/env python3
"""10 000 addresses with inlined calls of a 290 MB binary with 100 MB of DWARF: profagent symbolize beside llvm-symbolizer.

    tests/bench/symbolize_bench.py [--build BUILD] [--compiler g++] [--runs 5] [--addresses 10000]

Makes the binary (about a minute the first time, kept in BUILD/bench-symbolize/), then runs BUILD/tests/bench/symbolize_bench,
which prints times, memory and agreement, and fails when profagent is slower than llvm-symbolizer, needs more than a second or
1.5 GB, or says something else on more than 0.1 % of the addresses.

Compiling 100 MB of DWARF would take ten minutes. So two units are compiled, a huge one and a small one, each in a
namespace of its own, and their objects are copied under other namespaces: a name of the same length replaces the old one in
symbols, COMDAT groups and debug strings alike. The linker then meets many different units: a few huge ones (where a search
from the start of a unit hurts) and many small ones (where a cost per unit hurts).
"""
import argparse
import os
import subprocess
import sys

NAMESPACE = b"unit0000"
HUGE_STRUCTS, HUGE_COPIES = 25, 17
SMALL_STRUCTS, SMALL_COPIES = 1, 90

# Containers, algorithms and closures over a type of its own: deep chains of inlined calls, as in real C++.
PER_STRUCT = """
struct S@ {
  int key;
  double weight;
  std::string name;
  long values[@ % 5 + 1];
  bool operator<(const S@& other) const { return key != other.key ? key < other.key : name < other.name; }
  long Sum() const {
    long sum = 0;
    for (long value : values) sum += Scale(value);
    return sum;
  }
  static inline long Scale(long value) { return Clamp(value * (@ + 3)) ^ @; }
  static inline long Clamp(long value) { return value < 0 ? -value : value > 100000 + @ ? value % 977 : value; }
};
template <class T>
struct Pool@ {
  std::vector<std::unique_ptr<T>> items;
  std::map<std::string, T> by_name;
  std::unordered_map<int, std::vector<T>> by_key;
  T& Add(int key) {
    items.push_back(std::make_unique<T>());
    items.back()->key = key;
    by_name[std::to_string(key)] = *items.back();
    by_key[key % (@ + 7)].push_back(*items.back());
    return *items.back();
  }
  long Total() const {
    return std::accumulate(items.begin(), items.end(), 0L,
                           [](long sum, const auto& item) { return sum + item->Sum(); });
  }
};
long Work@(int count) {
  Pool@<S@> pool;
  for (int key = 0; key < count; ++key) pool.Add(key * (2 * @ + 1) % 1009).weight = key;
  std::vector<S@> all;
  for (auto& [name, item] : pool.by_name) all.push_back(item);
  std::sort(all.begin(), all.end());
  std::stable_sort(all.begin(), all.end(), [](const S@& a, const S@& b) { return a.weight < b.weight; });
  std::function<long(const S@&)> weigh = [&](const S@& item) {
    return item.Sum() + static_cast<long>(pool.by_key.size());
  };
  long total = 0;
  for (auto& item : all) total += weigh(item);
  sink = total;
  return total + pool.Total();
}
"""


def source(structs):
    headers = ("algorithm", "functional", "map", "memory", "numeric", "string", "unordered_map", "vector")
    text = "".join(f"#include <{header}>\n" for header in headers)
    text += f"namespace {NAMESPACE.decode()} {{\nvolatile long sink;\n"
    text += "".join(PER_STRUCT.replace("@", str(number)) for number in range(structs))
    return text + "}\n"


def make_binary(directory, compiler):
    """Makes DIRECTORY/binary unless it is there and as this script would make it."""
    binary = os.path.join(directory, "binary")
    stamp = os.path.join(directory, "stamp")
    with open(__file__, encoding="utf-8") as script:
        recipe = compiler + "\n" + script.read()
    if os.path.exists(binary) and os.path.exists(stamp):
        with open(stamp, encoding="utf-8") as file:
            if file.read() == recipe:
                return binary
    os.makedirs(directory, exist_ok=True)
    print(f"making {binary} with {compiler}: about a minute", flush=True)

    units = {"huge": HUGE_STRUCTS, "small": SMALL_STRUCTS}
    compiling = []
    for name, structs in units.items():
        with open(os.path.join(directory, name + ".cc"), "w", encoding="utf-8") as file:
            file.write(source(structs))
        command = [compiler, "-std=c++17", "-O2", "-g", "-c", name + ".cc", "-o", name + ".o"]
        compiling.append((name, subprocess.Popen(command, cwd=directory)))
    for name, process in compiling:
        if process.wait() != 0:
            sys.exit(f"symbolize_bench: cannot compile {name}.cc")

    objects = []
    for name, copies in (("huge", HUGE_COPIES), ("small", SMALL_COPIES)):
        with open(os.path.join(directory, name + ".o"), "rb") as file:
            compiled = file.read()
        for _ in range(copies):
            number = len(objects) + 1
            objects.append(f"copy{number}.o")
            with open(os.path.join(directory, objects[-1]), "wb") as file:
                file.write(compiled.replace(NAMESPACE, b"unit%04d" % number))
    with open(os.path.join(directory, "main.cc"), "w", encoding="utf-8") as file:
        file.write("int main() {}\n")
    # lld links this in seconds; ld needs a minute.
    has_lld = subprocess.run(["sh", "-c", "command -v ld.lld"], capture_output=True, check=False).returncode == 0
    command = [compiler, "-Wl,--build-id", "main.cc", *objects, "-o", "binary"]
    subprocess.run(command + (["-fuse-ld=lld"] if has_lld else []), cwd=directory, check=True)
    for name in objects:
        os.unlink(os.path.join(directory, name))
    with open(stamp, "w", encoding="utf-8") as file:
        file.write(recipe)
    return binary


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", help="the build directory")
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--runs", default="5")
    parser.add_argument("--addresses", default="10000")
    arguments = parser.parse_args()
    build = os.path.abspath(arguments.build)
    program = os.path.join(build, "tests/bench/symbolize_bench")
    if not os.path.exists(program):
        sys.exit(f"symbolize_bench: {program} is not there; build first")
    directory = os.path.join(build, "bench-symbolize", os.path.basename(arguments.compiler))
    binary = make_binary(directory, arguments.compiler)
    profagent = os.path.join(build, "symbolizer/profagent")
    sys.exit(subprocess.run([program, profagent, binary, arguments.addresses, arguments.runs], check=False).returncode)


main()
