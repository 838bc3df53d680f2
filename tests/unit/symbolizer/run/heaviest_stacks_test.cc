#include "symbolizer/run/heaviest_stacks.h"

#include <gtest/gtest.h>

#include "symbolizer/profile/merge_profiles.h"
#include "tests/golden/profile_builder.h"

namespace profagent {
namespace {

// A heap profile of stacks of functions, leaf first.
class HeapProfile {
 public:
  HeapProfile() { builder_.Type("inuse_objects", "count").Type("inuse_space", "bytes"); }

  HeapProfile& Add(const std::vector<std::string>& functions, int64_t objects, int64_t bytes) {
    std::vector<uint64_t> locations;
    for (const std::string& function : functions) {
      locations.push_back(builder_.Location(0, 0, {{function, ""}}));
    }
    // Blocks of another size are another sample.
    builder_.Sample(locations, {objects, bytes}, {{"bytes", "", bytes, "bytes"}});
    return *this;
  }
  std::vector<HeavyStack> Heaviest(size_t limit = 5) {
    return HeaviestStacks(Compact(builder_.profile()), "inuse_space", "inuse_objects", limit);
  }

 private:
  ProfileBuilder builder_;
};

TEST(HeaviestStacks, AreInOrderAndNotMoreThanAskedFor) {
  HeapProfile heap;
  heap.Add({"a", "main"}, 1, 10).Add({"b", "main"}, 2, 30).Add({"c", "main"}, 3, 20).Add({"d", "main"}, 4, 0);
  const std::vector<HeavyStack> stacks = heap.Heaviest(2);
  ASSERT_EQ(stacks.size(), 2u);
  EXPECT_EQ(stacks[0].Text(100), "b < main");
  EXPECT_EQ(stacks[0].weight, 30);
  EXPECT_EQ(stacks[0].count, 2);
  EXPECT_EQ(stacks[1].Text(100), "c < main");
  EXPECT_EQ(heap.Heaviest(100).size(), 3u) << "what was freed is no leak";
}

// One leak in blocks of many sizes is one line.
TEST(HeaviestStacks, AddUpBlocksOfAllSizes) {
  HeapProfile heap;
  heap.Add({"grow", "main"}, 1, 10).Add({"grow", "main"}, 1, 20).Add({"grow", "main"}, 1, 40);
  const std::vector<HeavyStack> stacks = heap.Heaviest();
  ASSERT_EQ(stacks.size(), 1u);
  EXPECT_EQ(stacks[0].weight, 70);
  EXPECT_EQ(stacks[0].count, 3);
}

TEST(HeaviestStacks, DoNotShowWhatStartsEveryProgram) {
  HeapProfile heap;
  heap.Add({"a", "main", "__libc_start_call_main", "__libc_start_main_impl", "_start"}, 1, 40)
      .Add({"b", "main", "__libc_start_call_main", "__libc_start_main@@GLIBC_2.34", "app+0x1020"}, 1, 30)
      .Add({"c", "work", "start_thread", "__clone3"}, 1, 20)
      .Add({"start_thread"}, 1, 10);
  std::vector<std::string> texts;
  for (const HeavyStack& stack : heap.Heaviest()) texts.push_back(stack.Text(100));
  EXPECT_EQ(texts, (std::vector<std::string>{"a < main", "b < main", "c < work", "start_thread"}));
}

TEST(HeaviestStacks, LeaveTheLanguagesLibraryOut) {
  HeapProfile heap;
  heap.Add({"pthread_mutex_lock", "std::mutex::lock", "Queue::push", "void std::__invoke<Work>", "main"}, 1,
           30)
      .Add({"futex", "<std::sys::sync::mutex::futex::Mutex>::lock_contended", "w::wait",
            "<&dyn core::ops::function::Fn<()> as core::ops::function::FnOnce<()>>::call_once", "w::main"},
           1, 20)
      .Add({"futex", "<w::Queue as w::Sink>::push|_RNvXCsabc_1wNtB2_5QueueNtB2_4Sink4push", "w::main"}, 1, 15)
      .Add({"alloc::raw_vec::finish_grow", "std::rt::lang_start"}, 1, 10)
      .Add({"stdx::f", "mystd::g<std::string>"}, 1, 5);
  std::vector<std::string> texts;
  for (const HeavyStack& stack : heap.Heaviest()) texts.push_back(stack.Text(100));
  EXPECT_EQ(texts, (std::vector<std::string>{
                       "pthread_mutex_lock < Queue::push < main", "futex < w::wait < w::main",
                       "futex < <w::Queue as w::Sink>::push < w::main",
                       "alloc::raw_vec::finish_grow < std::rt::lang_start", "stdx::f < mystd::g"}));
}

// A function of the program that happens to be called so is part of its stack.
TEST(HeaviestStacks, KeepSuchNamesInTheMiddle) {
  HeapProfile heap;
  heap.Add({"a", "start_thread", "b", "c", "d", "main"}, 1, 1);
  EXPECT_EQ(heap.Heaviest()[0].Text(100), "a < start_thread < b < c < d < main");
}

// What reads the same is the same.
TEST(HeaviestStacks, AreToldApartByTheirInnermostFrames) {
  std::vector<std::string> deep(kShownFrames, "f");
  std::vector<std::string> deeper = deep;
  deep.insert(deep.end(), {"x", "main"});
  deeper.insert(deeper.end(), {"y", "main"});
  HeapProfile heap;
  heap.Add(deep, 1, 10).Add(deeper, 1, 10);
  ASSERT_EQ(heap.Heaviest().size(), 1u);
  EXPECT_EQ(heap.Heaviest()[0].Text(100), "f < f < f < f < f < f < ...");
}

TEST(HeaviestStacks, AreDemangledAndCutToTheWidth) {
  HeapProfile heap;
  // After the bar: what the symbolizer leaves in system_name.
  heap.Add({"foo::bar(int)|_ZN3foo3barEi", "_Z4mainv", "end"}, 1, 1);
  const HeavyStack stack = heap.Heaviest()[0];
  EXPECT_EQ(stack.Text(100), "foo::bar < main < end");
  EXPECT_EQ(stack.Text(21), "foo::bar < main < end");
  EXPECT_EQ(stack.Text(20), "foo::bar < ...");
  EXPECT_EQ(stack.Text(0), "foo::bar < ...") << "a name is never cut";
}

TEST(HeaviestStacks, AreNoneInAProfileOfAnotherKind) {
  HeapProfile heap;
  heap.Add({"a"}, 1, 1);
  ProfileBuilder cpu;
  cpu.Type("samples", "count").Type("cpu", "nanoseconds").Sample({cpu.Location(0, 0, {{"a", ""}})}, {1, 1});
  EXPECT_TRUE(HeaviestStacks(Compact(cpu.profile()), "inuse_space", "inuse_objects", 5).empty());
}

}  // namespace
}  // namespace profagent
