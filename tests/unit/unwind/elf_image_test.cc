#include "agent/unwind/elf_image.h"

#include <gtest/gtest.h>

#include "tests/unit/aligned_notes.h"

namespace profagent {
namespace {

TEST(ElfImage, FindsTheBuildIdBehindNotesOfAlignmentEight) {
  alignas(8) static const NotesOfAlignmentEight object;
  Elf64_Phdr headers[2] = {};
  headers[0] = {.p_type = PT_LOAD,
                .p_flags = PF_R,
                .p_offset = 0,
                .p_vaddr = 0,
                .p_paddr = 0,
                .p_filesz = sizeof object,
                .p_memsz = sizeof object,
                .p_align = 8};
  headers[1] = headers[0];
  headers[1].p_type = PT_NOTE;
  const auto start = reinterpret_cast<uintptr_t>(&object);
  ElfImage image;
  ReadElfImage({start, start + sizeof object}, start, headers, &image);
  ASSERT_EQ(image.build_id.size(), 3u);
  EXPECT_EQ(image.build_id.data(), object.build_id_content);
}

}  // namespace
}  // namespace profagent
