// A signal handler that forks, again and again, whatever the program is at; child and parent both return from it and go on.
// Arguments: "heap" or "locks", forks.
#include <semaphore.h>
#include <sys/time.h>

#include "tests/preload/programs/program.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static sem_t semaphore;
static volatile sig_atomic_t forks;
static volatile sig_atomic_t is_child;

static void Fork(int signo) {
  int before = errno;
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) is_child = 1;
  ++forks;
  errno = before;
}

static void Allocate(void) {
  char* block = malloc(100);
  REQUIRE(block != NULL);
  block[0] = 1;
  free(block);
}

static struct timespec Soon(void) {
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  time.tv_nsec += 20000;
  if (time.tv_nsec >= 1000000000) time = (struct timespec){time.tv_sec + 1, 0};
  return time;
}

static void Wait(void) {
  struct timespec deadline = Soon();
  sem_timedwait(&semaphore, &deadline);
  pthread_mutex_lock(&mutex);
  deadline = Soon();
  pthread_mutex_timedlock(&mutex, &deadline);
  pthread_mutex_unlock(&mutex);
}

// Stacks to walk, of different depths.
static int Deep(int depth, void (*act)(void)) {
  if (depth > 0) return Deep(depth - 1, act) + 1;
  act();
  return 0;
}

int main(int argc, char** argv) {
  void (*act)(void) = Is(argv[1], "heap") ? Allocate : Wait;
  int wanted = atoi(argv[2]);
  REQUIRE(sem_init(&semaphore, 0, 0) == 0);
  struct sigaction action = {.sa_handler = Fork, .sa_flags = SA_RESTART};
  REQUIRE(sigaction(SIGALRM, &action, NULL) == 0);
  struct itimerval often = {{0, 3000}, {0, 3000}};
  REQUIRE(setitimer(ITIMER_REAL, &often, NULL) == 0);
  for (int i = 0; !is_child && forks < wanted; ++i) Deep(i % 40, act);
  if (is_child) {  // a child has no timer
    for (int i = 0; i < 40; ++i) Deep(i, act);
    return 7;
  }
  memset(&often, 0, sizeof often);
  REQUIRE(setitimer(ITIMER_REAL, &often, NULL) == 0);
  for (int i = 0, count = forks; i < count && !is_child; ++i) {
    int status;
    REQUIRE(wait(&status) > 0);
    if (status != 7 << 8) printf("a child ended with %#x\n", status);
  }
  return is_child ? 7 : 0;
}
