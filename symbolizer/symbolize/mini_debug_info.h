// MiniDebugInfo: Fedora and its descendants strip their binaries, but leave an xz-compressed ELF file in the section
// .gnu_debugdata, with the symbols of the functions that .dynsym does not have.
//
// Context:    `offline`.
// Limits:     66 MiB of memory for the decoder (xz -9 needs 65), 256 MiB of what comes out.
#pragma once

#include <memory>

#include "symbolizer/symbolize/elf_file.h"

namespace profagent {

// nullptr: `file` has none. Errors name its path.
Result<std::unique_ptr<ElfFile>> OpenMiniDebugInfo(const ElfFile& file);

}  // namespace profagent
