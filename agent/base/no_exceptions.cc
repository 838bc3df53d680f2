// What the library's inlined std:: code calls where it would throw. Nothing here is ever reached.
//
// Why: libstdc++'s own definition stands in an object file that brings the whole exception machinery with it:
//      150 KiB, and a static constructor that takes 72 KiB from the application's heap. This one wins,
//      because the linker looks into an archive only for what is missing. scripts/check sees the difference:
//      `malloc` among the needed names.
// Context: linked into libprofagent.so only; never the command or the tests, where std:: throws as usual.
namespace std {

// string_view::substr with a position behind its end: a broken promise inside the agent.
[[noreturn]] __attribute__((visibility("hidden"))) void __throw_out_of_range_fmt(const char* format, ...) {
  __builtin_trap();
}

// An assertion of the library's (_GLIBCXX_ASSERTIONS), for whoever has those in his flags.
[[noreturn]] __attribute__((visibility("hidden"))) void __glibcxx_assert_fail(
    const char* file, int line, const char* function, const char* condition) noexcept {
  __builtin_trap();
}

}  // namespace std
