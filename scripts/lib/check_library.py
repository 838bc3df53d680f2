#!/usr/bin/env python3
"""Looks at the built libprofagent.so as the loader of a stranger's program will see it.

usage: check_library.py exports|needed|glibc|size|tls|flags LIBRARY
"""
import os
import re
import subprocess
import sys
import tempfile

MAX_STRIPPED = 400 * 1024  # bytes: it is mapped into every process
MAX_TLS = 1024             # bytes: carved out of every thread's stack


def run(*command):
    return subprocess.check_output(command, text=True, env={**os.environ, "LC_ALL": "C"})


def listed(path):
    """The words of a list file: first word of each line, `#` starts a comment."""
    with open(path, encoding="utf-8") as lines:
        words = [line.split("#")[0].split() for line in lines]
    return [line for line in words if line]


def exported_by_map(path):
    """Names in the `global:` parts of a version script, as (node, name)."""
    with open(path, encoding="utf-8") as text:
        script = re.sub(r"/\*.*?\*/|#[^\n]*", "", text.read(), flags=re.DOTALL)
    names = set()
    for node, body in re.findall(r"([\w.]*)\s*\{(.*?)\}", script, flags=re.DOTALL):
        for part, names_text in re.findall(r"(global|local)\s*:(.*?)(?=global\s*:|local\s*:|$)", body, flags=re.DOTALL):
            if part == "global":
                names |= {(node, name) for name in re.findall(r"[\w*?]+", names_text)}
    return names


def exports(library):
    """Every exported name is in agent/exports.txt or, with its version, in agent/exports.map, and every name there is exported:
    a preloaded library that exports more takes over functions of the program."""
    lines = listed("agent/exports.txt")
    wanted = exported_by_map("agent/exports.map") | {("", line[0]) for line in lines}
    of_newer_libcs = {line[0] for line in lines if line[1:] == ["newer"]}
    patterns = [name for _, name in wanted if "*" in name or "?" in name]
    found = set()
    for line in run("nm", "-D", "--defined-only", library).splitlines():
        kind, name = line.split()[-2:]
        name, _, node = name.partition("@")
        if kind == "A":  # the version node itself
            continue
        found.add((node.lstrip("@"), name))
    wrong = [f"exported, but not listed: {name}@{node}" for node, name in sorted(found - wanted)]
    wrong += [f"listed, but not exported: {name}@{node}" for node, name in sorted(wanted - found) if name not in of_newer_libcs]
    wrong += [f"a pattern hides what is exported: {name}" for name in patterns]
    return wrong


def needed(library):
    """The libraries of agent/needed_libraries.txt and no other."""
    wanted = {line[0] for line in listed("agent/needed_libraries.txt") if "." in line[0] and line[0][0] != "G"}
    found = set(re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-dW", library)))
    return [f"needed, but not in agent/needed_libraries.txt: {name}" for name in sorted(found - wanted)]


def glibc(library):
    """No newer glibc than agent/needed_libraries.txt says, or the library does not load on older systems."""
    limit = next((line[0] for line in listed("agent/needed_libraries.txt") if line[0].startswith("GLIBC_")), None)
    if limit is None:
        return ["agent/needed_libraries.txt names no GLIBC_ version"]

    def key(version):
        return [int(part) for part in version.split("_")[1].split(".")]

    wrong = []
    for version, name in sorted(set(re.findall(r"\*UND\*.*?\(?(GLIBC_[\d.]+)\)?\s+(\S+)$", run("objdump", "-T", library),
                                              flags=re.MULTILINE))):
        if key(version) > key(limit):
            wrong.append(f"{name} needs {version}, allowed is {limit}")
    return wrong


def size(library):
    with tempfile.NamedTemporaryFile() as stripped:
        run("strip", "-s", "-o", stripped.name, library)
        found = os.path.getsize(stripped.name)
    print(f"{found} bytes stripped, {MAX_STRIPPED} allowed")
    return [] if found <= MAX_STRIPPED else ["too large"]


def tls(library):
    match = re.search(r"^\s+TLS\s+\S+\s+\S+\s+\S+\s+\S+\s+(0x[0-9a-f]+)", run("readelf", "-lW", library), flags=re.MULTILINE)
    found = int(match.group(1), 16) if match else 0
    print(f"{found} bytes a thread, {MAX_TLS} allowed")
    wrong = [] if found <= MAX_TLS else ["too large"]
    if "DTPMOD64" in run("readelf", "-rW", library):
        wrong.append("dynamic TLS (R_X86_64_DTPMOD64): its first touch in a thread allocates")
    return wrong


def flags(library):
    """Bound at load (the first call of anything enters no loader), never unloaded, no text relocation, no executable stack."""
    dynamic = run("readelf", "-dW", library)
    headers = run("readelf", "-lW", library)
    wrong = []
    if not re.search(r"\(FLAGS_1\).*\bNOW\b", dynamic):
        wrong.append("not linked with -z now")
    if not re.search(r"\(FLAGS_1\).*\bNODELETE\b", dynamic):
        wrong.append("not linked with -z nodelete")
    if "TEXTREL" in dynamic:
        wrong.append("has text relocations")
    if re.search(r"\((RPATH|RUNPATH)\)", dynamic):
        wrong.append("carries a path to search libraries in")
    if re.search(r"GNU_STACK.*RWE", headers):
        wrong.append("asks for an executable stack")
    if "GNU_RELRO" not in headers:
        wrong.append("has no RELRO segment")
    return wrong


wrong_lines = {check.__name__: check for check in (exports, needed, glibc, size, tls, flags)}[sys.argv[1]](sys.argv[2])
print("\n".join(wrong_lines), end="")
sys.exit(1 if wrong_lines else 0)
