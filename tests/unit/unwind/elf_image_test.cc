#include "agent/unwind/elf_image.h"

#include <gtest/gtest.h>

namespace profagent {
namespace {

// Linker scripts put all notes into one segment, and .note.gnu.property makes its alignment 8. Then what a note holds is
// aligned so, and not the size of its name.
TEST(ElfImage, FindsTheBuildIdBehindNotesOfAlignmentEight) {
  struct Object {
    Elf64_Nhdr property{4, 16, 5};
    char property_owner[4] = {'G', 'N', 'U', 0};
    uint8_t property_content[16] = {};
    Elf64_Nhdr build_id{4, 3, NT_GNU_BUILD_ID};
    char build_id_owner[4] = {'G', 'N', 'U', 0};
    uint8_t build_id_content[8] = {0xab, 0xcd, 0xef};
  };
  alignas(8) static const Object object;
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
