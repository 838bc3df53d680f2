#include "agent/unwind/module_map.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sched.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <map>
#include <string>
#include <thread>

#include "tests/unit/unwind/unwind_fixture.h"

namespace profagent {
namespace {

class ModuleMapTest : public UnwindFixture {
 public:
  template <class Record>
  const Record* At(RecordId id) {
    return reinterpret_cast<const Record*>(ledger_.bytes().data() + id * kRecordUnit);
  }
  std::string Path(const ModuleRecord& record) { return At<TextRecord>(record.path)->data(); }
  std::map<uint16_t, const ModuleRecord*> Records() {
    std::map<uint16_t, const ModuleRecord*> records;
    for (RecordId id = ledger_.header()->modules; id != 0; id = At<ModuleRecord>(id)->next) {
      records[static_cast<uint16_t>(At<ModuleRecord>(id)->id)] = At<ModuleRecord>(id);
    }
    return records;
  }
  ModuleId IdOf(const void* address) {
    ModuleMap::Reader reader(&unwinder_->modules());
    const Module* module = unwinder_->modules().Find(reinterpret_cast<uintptr_t>(address));
    return module != nullptr ? module->id : ModuleId::kNone;
  }
  void Close(void* library) {
    unwinder_->BeforeLibraryClose();
    dlclose(library);
    unwinder_->AfterLibraryClose();
  }
};

TEST_F(ModuleMapTest, EntersWhatIsLoadedAtTheStartProgramFirst) {
  auto records = Records();
  ASSERT_TRUE(records.count(1));
  EXPECT_TRUE(records[1]->flags & kModuleIsProgram);
  char program[PATH_MAX];
  ASSERT_NE(realpath("/proc/self/exe", program), nullptr);
  EXPECT_EQ(Path(*records[1]), program);
  EXPECT_TRUE(records[1]->flags & kModuleIsAgent) << "this test carries the agent's code";
  EXPECT_GT(records[1]->build_id_size, 0u);
  bool libc = false, vdso = false, loader = false;
  for (auto& [id, record] : records) {
    libc |= Path(*record).find("libc.so.6") != std::string::npos;
    vdso |= Path(*record) == "[vdso]" && (record->flags & kModuleIsVdso) != 0;
    loader |= (record->flags & kModuleIsLoader) != 0;
    EXPECT_LT(record->start, record->limit);
    EXPECT_LT(record->text_start, record->text_limit);
    EXPECT_GE(record->text_start, record->start);
  }
  EXPECT_TRUE(libc);
  EXPECT_TRUE(vdso);
  EXPECT_TRUE(loader);
}

// What is not is looked up by the loader, and not at all while a library is closed.
TEST_F(ModuleMapTest, WhatIsLoadedAtTheStartStaysThroughACloseOfAnother) {
  void* library = dlopen(OTHER_LIBRARY, RTLD_NOW);
  ASSERT_NE(library, nullptr);
  Close(library);
  unwinder_->BeforeLibraryClose();
  for (auto& [id, record] : Records()) {
    EXPECT_EQ(IdOf(reinterpret_cast<void*>(record->text_start)), record->id) << Path(*record);
  }
  unwinder_->AfterLibraryClose();
}

TEST_F(ModuleMapTest, KnowsTheVdsoAndNothingWhereNothingIs) {
  EXPECT_NE(IdOf(reinterpret_cast<void*>(getauxval(AT_SYSINFO_EHDR) + 64)), ModuleId::kNone);
  EXPECT_EQ(IdOf(nullptr), ModuleId::kNone);
  EXPECT_EQ(IdOf(reinterpret_cast<void*>(~uintptr_t{0})), ModuleId::kNone);
  int on_the_stack = 0;
  EXPECT_EQ(IdOf(&on_the_stack), ModuleId::kNone);
}

// Whoever reads them first: all see the same tables, at the same place.
TEST_F(ModuleMapTest, GivesRacingThreadsTheSameTables) {
  for (int round = 0; round < 50; ++round) {
    ModuleMap& modules = unwinder_->modules();
    const EhFrameTables* seen[4] = {};
    std::atomic<int> ready{0};
    std::vector<std::thread> threads;
    for (auto& each : seen) {
      threads.emplace_back([&] {
        ModuleMap::Reader reader(&modules);
        const Module* libc = modules.Find(reinterpret_cast<uintptr_t>(&getpid));
        ++ready;
        while (ready.load() < 4) sched_yield();
        each = &modules.TablesOf(*libc);
        EXPECT_GT(each->table_count, 100u);
      });
    }
    for (auto& thread : threads) thread.join();
    for (auto* each : seen) EXPECT_EQ(each, seen[0]);
    TearDown();
    SetUp();
  }
}

TEST_F(ModuleMapTest, MeetsALibraryThatIsOpenedLater) {
  size_t before = Records().size();
  void* library = dlopen(STEPPED_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(library, nullptr) << dlerror();
  ModuleId id = IdOf(dlsym(library, "Answer"));
  EXPECT_NE(id, ModuleId::kNone);
  EXPECT_EQ(IdOf(dlsym(library, "LibraryWork")), id);
  auto records = Records();
  EXPECT_EQ(records.size(), before + 1);
  const ModuleRecord* record = records[static_cast<uint16_t>(id)];
  ASSERT_NE(record, nullptr);
  EXPECT_EQ(Path(*record), STEPPED_LIBRARY);
  auto address = reinterpret_cast<uintptr_t>(dlsym(library, "Answer"));
  EXPECT_GE(address, record->text_start);
  EXPECT_LT(address, record->text_limit);
  Close(library);
}

// One library's frames shown under another's name is the worst that a profile can do.
TEST_F(ModuleMapTest, TellsLibrariesApartThatReuseAnAddress) {
  void* first = dlopen(STEPPED_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(first, nullptr);
  void* answer = dlsym(first, "Answer");
  ModuleId first_id = IdOf(answer);
  Close(first);
  EXPECT_EQ(IdOf(answer), ModuleId::kNone);

  void* second = dlopen(OTHER_LIBRARY, RTLD_NOW | RTLD_LOCAL);  // the same code but for one constant
  ASSERT_NE(second, nullptr);
  if (dlsym(second, "Answer") != answer) GTEST_SKIP() << "the loader chose another address";
  ModuleId second_id = IdOf(answer);
  EXPECT_NE(second_id, ModuleId::kNone);
  EXPECT_NE(second_id, first_id);
  EXPECT_EQ(Path(*Records()[static_cast<uint16_t>(second_id)]), OTHER_LIBRARY);
  Close(second);

  void* third = dlopen(STEPPED_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  ASSERT_EQ(dlsym(third, "Answer"), answer);
  EXPECT_EQ(IdOf(answer), first_id) << "every field of its record would be the same";
  Close(third);
}

// A plugin that is opened and closed for ever must not fill the table.
TEST_F(ModuleMapTest, TakesNoNewIdForTheSameLibraryAtTheSamePlace) {
  std::map<ModuleId, int> ids;
  for (int i = 0; i < 200; ++i) {
    void* library = dlopen(STEPPED_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    ++ids[IdOf(dlsym(library, "Answer"))];
    Close(library);
  }
  EXPECT_LE(ids.size(), 20u);
  EXPECT_EQ(ids.count(ModuleId::kNone), 0u);
}

TEST_F(ModuleMapTest, DoesNotLookIntoLibrariesThatMayBeGoing) {
  void* library = dlopen(STEPPED_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  void* answer = dlsym(library, "Answer");
  unwinder_->BeforeLibraryClose();
  EXPECT_EQ(IdOf(answer), ModuleId::kNone);
  EXPECT_NE(IdOf(reinterpret_cast<void*>(&getpid)), ModuleId::kNone) << "libc stays";
  EXPECT_GT(ledger_.header()->losses[static_cast<uint32_t>(Loss::kLibraryUnloaded)], 0u);
  dlclose(library);
  unwinder_->AfterLibraryClose();
}

// Of two threads in dlclose the one that is back first must not have us look at what the other is closing.
TEST_F(ModuleMapTest, DoesNotLookBeforeTheLastClosingIsOver) {
  void* library = dlopen(STEPPED_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  void* answer = dlsym(library, "Answer");
  unwinder_->BeforeLibraryClose();
  unwinder_->BeforeLibraryClose();
  unwinder_->AfterLibraryClose();
  EXPECT_EQ(IdOf(answer), ModuleId::kNone);
  unwinder_->AfterLibraryClose();
  EXPECT_NE(IdOf(answer), ModuleId::kNone);
  Close(library);
}

// dlclose on one thread while another one is sampled in the library all the time.
TEST_F(ModuleMapTest, SurvivesLibrariesThatComeAndGoUnderAWalk) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the loader publishes its link_map by atomics of its own, which the sanitizer does not see";
#endif
  std::atomic<bool> stop{false};
  std::atomic<uintptr_t> address{0};
  std::thread walker([&] {
    std::vector<Frame> frames(64);
    ucontext_t context;
    getcontext(&context);
    while (!stop) {
      // A stale address: it may be mapped, unmapped, or something else by now.
      context.uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(address.load());
      WalkResult result = unwinder_->Walk(context, {}, frames);
      ASSERT_GE(result.depth, 1u);
    }
  });
  for (int i = 0; i < 300; ++i) {
    void* library = dlopen(i % 2 == 0 ? STEPPED_LIBRARY : OTHER_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    address = reinterpret_cast<uintptr_t>(dlsym(library, "LibraryWork")) + 4;
    std::this_thread::yield();
    Close(library);
  }
  stop = true;
  walker.join();
}

TEST_F(ModuleMapTest, EntersALibraryOnceWhenThreadsMeetItTogether) {
  void* library = dlopen(OTHER_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  void* answer = dlsym(library, "Answer");
  std::vector<ModuleId> ids(8);
  std::vector<std::thread> threads;
  for (auto& id : ids) threads.emplace_back([&] { id = IdOf(answer); });
  for (auto& thread : threads) thread.join();
  for (auto& id : ids) EXPECT_EQ(id, ids[0]);
  Close(library);
}

}  // namespace
}  // namespace profagent
