// Closes and shuffles descriptors that it does not know, as daemons and shells do.
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "tests/preload/programs/program.h"

WORK(work_after_close)

// Runs itself again with a standard error of the given kind.
static void BeginWith(const char* kind, char* self) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  if (Is(kind, "reader_left")) {
    REQUIRE(dup2(ends[1], 2) == 2);
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
  } else if (Is(kind, "reader_sleeps")) {
    REQUIRE(dup2(ends[1], 2) == 2 && fcntl(2, F_SETFL, O_NONBLOCK) == 0);
    while (write(2, "", 1) == 1) {
    }
    REQUIRE(fcntl(2, F_SETFL, 0) == 0);
  } else if (Is(kind, "file_limit")) {
    struct rlimit limit = {0, 0};
    REQUIRE(dup2(open("limited", O_CREAT | O_RDWR, 0600), 2) == 2 && setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  execl(self, self, "as_given", (char*)NULL);
  _exit(98);
}

static void* WriteForEver(void* unused) {
  for (;;) {
    if (write(2, "not a profile\n", 14) == 14) _exit(98);
  }
}

int main(int argc, char** argv) {
  const char* how = argv[1];
  work_after_close(50);
  if (Is(how, "closefrom")) {
    closefrom(0);
  } else if (Is(how, "close_range")) {
    close_range(0, ~0U, 0);
  } else if (Is(how, "close_each")) {
    for (int fd = 0; fd < 20000; ++fd) close(fd);
  } else if (Is(how, "close_stderr")) {
    close(2);
  } else if (Is(how,
                "write_to_closed")) {  // while profiles are written: no file of ours may have that number
    pthread_t thread;
    close(2);
    REQUIRE(pthread_create(&thread, NULL, WriteForEver, NULL) == 0);
    for (int i = 0; i < 60; ++i) REQUIRE(kill(getpid(), SIGUSR2) == 0 && usleep(5000) == 0);
  } else if (
      Is(how,
         "reuse_stderr")) {  // descriptor 2 is now a file of the program's: not a byte of ours may land there
    close(2);
    REQUIRE(open(argv[2], O_CREAT | O_WRONLY | O_TRUNC, 0600) == 2);
  } else if (Is(how, "append_to_data")) {  // the same, and it only grows: a journal, a mailbox
    close(2);
    REQUIRE(open(argv[2], O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600) == 2);
  } else if (Is(how, "append_to_log")) {  // as a daemon does for itself and for what it runs
    int log = open(argv[2], O_CREAT | O_WRONLY | O_APPEND, 0600);
    REQUIRE(log > 2 && dup2(log, 2) == 2 && close(log) == 0);
  } else if (Is(how, "begin_with")) {  // a standard error that refuses what is written there, from the start
    BeginWith(argv[2], argv[0]);
  } else if (Is(how, "as_given")) {
  } else if (
      Is(how,
         "dup_over_all")) {  // every number is one end of a socket: a stray write would be read at the other
    struct rlimit before, limit;
    REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
    limit = before;
    limit.rlim_cur = 1024;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    int out = dup2(1, 1023);
    REQUIRE(out == 1023 && dup2(ends[1], 1022) == 1022);
    for (int fd = 3; fd < 1022; ++fd) REQUIRE(dup2(ends[0], fd) == fd);
    work_after_close(300);
    char byte;
    REQUIRE(recv(1022, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    setrlimit(RLIMIT_NOFILE, &before);
    return 7;
  } else if (Is(how, "no_free_descriptor")) {
    struct rlimit limit = {atoi(argv[2]), atoi(argv[2])};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  } else if (Is(how, "descriptors_used_up")) {  // the soft limit alone, as a server has it that leaks them
    struct rlimit limit;
    REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = 64;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    while (open("/dev/null", O_RDONLY) >= 0) {
    }
    REQUIRE(errno == EMFILE);
  } else if (Is(how, "chdir")) {
    REQUIRE(chdir("/") == 0);
  } else if (Is(how, "chdir_and_fork")) {
    REQUIRE(mkdir("elsewhere", 0700) == 0 && chdir("elsewhere") == 0);
    pid_t child = fork();
    if (child != 0) {
      ExpectExit(child, 7);
      return 7;
    }
  } else if (Is(how, "removed_directory")) {
    REQUIRE(mkdir("gone", 0700) == 0 && chdir("gone") == 0 && rmdir("../gone") == 0);
  } else if (Is(how, "chroot")) {
    REQUIRE(mkdir("jail", 0755) == 0 && chroot("jail") == 0 && chdir("/") == 0);
  } else if (Is(how, "chroot_and_fork")) {
    REQUIRE(mkdir("jail", 0755) == 0 && chroot("jail") == 0 && chdir("/") == 0);
    pid_t child = fork();
    if (child != 0) {
      ExpectExit(child, 7);
      return 7;
    }
  } else if (Is(how, "drop_root")) {
    REQUIRE(setgid(65534) == 0 && setuid(65534) == 0);
  } else if (Is(how, "drop_root_and_fork")) {
    REQUIRE(setgid(65534) == 0 && setuid(65534) == 0);
    pid_t child = fork();
    if (child != 0) {
      ExpectExit(child, 7);
      return 7;
    }
  } else if (Is(how, "umask")) {
    umask(0777);
  } else {
    return 97;
  }
  work_after_close(250);
  return 7;
}
