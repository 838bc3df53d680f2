// Its allocator is not ready before main, as GCL's is not: what is asked for earlier ends the program.
#include "tests/preload/programs/program.h"

static size_t* g_next;  // main's to set
static volatile sig_atomic_t g_children;

__attribute__((visibility("default"), used)) void* malloc(size_t size) {
  *g_next = size;
  void* block = g_next + 2;
  g_next += 2 + (size + 15) / 16 * 2;
  return block;
}
__attribute__((visibility("default"), used)) void free(void* block) {
  if (block != NULL) memset(block, 0, ((size_t*)block)[-2]);
}

static void CountChild(int number) { g_children += number == SIGCHLD; }

int main(void) {
  static size_t room[4096];
  REQUIRE(signal(SIGCHLD, CountChild) != SIG_ERR);
  g_next = room;
  char* text = malloc(100);
  REQUIRE((size_t*)text == room + 2);
  strcpy(text, "the first block\n");
  Say(text);
  free(text);
  REQUIRE(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD && g_children == 0);
  return 7;
}
