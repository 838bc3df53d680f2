// Code that a stack walk cannot trust: no CFI, stack and frame pointers that point nowhere or near 2^64, broken
// .eh_frame. The program must run on, and the time must still be in the profile with the right leaf.
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/stat.h>

#include "tests/preload/programs/program.h"

void spin_without_cfi(long count);
void framed_without_cfi(long count);
void add_without_cfi(long count);
void goroutine_without_cfi(long count);
void pointer_without_cfi(long count, long leaf);
void switch_stacks(void (*function)(long), long argument, char* below);
void call_without_cfi(void (*function)(long), long argument);
void spin_with_registers(long count, long rsp, long rbp);

WORK(work_below_no_cfi)

__attribute__((noinline)) void spin_with_cfi(long count) {
  while (count-- > 0) __asm__ volatile("" ::: "memory");
}

static void For(long millis, void (*step)(long, long, long), long a, long b) {
  int64_t end = ThreadCpuNanos() + millis * 1000000;
  while (ThreadCpuNanos() < end) step(200000, a, b);  // some 60 us: reading the clock takes 2
}

static void Leaf(long count, long a, long b) { spin_without_cfi(count); }
// Its frame is found by rbp, whose value only the callee has saved.
__attribute__((noinline)) void many_additions(long count, long a, long b) {
  volatile char* room = __builtin_alloca((size_t)(count % 64 + 64));
  room[0] = 1;
  for (long i = 0; i < count / 20; ++i) add_without_cfi(20);
  room[1] = 2;
}
static void Goroutine(long count, long a, long b) { goroutine_without_cfi(count); }
static void Pointer(long count, long leaf, long b) { pointer_without_cfi(count, leaf); }
static void Switched(long count, long bare, long b) {
  static char below[64 << 10] __attribute__((aligned(16)));
  switch_stacks(bare ? framed_without_cfi : spin_with_cfi, count, below + sizeof below);
}
static void Framed(long count, long a, long b) { framed_without_cfi(count); }

// The time is taken inside a library whose unwind tables are scribbled over while it runs.
static void Scribble(const char* library, unsigned seed) {
  void* handle = dlopen(library, RTLD_NOW);
  REQUIRE(handle != NULL);
  void (*victim)(long) = (void (*)(long))dlsym(handle, "victim_work");
  struct link_map* map;
  REQUIRE(victim != NULL && dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0);
  const ElfW(Ehdr)* header = (const ElfW(Ehdr)*)map->l_addr;
  const ElfW(Phdr)* segments = (const ElfW(Phdr)*)(map->l_addr + header->e_phoff);
  uintptr_t table = 0, limit = 0;
  for (int i = 0; i < header->e_phnum; ++i) {
    if (segments[i].p_type == PT_GNU_EH_FRAME) table = map->l_addr + segments[i].p_vaddr;
  }
  if (table == 0) {  // a library without any
    victim(300);
    return;
  }
  for (int i = 0; i < header->e_phnum;
       ++i) {  // .eh_frame_hdr and .eh_frame behind it share a read-only segment
    uintptr_t start = map->l_addr + segments[i].p_vaddr;
    if (segments[i].p_type == PT_LOAD && table >= start && table < start + segments[i].p_memsz)
      limit = start + segments[i].p_memsz;
  }
  uintptr_t page = table & ~(uintptr_t)4095;
  REQUIRE(mprotect((void*)page, limit - page, PROT_READ | PROT_WRITE) == 0);
  // Rounds without damage first would fill the cache with good rules: damage comes before every first walk.
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 40; ++i) {
      seed = seed * 1103515245 + 12345;
      unsigned char* byte = (unsigned char*)table + (seed >> 8) % (limit - table);
      *byte = (unsigned char)(seed >> 24);
    }
    victim(15);
  }
}

int main(int argc, char** argv) {
  const char* how = argv[1];
  stack_t alternate = {.ss_sp = malloc(64 << 10), .ss_size = 64 << 10};
  REQUIRE(sigaltstack(&alternate, NULL) == 0);
  if (Is(how, "leaf")) For(300, Leaf, 0, 0);
  if (Is(how, "adding")) For(300, many_additions, 0, 0);
  if (Is(how, "goroutine")) For(300, Goroutine, 0, 0);
  if (Is(how, "pointer")) For(300, Pointer, 0, 0);
  if (Is(how, "pointer_leaf")) For(300, Pointer, 1, 0);
  if (Is(how, "switched")) For(300, Switched, 0, 0);
  if (Is(how, "switched_bare")) For(300, Switched, 1, 0);
  if (Is(how, "framed")) For(300, Framed, 0, 0);
  if (Is(how, "middle")) call_without_cfi(work_below_no_cfi, 300);
  if (Is(how, "registers")) For(300, spin_with_registers, strtol(argv[2], NULL, 0), strtol(argv[3], NULL, 0));
  if (Is(how, "broken_eh_frame")) Scribble(argv[2], (unsigned)atoi(argv[3]));
  return 0;
}
