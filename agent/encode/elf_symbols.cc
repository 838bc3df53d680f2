#include "agent/encode/elf_symbols.h"

#include <sys/auxv.h>

#include "agent/base/text.h"
#include "agent/encode/elf_reader.h"
#include "agent/encode/frame_table_names.h"
#include "agent/encode/go_table_names.h"
#include "agent/encode/plt_names.h"
#include "agent/encode/symbol_table_scan.h"

namespace profagent {
namespace {

bool OpenByPath(ElfReader& file, const SymbolRequest& request) {
  PathText path;
  std::string_view name = request.module.path;
  if (name.empty() || name[0] == '[') return false;  // a name that the kernel made up
  if (name[0] != '/') path.Add(request.working_directory, "/");
  path.Add(name);
  return file.Open(path.c_str()) && file.HasBuildId(request.module.build_id);
}

}  // namespace

void ElfSymbols::operator()(const SymbolRequest& request, std::span<FunctionSymbol> names) const {
  ElfReader file(arena_);
  uint16_t flags = request.module.flags;
  if ((flags & kModuleIsVdso) != 0) {
    // Ours: it is the kernel's, the same for every process since the machine was started, or its build-id differs.
    uintptr_t vdso = getauxval(AT_SYSINFO_EHDR);
    if (vdso == 0 || !file.OpenMapped(vdso) || !file.HasBuildId(request.module.build_id)) return;
  } else if (!OpenByPath(file, request)) {
    // Renamed, deleted, or behind a chroot by now.
    if (origin_ != Origin::kThisProcess || (flags & kModuleIsProgram) == 0) return;
    if (!file.Open("/proc/self/exe") || !file.HasBuildId(request.module.build_id)) return;
  }
  const Elf64_Shdr* table = file.FindSection(SHT_SYMTAB);
  if (table == nullptr) table = file.FindSection(SHT_DYNSYM);
  if (table != nullptr) NameFromSymbolTable(file, *table, request.kind, request.addresses, names, arena_);
  if (request.kind == SymbolKind::kVariables) return;
  NamePltStubs(file, request.addresses, names, arena_);
  NameFromGoTable(file, request.addresses, names, arena_);
  std::string_view module_name = request.module.path;
  NameFromFrameTable(file, module_name.substr(module_name.rfind('/') + 1), request.addresses, names, arena_);
}

}  // namespace profagent
