// Asks the loader for the object of its own code: while it is being relocated (an IFUNC resolver runs then, the last of its
// relocations), in its constructor, and when it is called.
#include <dlfcn.h>
#include <stdio.h>

static int g_in_resolver = -1;
static int g_in_constructor = -1;

static int IsFound(void) {
  struct dl_find_object found;
  return _dl_find_object((void*)&IsFound, &found) == 0;
}

static int TheNumber(void) { return 7; }
__attribute__((used)) static int (*ResolveNumber(void))(void) {
  g_in_resolver = IsFound();
  return TheNumber;
}
static int Number(void) __attribute__((ifunc("ResolveNumber")));

__attribute__((constructor)) static void Start(void) { g_in_constructor = IsFound(); }

__attribute__((visibility("default"))) void UseEverythingInPlugin(void) {
  if (Number() == 7) printf("found: %d %d %d\n", g_in_resolver, g_in_constructor, IsFound());
}
