"""What a profiled program starts: programs that cannot bear us are started without us, and none sees our words."""

import os
import shutil
import subprocess

from runner import each, test


def build_musl_program(t):
    """Prints what it would be preloaded with; ends with status 5."""
    (t.dir / "musl_program.c").write_text('#include <stdio.h>\n#include <stdlib.h>\nint main(void) {\n'
                                          '  const char* preload = getenv("LD_PRELOAD");\n'
                                          '  printf("preload: %s\\n", preload ? preload : "none");\n  return 5;\n}\n')
    subprocess.run([t.need("musl-gcc"), "-o", t.dir / "musl_program", t.dir / "musl_program.c"], check=True)
    return str(t.dir / "musl_program")


@each(["execv", "execvp", "execve", "execl", "execvp in PATH", "fexecve", "posix_spawn", "posix_spawnp", "system", "not active"])
def program_of_musl_is_started_without_us(t, how):
    # Its loader does not ignore a library that it cannot load: it says "Error loading shared library" and exits with 127.
    program = build_musl_program(t)
    spawn = "os._exit(os.waitstatus_to_exitcode(os.waitpid(os.%s(%s, [p], dict(os.environ)), 0)[1]))"
    call = {"execv": "os.execv(p, [p])", "execvp": "os.execvp(p, [p])", "execve": "os.execve(p, [p], dict(os.environ))",
            "execl": "os.execl(p, p)", "execvp in PATH": "os.execvp('musl_program', [p])",
            "posix_spawn": spawn % ("posix_spawn", "p"), "posix_spawnp": spawn % ("posix_spawnp", "'musl_program'"),
            "system": "os._exit(os.waitstatus_to_exitcode(os.system(p)))",
            "fexecve": "os.execve(os.open(p, os.O_RDONLY), [p], dict(os.environ))"}.get(how, "os.execv(p, [p])")
    env = {"PATH": "/nowhere::%s:%s" % (t.dir, os.environ["PATH"]), "LD_PRELOAD": "%s:" % t.agent}
    if how == "not active":
        env.update({"CPUPROFILE": None, "MEMPROFILERATE": 0})
    run = t.run(t.need("python3"), "-c", "import os, sys; p = sys.argv[1]; " + call, program, env=env)
    t.expect_exit(run, 5)
    t.expect(run.out == b"preload: none\n" and not run.err, "it was given a preload, or died of it", run)


PRINTS_ENVIRONMENT = ("#include <stdio.h>\nextern char** environ;\n"
                      "int main(void) {\n  for (char** v = environ; *v; ++v) puts(*v);\n  return 5;\n}\n")


def build_printer(t, *compiler):
    (t.dir / "printer.c").write_text(PRINTS_ENVIRONMENT)
    t.expect_exit(t.run(t.need(compiler[0]), *compiler[1:], "-o", t.dir / "printer", t.dir / "printer.c", agent=False))
    return t.dir / "printer"


@test()
def program_with_something_else_called_environ(t):
    # libc's own name for it is __environ. We took the program's words for variables (SIGSEGV).
    printer = build_printer(t, "gcc")
    (t.dir / "own.c").write_text("#include <stdio.h>\n#include <unistd.h>\nconst char environ[] = \"its own words\";\n"
                                 "int main(int argc, char** argv) {\n  puts(environ);\n  fflush(stdout);\n"
                                 "  return argc < 2 ? 6 : execv(argv[1], argv + 1);\n}\n")
    t.expect_exit(t.run(t.need("gcc"), "-w", "-o", t.dir / "own", t.dir / "own.c", agent=False))
    plain = t.run(t.dir / "own", printer, agent=False)
    run = t.run(t.dir / "own", printer, hz=100)
    t.expect_exit(plain, 5)
    t.expect_exit(run, 5)
    t.expect(run.out.startswith(b"its own words\n") and b"\nPATH=" in run.out, "not that environment", run)


def expect_same_environment(t, *command, prefix=(), env=None):
    """As the program saw it, without and with the agent in the shell that executes it."""
    command = ["/bin/sh", "-c", 'exec "$0" "$@"', *command]
    plain = t.run(*command, prefix=prefix, env={**(env or {}), "LD_PRELOAD": None})
    run = t.run(*command, prefix=prefix, env=env)
    t.expect_exit(run, 5)

    def seen(outcome):
        return [line for line in outcome.out.splitlines() if not line.startswith(b"LD_PRELOAD=")]

    t.expect(len(seen(plain)) > 3 and seen(plain) == seen(run), "without us it saw %s" % plain.out, run)
    return run


@each(["gcc -static", "gcc -static-pie", "musl-gcc -static", "script", "script of a script", "gcc -no-pie", "loader"])
def program_does_not_see_our_word_of_lineage(t, how):
    # Our library takes it out of the environment: who does not load it must not be given one, and its children neither.
    compiler = {"script": "gcc -static", "script of a script": "gcc -static", "loader": "gcc"}.get(how, how)
    program = build_printer(t, *compiler.split())
    if how.startswith("script"):
        for number in range(1 if how == "script" else 2):
            script = t.dir / ("script%d" % number)
            script.write_text("#! \t%s -x\n" % program)
            script.chmod(0o755)
            program = script
    command = ["/lib64/ld-linux-x86-64.so.2", program] if how == "loader" else [program]
    run = expect_same_environment(t, *command)
    t.expect(("cpu.prof" in run.profiles()) == (how in ("gcc -no-pie", "loader")), "files %s" % run.profiles(), run)


@each(["setuid", "setgid", "capability", "setuid without new privileges"])
def privileged_program_does_not_see_our_word_of_lineage(t, how):
    # To it the loader gives no library that is named by its path.
    t.need_root()
    program = build_printer(t, "gcc")
    os.chmod(t.dir, 0o777)
    if how == "capability":
        t.expect_exit(t.run(t.need("setcap"), "cap_net_raw+p", program, agent=False))
    else:
        os.chown(program, 1, 1)
        os.chmod(program, 0o2755 if how == "setgid" else 0o4755)
    prefix = [t.need("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"]
    if how.endswith("without new privileges"):
        prefix.append("--no-new-privs")
    agent = t.dir / "libprofagent.so"
    shutil.copy(t.agent, agent)
    run = expect_same_environment(t, program, prefix=prefix, env={"LD_PRELOAD": agent})
    is_ours = how.endswith("without new privileges")  # the mode has no effect then
    t.expect((b"LD_PRELOAD=" in run.out) == is_ours and ("cpu.prof" in run.profiles()) == is_ours, "not as the kernel has it", run)


@test()
def program_in_another_root_does_not_see_our_word_of_lineage(t):
    # Our library is not there. (Its loader says so, as of any preload.)
    t.need_root()
    program = build_printer(t, "gcc")
    for file in "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6":
        (t.dir / file[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, t.dir / file[1:])
    run = expect_same_environment(t, t.need("chroot"), t.dir, "/" + program.name)
    t.expect(b"cannot be preloaded" in run.err, "not another root", run)


@each(["exec", "posix_spawn", "exec, told to bear it"])
def program_of_the_address_sanitizer_is_started_without_us(t, how):
    # "ASan runtime does not come first in initial library list", and that was that.
    program = build_printer(t, "gcc", "-fsanitize=address")
    env = {"ASAN_OPTIONS": "detect_leaks=0" + (":verify_asan_link_order=0" if how.endswith("bear it") else "")}
    if how == "posix_spawn":
        code = "import os, sys; sys.exit(os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)[1]))"
        run = t.run(t.need("python3"), "-c", code, program, env=env)
    else:
        run = t.run("/bin/sh", "-c", "exec %s" % program, env=env)
    t.expect_exit(run, 5)
    t.expect_silent(run)
    t.expect(b"PROFAGENT_LINEAGE" not in run.out, "our word", run)
    t.expect((b"LD_PRELOAD" in run.out) == how.endswith("bear it"), "the preload", run)


@test()
def spawn_is_of_the_version_that_the_program_was_linked_with(t):
    script = t.dir / "script"
    script.write_text("exit 6\n")
    script.chmod(0o755)
    run = t.run(t.program("old_spawn"), script)
    t.expect(run.out == b"old: 0, 6\nnew: ENOEXEC\n", "another version's answer", run)


@test()
def pidfd_spawn_of_a_newer_libc_is_as_without_us(t):
    # What the child inherits: SIGPROF ignored and blocked, and no preload where it would kill.
    command = t.program("pidfd_spawn"), "musl_program", build_musl_program(t)
    env = {"PATH": "%s:%s" % (t.dir, os.environ["PATH"])}
    plain = t.run(*command, agent=False, env=env)
    run = t.run(*command, env={**env, "LD_PRELOAD": "%s:" % t.agent})
    t.expect(plain.out.count(b"4000000\n") == 4 and plain.out.count(b"0 7\n") == 2, "not what it tests", plain)
    t.expect(run.out == plain.out and not run.err, "without us: %s" % plain.out, run)


@test()
def weak_reference_to_what_libc_lacks_stays_null(t):
    (t.dir / "weak.c").write_text("#include <stdio.h>\nextern void pidfd_spawn(void) __attribute__((weak));\n"
                                  "int main(void) {\n  puts(pidfd_spawn ? \"there\" : \"none\");\n}\n")
    t.expect_exit(t.run(t.need("gcc"), "-o", t.dir / "weak", t.dir / "weak.c", agent=False))
    plain, run = t.run(t.dir / "weak", agent=False), t.run(t.dir / "weak")
    t.expect(run.out == plain.out, "without us: %s" % plain.out, run)


@test()
def run_of_a_musl_program_is_without_us(t):
    program = build_musl_program(t)
    run = t.run(t.profagent, "run", "--", program, agent=False)
    t.expect_exit(run, 5)
    t.expect(run.out == b"preload: none\n", "it was given a preload", run)
    t.expect(b"linked with musl" in run.err and b"running it without the agent" in run.err, "no word about it", run)
