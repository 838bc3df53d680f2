// The notes of an object whose linker script put all of them into one segment: .note.gnu.property makes its alignment 8, and then
// what a note holds is aligned so, not the size of its name.
#pragma once

#include <elf.h>

#include <cstdint>

namespace profagent {

struct NotesOfAlignmentEight {
  Elf64_Nhdr property{4, 16, 5};
  char property_owner[4] = {'G', 'N', 'U', 0};
  uint8_t property_content[16] = {};
  Elf64_Nhdr build_id{4, 3, NT_GNU_BUILD_ID};
  char build_id_owner[4] = {'G', 'N', 'U', 0};
  uint8_t build_id_content[8] = {0xab, 0xcd, 0xef};  // the first three
};

}  // namespace profagent
