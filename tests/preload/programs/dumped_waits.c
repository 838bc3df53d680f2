// Waits in the way that its argument names while a child asks for a dump all the time, for no more than five seconds.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/sem.h>

#include "tests/preload/programs/program.h"

enum { kTimeoutMs = 500, kDumpMs = 60, kDumps = 80, kShortMs = 20, kShortWaits = 50 };

static const struct timespec kTimeout = {0, kTimeoutMs * 1000000};

static double Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void Wait(const char* how) {
  struct timespec rest;
  if (Is(how, "poll")) {
    REQUIRE(poll(NULL, 0, kTimeoutMs) == 0);
  } else if (Is(how, "ppoll")) {
    REQUIRE(ppoll(NULL, 0, &kTimeout, NULL) == 0);
  } else if (Is(how, "epoll_wait")) {
    struct epoll_event event;
    REQUIRE(epoll_wait(epoll_create1(0), &event, 1, kTimeoutMs) == 0);
  } else if (Is(how, "usleep")) {
    REQUIRE(usleep(kTimeoutMs * 1000) == 0);
  } else if (Is(how, "nanosleep")) {
    REQUIRE(nanosleep(&kTimeout, &rest) == 0);
  } else if (Is(how, "clock_nanosleep")) {
    REQUIRE(clock_nanosleep(CLOCK_BOOTTIME, 0, &kTimeout, NULL) == 0);
  } else if (Is(how, "sigtimedwait")) {
    sigset_t none;
    sigemptyset(&none);
    REQUIRE(sigtimedwait(&none, NULL, &kTimeout) == -1 && errno == EAGAIN);
  } else {
    REQUIRE(Is(how, "semtimedop"));
    int set = semget(IPC_PRIVATE, 1, 0600);
    struct sembuf down = {0, -1, 0};
    int result = semtimedop(set, &down, 1, &kTimeout), error = errno;
    REQUIRE(semctl(set, 0, IPC_RMID) == 0);
    REQUIRE(result == -1 && error == EAGAIN);
  }
}

int main(int argc, char** argv) {
  REQUIRE(argc == 2);
  pid_t self = getpid();
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = 0; i < kDumps && kill(self, SIGUSR2) == 0; ++i) poll(NULL, 0, kDumpMs);
    _exit(0);
  }
  double began = Now();
  if (Is(argv[1], "short")) {  // one after the other: none is taken for the one before it
    for (int i = 0; i < kShortWaits; ++i) {
      double start = Now();
      REQUIRE(poll(NULL, 0, kShortMs) == 0);
      REQUIRE(Now() - start >= kShortMs / 1e3);
    }
  } else {
    Wait(argv[1]);
    REQUIRE(Now() - began >= kTimeoutMs / 1e3);
  }
  printf("waited %.3f\n", Now() - began);
  REQUIRE(kill(child, SIGKILL) == 0);
  return 0;
}
