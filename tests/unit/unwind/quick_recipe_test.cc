// The quick way from an FDE to a recipe beside the general one.
#include "agent/unwind/quick_recipe.h"

#include <link.h>

#include "agent/unwind/table_index.h"
#include "tests/unit/unwind/unwind_fixture.h"

namespace profagent {
namespace {

using QuickRecipeTest = UnwindFixture;

Recipe ByRow(const EhFrameTables& tables, uintptr_t pc) {
  FrameEntry entry;
  UnwindRow row;
  if (!FindFrameEntry(tables, nullptr, pc, &entry) || !FindRow(tables, entry, pc, &row)) return {};
  return MakeRecipe(tables, row, pc);
}

// A wrong recipe is a wrong stack in some profile of some program, seen by nobody. Whole libraries, as two compilers and
// hands wrote them: every address of small functions, some hundred of large ones.
TEST_F(QuickRecipeTest, SaysWhatTheGeneralWaySays) {
  dlopen("libcrypto.so.3", RTLD_NOW);  // if there is one
  dlopen("libLLVM-14.so.1", RTLD_NOW);
  struct Count {
    UnwindFixture* test;
    uint64_t asked = 0, answered = 0, different = 0;
  } count{this};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* raw) {
        auto& count = *static_cast<Count*>(raw);
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const Elf64_Phdr& header = info->dlpi_phdr[i];
          if (header.p_type != PT_LOAD || (header.p_flags & PF_X) == 0) continue;
          ModuleMap& modules = count.test->unwinder_->modules();
          ModuleMap::Reader reader(&modules);
          const Module* module = modules.Find(info->dlpi_addr + header.p_vaddr);
          if (module == nullptr || modules.TablesOf(*module).table == 0) continue;
          const EhFrameTables& tables = modules.TablesOf(*module);
          uint64_t stride = tables.table_count / 10'000 + 1;
          for (uint64_t j = 0; j < tables.table_count; j += stride) {
            uintptr_t start = TableValue(tables, tables.table + j * 8, 4);
            FrameEntry entry;
            if (!FindFrameEntry(tables, nullptr, start, &entry)) continue;
            uintptr_t step = (entry.limit - start) / 128 + 1;
            for (uintptr_t pc = start; pc < entry.limit; pc += step) {
              Recipe quick = QuickRecipe(tables, FindTableEntry(tables, nullptr, pc), pc);
              ++count.asked;
              if (quick.kind() == RecipeKind::kNone) continue;
              ++count.answered;
              if (quick == ByRow(tables, pc)) continue;
              if (++count.different < 5) ADD_FAILURE() << info->dlpi_name << "+" << pc - info->dlpi_addr;
            }
          }
        }
        return 0;
      },
      &count);
  printf("%lu addresses, %lu answered\n", count.asked, count.answered);
  EXPECT_GT(count.asked, 100'000u);
  EXPECT_GT(count.answered, count.asked * 9 / 10);
  EXPECT_EQ(count.different, 0u);
}

}  // namespace
}  // namespace profagent
