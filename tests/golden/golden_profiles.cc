#include "tests/golden/golden_profiles.h"

#include <limits>

#include "tests/golden/profile_builder.h"

namespace profagent {
namespace {

using Builder = ProfileBuilder;

constexpr int64_t kTime = 1'763'871'129'250'000'000;  // 2025-11-23 04:12:09.25 UTC
constexpr int64_t kMilli = 1'000'000;

Builder CpuBuilder() {
  Builder b;
  b.Type("samples", "count").Type("cpu", "nanoseconds").Period("cpu", "nanoseconds", 10 * kMilli);
  return b;
}

// A CPU profile as the agent writes it: inlines, recursion, two mappings, thread names, comments.
Builder Cpu() {
  Builder b = CpuBuilder();
  b.profile().set_time_nanos(kTime);
  b.profile().set_duration_nanos(3'120 * kMilli);
  b.Comment("profagent 0.1.0").Comment("# not in headers").Comment("");
  const uint64_t app = b.Mapping(0x400000, 0x452000, 0, "/usr/bin/app", "deadbeef00112233");
  const uint64_t lib = b.Mapping(0x7f0000000000, 0x7f0000100000, 0x1000, "/usr/lib/libwork.so.1", "0badc0de");
  const uint64_t main = b.Location(app, 0x401010, {{"main", "/src/main.cc", 12, 10}});
  const uint64_t parse = b.Location(app, 0x401100, {{"_ZN3app6parserC1EPKc", "/src/parser.cc", 40, 33}});
  const uint64_t inlined = b.Location(app, 0x401200,
                                      {{"_ZNKSt6vectorIiSaIiEE4sizeEv", "/usr/include/vector.h", 900, 899},
                                       {"_ZN3app4step", "/src/step.cc", 7, 5},
                                       {"_ZN3app3runEi", "/src/run.cc", 70, 60}});
  const uint64_t run = b.Location(app, 0x401300, {{"_ZN3app3runEi", "/src/run.cc", 75, 60}});
  const uint64_t step = b.Location(app, 0x401400, {{"_ZN3app4step", "/src/step.cc", 9, 5}});
  const uint64_t hot = b.Location(lib, 0x7f0000001234, {{"hot_loop", "hot.c", 3, 1}});
  const uint64_t cold = b.Location(lib, 0x7f0000001300, {{"cold", "hot.c", 30, 28}});
  const Builder::Label worker{"thread", "worker", 0, ""}, main_thread{"thread", "main", 0, ""};
  b.Sample({hot, run, main}, {120, 1200 * kMilli}, {main_thread});
  b.Sample({hot, run, main}, {20, 200 * kMilli}, {worker});
  b.Sample({inlined, run, main}, {7, 70 * kMilli}, {worker});
  b.Sample({step, run, run, run, main}, {3, 30 * kMilli}, {worker});
  b.Sample({step, inlined, main}, {1, 10 * kMilli}, {worker});
  b.Sample({cold, parse, main}, {1, 10 * kMilli}, {main_thread});
  b.Sample({parse, main}, {0, 0}, {main_thread});
  b.Sample({}, {2, 20 * kMilli}, {main_thread});
  b.Sample({main}, {1, 4}, {});
  return b;
}

Builder Heap() {
  Builder b;
  b.Type("alloc_objects", "count")
      .Type("alloc_space", "bytes")
      .Type("inuse_objects", "count")
      .Type("inuse_space", "bytes");
  b.Period("space", "bytes", 524288).DefaultType("alloc_space");
  b.profile().set_time_nanos(kTime);
  const uint64_t app = b.Mapping(0x10000, 0x20000, 0, "/opt/my app/server (deleted)", "");
  const uint64_t main = b.Location(app, 0x10010, {{"main", "main.go", 5}});
  const uint64_t grow = b.Location(app, 0x10020, {{"github.com/x/y/v2.(*Pool[...]).Grow", "pool.go", 50}});
  const uint64_t make = b.Location(app, 0x10030, {{"std::make_unique<int, std::less<>>(int&&)", "u.h", 4}});
  b.Sample({grow, main}, {2050, 2099200, 1025, 1049600}, {{"bytes", "", 1024, ""}});
  b.Sample({grow, main}, {10, 10 << 20, 0, 0}, {{"bytes", "", 1 << 20, ""}});
  b.Sample({make, grow, main}, {1, 829411, 1, 829411},
           {{"bytes", "", 524288, "bytes"}, {"request", "", 524000, ""}});
  b.Sample({make, main}, {3, 5LL << 40, 2, 3LL << 40}, {{"bytes", "", 1LL << 40, ""}});
  return b;
}

// A difference: values of both signs, some of which cancel out.
Builder Negative() {
  Builder b;
  b.Type("delay", "nanoseconds");
  const uint64_t m = b.Mapping(0x1000, 0x2000, 0, "bin", "");
  const uint64_t f = b.Location(m, 0x1001, {{"f", "", 0}}), g = b.Location(m, 0x1002, {{"g", "", 0}}),
                 h = b.Location(m, 0x1003, {{"h", "", 0}}), i = b.Location(m, 0x1004, {{"i", "", 0}});
  b.Sample({f, g}, {-5'000'000})
      .Sample({g, f}, {3'000'000})
      .Sample({h, f}, {5'000'000})
      .Sample({h, g}, {-5'000'000});
  b.Sample({i, h}, {100}).Sample({i, g}, {-99}).Sample({h}, {1}).Sample({h, h}, {-1});
  return b;
}

Builder Huge() {
  Builder b;
  b.Type("space", "bytes").Type("time", "ns").Type("things", "things");
  const uint64_t m = b.Mapping(0, ~uint64_t{0}, ~uint64_t{0}, "/huge", "");
  const int64_t most = std::numeric_limits<int64_t>::max(), least = std::numeric_limits<int64_t>::min();
  const uint64_t f = b.Location(m, ~uint64_t{0}, {{"f", "f.c", most, most}});
  const uint64_t g = b.Location(m, 1, {{"g", "g.c", least, least}});
  const uint64_t h = b.Location(m, 2, {{"h", "h.c", -1, 0}});
  b.Sample({f}, {most, most, most})
      .Sample({g, f}, {least, least, least})
      .Sample({h, g, f}, {most / 2, 1, -1});
  b.profile().set_duration_nanos(most);
  return b;
}

// Places about which little is known.
Builder Unknown() {
  Builder b = CpuBuilder();
  b.profile().set_duration_nanos(999);
  const uint64_t m = b.Mapping(0x400000, 0x500000, 0, "/usr/bin/stripped", "");
  const uint64_t anonymous = b.Mapping(0x600000, 0x700000, 0, "", "");
  const uint64_t vdso = b.Mapping(0x800000, 0x801000, 0, "[vdso]", "");
  const uint64_t in_file = b.Location(m, 0x400100), other_in_file = b.Location(m, 0x400200);
  const uint64_t in_anonymous = b.Location(anonymous, 0x600100), in_vdso = b.Location(vdso, 0x800100);
  const uint64_t nowhere = b.Location(0, 0xdeadbeef), zero = b.Location(0, 0);
  const uint64_t no_name = b.Location(m, 0x400300, {{"", "/src/x.c", 5, 2}});
  const uint64_t no_name_no_line = b.Location(m, 0x400400, {{"", "/src/x.c", 0, 1}});
  const uint64_t nothing = b.Location(anonymous, 0x600400, {{"", "", 0}});
  const uint64_t line_only = b.Location(m, 0x400500, {{"known", "", 17}});
  b.Sample({in_file, other_in_file, nowhere}, {1, 10})
      .Sample({in_anonymous, zero}, {2, 20})
      .Sample({in_vdso}, {3, 30});
  b.Sample({no_name, no_name_no_line, nothing, line_only}, {4, 40}).Sample({zero, in_file}, {5, 50});
  return b;
}

Builder NoMapping() {
  Builder b = CpuBuilder();
  const uint64_t f = b.Location(0, 0x1234, {{"f", "f.c", 1}}), g = b.Location(0, 0x1235);
  b.Sample({f, g}, {1, 10 * kMilli}).Sample({g}, {1, 10 * kMilli});
  return b;
}

Builder Labels() {
  Builder b = CpuBuilder();
  const uint64_t m = b.Mapping(0x400000, 0x500000, 0, "/usr/bin/labels", "");
  const uint64_t f = b.Location(m, 0x400001, {{"f", "f.c", 1}}),
                 g = b.Location(m, 0x400002, {{"g", "g.c", 1}});
  b.Sample({f}, {1, 1000},
           {{"thread", "b", 0, ""}, {"thread", "a", 0, ""}, {"a key longer than ten", "x y", 0, ""}});
  b.Sample({f}, {1, 1000},
           {{"thread", "a", 0, ""}, {"a key longer than ten", "x y", 0, ""}, {"thread", "b", 0, ""}});
  b.Sample({f}, {2, 1000},
           {{"bytes", "", 2048, ""}, {"bytes", "", 1, ""}, {"latency", "", 1500, "milliseconds"}});
  b.Sample({g}, {3, 1000}, {{"latency", "", 90, "seconds"}, {"latency", "", 0, ""}, {"latency", "", 7, ""}});
  b.Sample({g}, {4, 1000},
           {{"alignment", "", 16, ""}, {"request", "", 1 << 20, ""}, {"plain", "", -12345, ""}});
  b.Sample({g}, {5, 1000}, {{"zero", "", 0, ""}, {"zero with unit", "", 0, "bytes"}, {"", "no key", 0, ""}});
  b.Sample(
      {g}, {6, 1000},
      {{"schlüssel", "wert ü", 0, ""}, {"tab", "x\ty", 0, ""}, {"both", "", 1, ""}, {"both", "t", 0, ""}});
  b.Sample({g}, {7, 1000}, {{"x", "", 3, "widgets"}, {"x", "", 4, "gadgets"}, {"x", "", 5, ""}});
  b.Sample({g, f}, {8, 1000}, {{"bytes", "", 1 << 30, ""}, {"thread", "", 0, ""}});
  return b;
}

Builder Empty() {
  Builder b = CpuBuilder();
  b.Mapping(0x400000, 0x500000, 0, "/usr/bin/idle", "abc");
  b.profile().set_duration_nanos(5'000 * kMilli);
  return b;
}

Builder NoTypes() {
  Builder b;
  b.Mapping(0x400000, 0x500000, 0, "/usr/bin/idle", "");
  return b;
}

Builder DropFrames() {
  Builder b = CpuBuilder();
  b.DropFrames("malloc|free|ns::.*|operator new|lost", "ns::keep");
  const uint64_t m = b.Mapping(0x1000, 0x9000, 0, "bin", "");
  const uint64_t main = b.Location(m, 0x1000, {{"main", "", 0}});
  const uint64_t malloc = b.Location(m, 0x1001, {{"malloc", "", 0}});
  const uint64_t inner = b.Location(m, 0x1002, {{"inner", "", 0}});
  const uint64_t dropped = b.Location(m, 0x1003, {{"ns::f(int)|ns::f(int)|", "", 0}});
  const uint64_t kept = b.Location(m, 0x1004, {{"ns::keep(int)|x", "", 0}});
  const uint64_t inlined = b.Location(m, 0x1005, {{"deep", "", 0}, {"free", "", 0}, {"caller", "", 0}});
  const uint64_t anonymous = b.Location(m, 0x1006, {{"(anonymous namespace)::operator()(int)|y", "", 0}});
  const uint64_t op = b.Location(m, 0x1007, {{"operator new(unsigned long)|_Znwm", "", 0}});
  b.Sample({inner, malloc, main}, {1, 1})
      .Sample({inner, dropped, main}, {2, 2})
      .Sample({inner, kept, main}, {3, 3});
  b.Sample({inner, inlined, main}, {4, 4})
      .Sample({malloc, malloc}, {5, 5})
      .Sample({anonymous, op, main}, {6, 6});
  b.Sample({malloc, main, malloc}, {7, 7})
      .Sample({op}, {8, 8})
      .Sample({inlined}, {9, 9})
      .Sample({main, inlined}, {1, 1});
  return b;
}

// Some 300 functions in stacks of up to 30 frames, skewed, so that fractions and counts cut through the
// middle.
Builder Many() {
  Builder b = CpuBuilder();
  b.profile().set_duration_nanos(60'000 * kMilli);
  const uint64_t m = b.Mapping(0x400000, 0x500000, 0, "/usr/bin/many", "");
  const uint64_t lib = b.Mapping(0x800000, 0x900000, 0, "/lib/libmany.so", "");
  uint64_t state = 1;
  const auto random = [&](uint64_t n) {
    state = state * 6364136223846793005 + 1442695040888963407;
    return (state >> 33) % n;
  };
  std::vector<uint64_t> locations;
  for (uint64_t i = 0; i < 300; ++i) {
    std::vector<Builder::FunctionAtLine> lines;
    for (uint64_t depth = random(4) == 0 ? 1 + random(3) : 1; depth > 0; --depth) {
      const uint64_t f = random(250);
      lines.push_back({"function_" + std::to_string(f), "/src/dir" + std::to_string(f % 7) + "/file.cc",
                       static_cast<int64_t>(random(90)), static_cast<int64_t>(f % 5)});
    }
    if (random(40) == 0) lines.clear();
    const bool in_lib = random(3) == 0;
    locations.push_back(b.Location(in_lib ? lib : m, (in_lib ? 0x800000 : 0x400000) + i * 16, lines));
  }
  for (int i = 0; i < 2000; ++i) {
    std::vector<uint64_t> stack;
    for (uint64_t depth = 1 + random(30); depth > 0; --depth) {
      const uint64_t range = 1 + random(300);
      stack.push_back(locations[random(range)]);
    }
    const auto ticks = static_cast<int64_t>(1 + (random(50) == 0 ? random(500) : random(3)));
    b.Sample(stack, {ticks, ticks * 10 * kMilli}, {{"thread", "t" + std::to_string(random(3)), 0, ""}});
  }
  return b;
}

// Equal weights everywhere: only the order of ties is left.
Builder Ties() {
  Builder b;
  b.Type("n", "count");
  const uint64_t m = b.Mapping(0x1000, 0x9000, 0, "/bin/ties", ""),
                 n = b.Mapping(0x9000, 0xa000, 0, "/bin/other", "");
  std::vector<uint64_t> all;
  for (const char* name : {"b", "a", "C", "", "aa", "a b"}) {
    for (const char* file : {"", "z.c", "y.c", "./z.c"}) {
      all.push_back(b.Location(m, 0x1000 + all.size(), {{name, file, 3, 1}}));
      all.push_back(b.Location(n, 0x9000 + all.size(), {{name, file, 3, 2}}));
      all.push_back(b.Location(n, 0x9000 + all.size(), {{name, file, 0, 3}}));
    }
  }
  all.push_back(b.Location(m, 0x8000));
  all.push_back(b.Location(n, 0x9800));
  for (size_t i = 0; i < all.size(); ++i)
    b.Sample({all[i], all[(i * 7 + 3) % all.size()]}, {i % 3 == 0 ? -10 : 10});
  return b;
}

Builder Names() {
  Builder b = CpuBuilder();
  const uint64_t m = b.Mapping(0x10000, 0x90000, 0, "/bin/names", "");
  uint64_t address = 0x10000;
  for (const char* name : {"_ZN3app3BoxIiE4workEi",
                           "_ZNSt6vectorIiSaIiEE9push_backERKi",
                           "_Znwm",
                           "_ZdlPv",
                           "_ZTV3app",
                           "_ZN12_GLOBAL__N_13fooEv",
                           "_ZN3appclEv",
                           "_ZN3fooILi3EEC2Ev",
                           "_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE",
                           "_ZN3app4main.cold",
                           "_ZN3app4mainEv.part.0",
                           "_RNvC6_123foo3bar",
                           "_RINvNtC3std3mem8align_ofdE",
                           "main.main",
                           "main.(*T[...]).f",
                           "com.example.Foo.<init>",
                           "a<b>::c(int)",
                           "f(int)",
                           "f",
                           "std::vector<int>::push_back(int const&)",
                           "operator<",
                           "std::operator<<(x)",
                           "x[1]",
                           "a>b<c",
                           "foo<bar",
                           "(anonymous namespace)::f(int)",
                           "_ZL3foov",
                           "_Z1fIiEvT_",
                           "_ZZ4mainENKUlvE_clEv",
                           "__libc_start_main",
                           "_start",
                           "_Z",
                           "_Znotmangled",
                           "$d",
                           "a::b",
                           "operator()::x()",
                           "app::f|_ZN3app1fEv",
                           "app::f(int)|_ZN3app1fEi",
                           "|_ZN3app1gEv",
                           "\xff\xfe not utf-8"}) {
    b.Sample({b.Location(m, address, {{name, "n.cc", 1, 1}})}, {1, static_cast<int64_t>(address)});
    address += 16;
  }
  return b;
}

Builder Units() {
  Builder b;
  b.Type("gcu", "GCU")
      .Type("wall", "Seconds")
      .Type("size", "KiloBytes")
      .Type("mixed", "microseconds")
      .Type("odd", "furlongs");
  b.Type("hours", "hour").Type("nothing", "").Type("m", "minimum").Type("milli", "milliGCU").Type("mu", "μs");
  b.DefaultType("absent").Period("wall", "seconds", 3);
  b.profile().set_duration_nanos(90'500 * kMilli);
  const uint64_t m = b.Mapping(0x1000, 0x9000, 0, "bin", "");
  const uint64_t f = b.Location(m, 0x1001, {{"f", "", 0}}), g = b.Location(m, 0x1002, {{"g", "", 0}});
  b.Sample({f}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  b.Sample({g, f}, {1000000, 7200, 99999, 3600000000, 12, 1, 1, 1, 5000, 100});
  b.Sample({g}, {0, 0, 0, 1, 0, 0, 0, 0, 0, 0});
  return b;
}

Builder Files() {
  Builder b = CpuBuilder();
  b.profile().set_time_nanos(-1);
  const uint64_t m = b.Mapping(0x1000, 0x9000, 0, "relative/dir/", "");
  uint64_t address = 0x1000;
  for (const char* file :
       {"/a//b/../c.cc", "/a/c.cc", "./x.cc", "x.cc", "../../up.cc", "/..", "a/./b/./", "/proc/self/cwd/p.cc",
        "/proc/self/cwd/./q.cc", "/work/project/r.cc", "C:\\dir\\w.cc", "/", ".", "a/b/../..", "//x"}) {
    b.Sample({b.Location(m, address, {{"f", file, 4}})}, {1, 10 * kMilli});
    address += 8;
  }
  return b;
}

// Everything that only -raw shows.
Builder Raw() {
  Builder b = CpuBuilder();
  b.profile().set_time_nanos(kTime - 250'000'000);
  b.profile().set_duration_nanos(250'001);
  b.DefaultType("samples").Comment("one\ntwo").Comment("# hash").Comment("one\ntwo");
  const uint64_t m = b.Mapping(0x1000, 0x9000, 0x200, "/bin/raw", "id");
  b.profile().mutable_mapping(0)->set_has_filenames(true);
  b.profile().mutable_mapping(0)->set_has_line_numbers(true);
  b.profile().mutable_mapping(0)->set_has_inline_frames(true);
  b.Mapping(0x9000, 0xa000, 0, "unused", "");
  const uint64_t f = b.Location(m, 0x1001, {{"short|_ZN4long4nameEv", "f.c", 1, 9}, {"g", "g.c", -5, 0}});
  b.Location(m, 0x1003, {{"unused", "", 0}});
  const uint64_t h = b.Location(m, 0x1002);
  b.profile().mutable_location(0)->set_is_folded(true);
  b.Sample({f, h, f}, {12345678901, -3}).Sample({h}, {0, 0}).Sample({h}, {1, 0}).Sample({}, {0, 7});
  return b;
}

Builder TinyFractions() {
  Builder b = CpuBuilder();
  b.profile().set_duration_nanos(1);
  const uint64_t m = b.Mapping(0x1000, 0x9000, 0, "bin", "");
  int64_t value = 1;
  for (int i = 0; i < 18; ++i, value *= 10) {
    b.Sample({b.Location(m, 0x1000 + static_cast<uint64_t>(i), {{"f" + std::to_string(i), "", 0}})},
             {value, value * 3});
  }
  return b;
}

// Another run of what Cpu shows: the same mappings elsewhere, other ids.
Builder MovedCpu() {
  Builder b = CpuBuilder();
  b.profile().set_time_nanos(kTime - 1'000 * kMilli);
  b.profile().set_duration_nanos(1'000 * kMilli);
  b.Comment("profagent 0.1.0").Comment("second run");
  const uint64_t lib =
      b.Mapping(0x7e0000000000, 0x7e0000100000, 0x1000, "/elsewhere/libwork.so.1", "0badc0de");
  const uint64_t app = b.Mapping(0x500000, 0x551fff, 0, "/usr/bin/app", "deadbeef00112233");
  const uint64_t hot = b.Location(lib, 0x7e0000001234, {{"hot_loop", "hot.c", 3, 1}});
  const uint64_t main = b.Location(app, 0x501010, {{"main", "/src/main.cc", 12, 10}});
  const uint64_t run = b.Location(app, 0x501300, {{"_ZN3app3runEi", "/src/run.cc", 75, 60}});
  const uint64_t other = b.Location(app, 0x501310, {{"_ZN3app3runEi", "/src/run.cc", 76, 60}});
  b.Sample({hot, run, main}, {5, 50 * kMilli}, {{"thread", "main", 0, ""}});
  b.Sample({hot, other, main}, {5, 50 * kMilli}, {{"thread", "main", 0, ""}});
  return b;
}

// The types of Cpu in a coarser unit: merged, both are in nanoseconds.
Builder Seconds() {
  Builder b;
  b.Type("samples", "count").Type("cpu", "s").Period("cpu", "ms", 10);
  const uint64_t m = b.Mapping(0x1000, 0x2000, 0, "other", "");
  b.Sample({b.Location(m, 0x1001, {{"f", "f.c", 1}})}, {2, 3})
      .Sample({b.Location(m, 0x1002, {{"g", "f.c", 1}})}, {1, 0});
  return b;
}

// A difference that was saved: what was its base is labelled.
Builder Difference() {
  Builder b = CpuBuilder();
  const uint64_t m = b.Mapping(0x1000, 0x2000, 0, "bin", "");
  const uint64_t f = b.Location(m, 0x1001, {{"f", "f.c", 1}});
  b.Sample({f}, {5, 50 * kMilli}, {{"pprof::base", "old", 0, ""}, {"pprof::base", "", 3, "kb"}})
      .Sample({f}, {-3, -30 * kMilli}, {{"pprof::base", "true", 0, ""}})
      .Sample({f}, {1, 10 * kMilli});
  return b;
}

}  // namespace

std::vector<GoldenProfile> GoldenProfiles() {
  struct Case {
    const char* name;
    Builder (*build)();
  };
  static constexpr Case kCases[] = {
      {"cpu", Cpu},
      {"heap", Heap},
      {"negative", Negative},
      {"huge", Huge},
      {"unknown", Unknown},
      {"no_mapping", NoMapping},
      {"labels", Labels},
      {"empty", Empty},
      {"no_types", NoTypes},
      {"drop_frames", DropFrames},
      {"many", Many},
      {"ties", Ties},
      {"names", Names},
      {"units", Units},
      {"files", Files},
      {"raw", Raw},
      {"tiny_fractions", TinyFractions},
      {"moved_cpu", MovedCpu},
      {"seconds", Seconds},
      {"difference", Difference},
  };
  std::vector<GoldenProfile> profiles;
  for (const Case& one : kCases) profiles.push_back({one.name, one.build().profile()});
  return profiles;
}

}  // namespace profagent
