// Says whose functions the program's calls lead to, when it has made each once: a line for every slot of these functions, with the
// library and what may be done to the slot; and what dlsym finds.
#include <dlfcn.h>
#include <link.h>

#include "tests/preload/programs/program.h"

static const char* const kNames[] = {
    "malloc", "free", "realloc", "pthread_mutex_lock", "pthread_mutex_unlock", "pthread_cond_signal"};

static const char* LibraryOf(const void* address) {
  Dl_info info;
  if (dladdr(address, &info) == 0 || info.dli_fname == NULL) return "nobody";
  const char* slash = strrchr(info.dli_fname, '/');
  return slash != NULL ? slash + 1 : info.dli_fname;
}

static void ProtectionOf(const void* address, char text[5]) {
  char line[512];
  FILE* maps = fopen("/proc/self/maps", "r");
  REQUIRE(maps != NULL);
  strcpy(text, "none");
  while (fgets(line, sizeof line, maps) != NULL) {
    unsigned long start, limit;
    char found[5];
    if (sscanf(line, "%lx-%lx %4s", &start, &limit, found) == 3 &&
        (unsigned long)address - start < limit - start)
      strcpy(text, found);
  }
  fclose(maps);
}

static void SayTable(const struct link_map* map, int table, int size_tag) {
  const ElfW(Sym)* symbols = NULL;
  const char* strings = NULL;
  const ElfW(Rela)* entries = NULL;
  size_t size = 0;
  for (const ElfW(Dyn)* entry = map->l_ld; entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_SYMTAB) symbols = (const void*)entry->d_un.d_ptr;
    if (entry->d_tag == DT_STRTAB) strings = (const void*)entry->d_un.d_ptr;
    if (entry->d_tag == table) entries = (const void*)entry->d_un.d_ptr;
    if (entry->d_tag == size_tag) size = entry->d_un.d_val;
  }
  for (size_t i = 0; i < size / sizeof *entries; ++i) {
    const char* name = strings + symbols[ELF64_R_SYM(entries[i].r_info)].st_name;
    for (size_t k = 0; k < sizeof kNames / sizeof *kNames; ++k) {
      if (strcmp(name, kNames[k]) != 0) continue;
      void** slot = (void**)(map->l_addr + entries[i].r_offset);
      char protection[5];
      ProtectionOf(slot, protection);
      printf("slot %s %s %s\n", name, LibraryOf(*slot), protection);
    }
  }
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

int main(void) {
#ifdef __PIE__
  static void* (*volatile in_data)(void*, size_t) = realloc;
  REQUIRE(in_data != NULL);
  // Called, and in a slot of data that both ways use: to GNU ld no undefined symbol as others are.
  static void (*volatile free_in_data)(void*) __attribute__((section("far_data"))) = free;
  REQUIRE(free_in_data == free);
  void* (*volatile by_address)(void*, size_t) = realloc;  // a slot of data, not of a call
#else
#define by_address realloc  // whose address would be that of the program's entry for it, for everybody
#endif
  void* block = by_address(malloc(3), 30);
  REQUIRE(block != NULL);
  free(block);
  REQUIRE(pthread_mutex_lock(&mutex) == 0 && pthread_mutex_unlock(&mutex) == 0);
  REQUIRE(pthread_cond_signal(&cond) == 0);
  SayTable(_r_debug.r_map, DT_RELA, DT_RELASZ);
  SayTable(_r_debug.r_map, DT_JMPREL, DT_PLTRELSZ);
  for (size_t k = 0; k < sizeof kNames / sizeof *kNames; ++k)
    printf("dlsym %s %s\n", kNames[k], LibraryOf(dlsym(RTLD_DEFAULT, kNames[k])));
  void** of_allocator = dlsym(RTLD_DEFAULT, "malloc_in_data");
  if (of_allocator != NULL) printf("data malloc %s\n", LibraryOf(*of_allocator));
  const char* versions[] = {"GLIBC_2.2.5", "GLIBC_2.3.2"};
  const void* functions[2];
  for (int i = 0; i < 2; ++i) {
    functions[i] = dlvsym(RTLD_DEFAULT, "pthread_cond_wait", versions[i]);
    printf("dlsym pthread_cond_wait@%s %s\n", versions[i], LibraryOf(functions[i]));
  }
  REQUIRE(functions[0] != functions[1]);
  return 7;
}
