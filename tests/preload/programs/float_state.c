// Allocates, frees and makes others wait, and looks at the state of floating-point arithmetic: its own has none of it.
//
//   float_state flags     says which exceptions its thread's flags hold, of SSE and of the x87
//   float_state traps     with every one of them raising SIGFPE
#include "tests/preload/programs/program.h"

static unsigned Mxcsr(void) {
  unsigned state;
  __asm__ volatile("stmxcsr %0" : "=m"(state));
  return state;
}

static unsigned ControlOfX87(void) {
  unsigned short word;
  __asm__ volatile("fnstcw %0" : "=m"(word));
  return word;
}

static unsigned StatusOfX87(void) {
  unsigned short word;
  __asm__ volatile("fnstsw %0" : "=m"(word));
  return word;
}

static void SetUp(unsigned mxcsr, unsigned short control) {
  __asm__ volatile("fnclex; fldcw %0" : : "m"(control));
  __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
}

// One size of which a sample at a rate of 1000 stands for hardly more than itself: e^-720 is no normal number.
WHOLE_FUNCTION static void Allocate(void) {
  for (int i = 0; i < 20000; ++i) {
    void* volatile block = malloc(1 + i % 3000);
    free(block);
  }
  for (int i = 0; i < 100; ++i) {
    void* volatile block = malloc(720000 + 8 * i);
    free(block);
  }
}

static pthread_mutex_t g_mutex = PTHREAD_MUTEX_INITIALIZER;

static void* Contend(void* wanted) {
  SetUp((unsigned)(uintptr_t)wanted, ControlOfX87());
  for (int i = 0; i < 30; ++i) {
    pthread_mutex_lock(&g_mutex);
    usleep(500);
    pthread_mutex_unlock(&g_mutex);
  }
  return (void*)(uintptr_t)(Mxcsr() & 0x3f);
}

int main(int argc, char** argv) {
  REQUIRE(argc == 2);
  // Rounding up, flushing to zero.
  unsigned mxcsr = 0xdf80;
  unsigned short control = 0xb7f;
  if (Is(argv[1], "traps")) mxcsr &= ~0x1f80u, control &= (unsigned short)~0x3f;
  SetUp(mxcsr, control);
  Allocate();
  pthread_t threads[3];
  for (int i = 0; i < 3; ++i)
    REQUIRE(pthread_create(&threads[i], NULL, Contend, (void*)(uintptr_t)mxcsr) == 0);
  unsigned contended = 0;
  for (int i = 0; i < 3; ++i) {
    void* flags;
    REQUIRE(pthread_join(threads[i], &flags) == 0);
    contended |= (unsigned)(uintptr_t)flags;
  }
  unsigned sse = Mxcsr(), status = StatusOfX87();
  printf("flags %x %x %x, controls %x %x\n", sse & 0x3f, status & 0x3f, contended, sse & ~0x3fu,
         ControlOfX87());
  return 0;
}
