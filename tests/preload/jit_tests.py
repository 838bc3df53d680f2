"""Code that was made at run time has the names that its maker wrote for perf, and nobody else's."""

import pathlib
import re

from run_kinds_tests import run, said
from runner import each, test

HINT = re.compile(r"^profagent: (\d+)% of the CPU time is in code without a name that was made at run time; .*/tmp/perf-PID\.map", re.M)


def remove_maps(outcome):
    for path in outcome.out.decode().split():  # one a process
        pathlib.Path(path).unlink(missing_ok=True)


@each([[], ["--no-symbolize"]])
def made_code_has_the_names_of_the_perf_map(t, options):
    outcome = run(t, ["--cpu", *options], "jit", "300", "made", "map")
    remove_maps(outcome)
    t.expect_exit(outcome, 7)
    profile = outcome.profile("cpu.prof")
    share = profile.cum("made_calls") / profile.ticks()
    t.expect(share > 0.8 and profile.cum("made_calls") == profile.cum("made_spins"), "made_calls is %.2f of all" % share, outcome)
    t.expect(profile.cum("main") >= profile.cum("made_calls"), "stacks end in it", outcome)
    made = sorted(function.name for function in profile.functions.values() if function.name.startswith(("made_", "0x")))
    t.expect(made == ["made_calls", "made_spins"], "functions %s" % made, outcome)
    t.expect(HINT.search(said(outcome)) is None, "a hint though all has names", outcome)


@test()
def made_code_has_its_names_in_all_profiles(t):
    # A heap profile's time is that of the end, and the map may have been complete long before.
    outcome = run(t, ["--heap=1"], "jit", "2200", "made", "map")
    remove_maps(outcome)
    heap = outcome.profile("heap.prof")
    t.expect(heap.cum("made_asks", "inuse_space") == 1000000, "made_asks keeps %d" % heap.cum("made_asks", "inuse_space"), outcome)
    t.expect("older" not in said(outcome), "the map is called old", outcome)


@test()
def code_made_before_a_fork_has_its_names_in_the_child(t):
    outcome = run(t, ["--cpu"], "jit", "200", "made", "forks")
    remove_maps(outcome)
    (child,) = [name for name in outcome.profiles() if name != "cpu.prof"]
    profile = outcome.profile(child)
    t.expect(profile.cum("made_spins") > 0.8 * profile.ticks(), "made_spins is %d of %d" % (profile.cum("made_spins"), profile.ticks()), outcome)
    t.expect(HINT.search(said(outcome)) is None, "a hint though all has names", outcome)


@test()
def processes_that_are_merged_keep_each_its_names(t):
    jit = t.program("jit")
    outcome = run(t, ["--cpu", "--merge"], "/bin/sh", "-c", "'%s' 200 one map & '%s' 200 two map; wait" % (jit, jit))
    remove_maps(outcome)
    profile = outcome.profile("cpu.prof")
    for name in "one_spins", "two_spins":
        share = profile.cum(name) / profile.ticks()
        t.expect(0.3 < share < 0.7, "%s is %.2f of all" % (name, share), outcome)


@each([("none", None), ("old", "is older than the process"), ("foreign", "is neither root's nor yours"), ("linked", "symbolic links"),
       ("fifo", "not a regular file")])
def names_of_others_are_not_taken(t, how, problem):
    if how == "foreign":
        t.need_root()
    outcome = run(t, ["--cpu"], "jit", "200", "made", how)
    pid = re.search(r"\(pid (\d+)\)", said(outcome)).group(1)
    remove_maps(outcome)
    profile = outcome.profile("cpu.prof")
    t.expect(profile.cum("made_spins") == 0, "its names were taken", outcome)
    lines = re.findall(r"^profagent: /tmp/perf-%s\.map: (.*)$" % pid, said(outcome), re.M)
    t.expect(len(lines) == (problem is not None) and all(problem in line for line in lines), "said %s" % lines, outcome)
    hint = HINT.search(said(outcome))
    t.expect(hint is not None and int(hint.group(1)) > 80, "no hint", outcome)


@test()
def symbolize_takes_the_map_that_it_is_given(t):
    outcome = run(t, ["--cpu"], "jit", "200", "made", "old")
    pid = re.search(r"\(pid (\d+)\)", said(outcome)).group(1)
    made = t.run(t.profagent, "symbolize", "cpu.prof", "--perf-map", "/tmp/perf-%s.map" % pid, "-o", "named.prof", agent=False)
    remove_maps(outcome)
    t.expect_exit(made)
    t.expect(b"/tmp/perf-%s.map: function names only, for " % pid.encode() in made.err, "not reported", made)
    profile = outcome.profile("named.prof")
    t.expect(profile.cum("made_calls") > 0.8 * profile.ticks(), "not named", made)
    missing = t.run(t.profagent, "symbolize", "cpu.prof", "--perf-map", "absent.map", "-o", "named.prof", agent=False)
    t.expect_exit(missing, 1)
    t.expect_one_error_line(missing, "absent.map")
