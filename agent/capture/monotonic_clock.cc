#include "agent/capture/monotonic_clock.h"

#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

#include <cstring>

#include "agent/base/raw_syscall.h"

namespace profagent {
namespace {

int ClockBySystemCall(clockid_t clock, struct timespec* time) {
  return static_cast<int>(RawSyscall(SYS_clock_gettime, clock, time));
}

// The function of that name in the image at `base`, which the kernel mapped: it is believed. The table of symbols is the
// dynamic one; where its length is not said (no DT_HASH), it ends where the strings begin, as every linker lays them out.
uintptr_t FindInVdso(uintptr_t base, const char* name) {
  auto* header = reinterpret_cast<const ElfW(Ehdr)*>(base);
  auto* segments = reinterpret_cast<const ElfW(Phdr)*>(base + header->e_phoff);
  uintptr_t bias = base;
  const ElfW(Dyn)* dynamic = nullptr;
  for (int i = 0; i < header->e_phnum; ++i) {
    if (segments[i].p_type == PT_LOAD) bias = base + segments[i].p_offset - segments[i].p_vaddr;
  }
  for (int i = 0; i < header->e_phnum; ++i) {
    if (segments[i].p_type == PT_DYNAMIC) {
      dynamic = reinterpret_cast<const ElfW(Dyn)*>(bias + segments[i].p_vaddr);
    }
  }
  uintptr_t symbols = 0;
  uintptr_t strings = 0;
  const uint32_t* hash = nullptr;
  for (; dynamic != nullptr && dynamic->d_tag != DT_NULL; ++dynamic) {
    uintptr_t there = bias + dynamic->d_un.d_ptr;
    if (dynamic->d_tag == DT_SYMTAB) symbols = there;
    if (dynamic->d_tag == DT_STRTAB) strings = there;
    if (dynamic->d_tag == DT_HASH) hash = reinterpret_cast<const uint32_t*>(there);
  }
  if (symbols == 0 || strings == 0) return 0;
  size_t count = hash != nullptr ? hash[1] : strings > symbols ? (strings - symbols) / sizeof(ElfW(Sym)) : 0;
  auto* symbol = reinterpret_cast<const ElfW(Sym)*>(symbols);
  for (; count > 0; --count, ++symbol) {
    if (symbol->st_shndx != SHN_UNDEF &&
        std::strcmp(reinterpret_cast<const char*>(strings) + symbol->st_name, name) == 0) {
      return bias + symbol->st_value;
    }
  }
  return 0;
}

}  // namespace

constinit ClockFunction g_clock_gettime = ClockBySystemCall;

void StartMonotonicClock() {
  uintptr_t vdso = getauxval(AT_SYSINFO_EHDR);
  if (vdso == 0) return;
  auto found = reinterpret_cast<ClockFunction>(FindInVdso(vdso, "__vdso_clock_gettime"));
  struct timespec now;
  if (found != nullptr && found(CLOCK_MONOTONIC, &now) == 0) g_clock_gettime = found;
}

void UseClockWithoutCounter() { __atomic_store_n(&g_clock_gettime, &ClockBySystemCall, __ATOMIC_RELAXED); }

}  // namespace profagent
