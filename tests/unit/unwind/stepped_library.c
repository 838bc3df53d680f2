// Linked with -z lazy: its first calls go through PLT0 and the loader's _dl_runtime_resolve. Loaded by
// single_step_test.cc, and twice more, as copies, by module_map_test.cc.
#include <stdlib.h>
#include <string.h>

#ifndef ANSWER
#define ANSWER 1
#endif

int Answer(void) { return ANSWER; }

__attribute__((noinline)) int Leaf(int value) { return value * 3 + 1; }

// A prologue that saves every callee-saved register, an alloca that needs rbp, two returns.
int ManyRegisters(int a, int b, int c, int (*call)(int)) {
  volatile char* room = __builtin_alloca((size_t)(a & 63) + 1);
  room[0] = (char)b;
  int x1 = call(a), x2 = call(b), x3 = call(c), x4 = call(a + b), x5 = call(b + c);
  if (x1 == x2) return room[0];
  return x1 * x2 + x3 * x4 + x5 + room[0];
}

// gcc realigns the stack: the CFA is *(rbp - 8).
int Realigned(int (*call)(int)) {
  typedef int Vector __attribute__((vector_size(32), aligned(64)));
  volatile Vector vector = {1, 2, 3, 4, 5, 6, 7, 8};
  vector[0] = call(vector[1]);
  return vector[0];
}

int ThroughPlt(const char* text) {
  char copy[64];
  memset(copy, 0, sizeof copy);
  strncpy(copy, text, sizeof copy - 1);
  return atoi(copy) + (int)strtoul(copy, NULL, 10) + abs(-3);
}

static int Compare(const void* left, const void* right) { return *(const int*)left - *(const int*)right; }

int LibraryWork(void) {
  int numbers[] = {4, 2, 5, 1, 3, 9, 8};
  qsort(numbers, sizeof numbers / sizeof numbers[0], sizeof numbers[0], Compare);
  char from[300], to[300];
  memset(from, 7, sizeof from);
  int sum = 0;
  for (size_t size = 0; size < sizeof from; size += 37) {
    memcpy(to, from, size);
    memmove(to + 1, to, size);
    sum += memcmp(to, from, size);
  }
  return sum + numbers[0] + (int)strlen("some text") + Leaf(3);
}
