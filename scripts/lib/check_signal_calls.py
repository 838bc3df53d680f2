#!/usr/bin/env python3
"""Lists every call that leaves the section prof_sigsafe and compares it with the allowed ones.

usage: check_signal_calls.py LIBRARY ALLOWED

Code in prof_sigsafe runs inside a signal handler of a stranger's program: what it calls must be as safe as itself. A line of
ALLOWED is `CALLEE  reason`, two spaces between; CALLEE is the demangled name, or `*FUNCTION` for a call through a pointer inside
FUNCTION. A callee that no line allows fails the check; a line that nothing needs any more is named.
"""
import re
import subprocess
import sys

SECTION = "prof_sigsafe"


def run(*command, **more):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **more).stdout


def demangle(names):
    return dict(zip(names, run("c++filt", input="\n".join(names)).splitlines()))


def is_switch(kind, operand, previous, earlier):
    """A switch's jump table: movslq (TABLE,INDEX,4),R; add TABLE,R; jmp *R. It stays in its function. (Every other jump through
    a pointer is a tail call.)"""
    register = operand.lstrip("*")
    return (kind == "jmp" and re.search(rf"\badd +%\w+,{re.escape(register)}$", previous.rstrip()) is not None and
            re.search(rf"\bmovslq +.*,4\),{re.escape(register)}$", earlier.rstrip()) is not None)


def main():
    library, allowed_path = sys.argv[1:]
    sections = run("readelf", "-SW", library)
    match = re.search(rf"\]\s+{SECTION}\s+PROGBITS\s+([0-9a-f]+)\s+\S+\s+([0-9a-f]+)", sections)
    if match is None:
        print(f"{library} has no section {SECTION}: nothing is marked PROF_SIGNAL_SAFE")
        sys.exit(1)
    start = int(match.group(1), 16)
    limit = start + int(match.group(2), 16)

    # Slots of the GOT by the symbol that the loader fills in: calls through them are `call *slot(%rip)`.
    slots = {}
    for line in run("readelf", "-rW", library).splitlines():
        found = re.match(r"([0-9a-f]+)\s+[0-9a-f]+\s+R_X86_64_(?:GLOB_DAT|JUMP_SLOT?)\s+[0-9a-f]+\s+(\S+)", line)
        if found:
            slots[int(found.group(1), 16)] = found.group(2).split("@")[0]

    leaving = set()  # (callee, caller), mangled
    function = "?"
    before = ["", ""]  # the two instructions before
    for line in run("objdump", "-d", "--no-show-raw-insn", "-j", SECTION, library).splitlines():
        header = re.match(r"[0-9a-f]+ <(.*)>:$", line)
        if header:
            function = header.group(1)
            continue
        earlier, previous = before
        before = [previous, line]
        found = re.match(r"\s*[0-9a-f]+:\s+(?:bnd |notrack |data16 )*(call|j\w+)q?\s+(.*)", line)
        if not found:
            continue
        kind, operand = found.groups()
        direct = re.match(r"([0-9a-f]+) <(.*)>", operand)
        if direct:
            target = int(direct.group(1), 16)
            if not start <= target < limit:
                leaving.add((re.sub(r"(@plt|\+0x[0-9a-f]+).*$", "", direct.group(2)).split("@")[0], function))
            continue
        through = re.match(r"\*0x[0-9a-f]+\(%rip\)\s+# ([0-9a-f]+)", operand)
        if through and int(through.group(1), 16) in slots:
            leaving.add((slots[int(through.group(1), 16)], function))
        elif operand.startswith("*") and not is_switch(kind, operand, previous, earlier):
            leaving.add(("*" + function, function))

    plain = demangle(sorted({name.lstrip("*") for pair in leaving for name in pair})) if leaving else {}
    with open(allowed_path, encoding="utf-8") as lines:
        entries = [line.rstrip("\n") for line in lines if line.strip() and not line.startswith("#")]
    allowed = {}
    wrong = []
    for entry in entries:
        name, _, reason = entry.partition("  ")
        if not reason.strip():
            wrong.append(f"{allowed_path}: no reason given for {name}")
        allowed[name] = False
    for callee, caller in sorted(leaving):
        name = "*" + plain[callee[1:]] if callee.startswith("*") else plain[callee]
        if name in allowed:
            allowed[name] = True
        else:
            wrong.append(f"{plain[caller]}\n    calls {name}")
    print("\n".join(wrong))
    for name in sorted(name for name, used in allowed.items() if not used):
        print(f"note: no longer called: {name}")
    sys.exit(1 if wrong else 0)


main()
