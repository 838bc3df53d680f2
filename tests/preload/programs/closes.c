// Closes and shuffles descriptors that it does not know, as daemons and shells do.
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "tests/preload/programs/program.h"

WORK(work_after_close)

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
  } else if (
      Is(how,
         "reuse_stderr")) {  // descriptor 2 is now a file of the program's: not a byte of ours may land there
    close(2);
    REQUIRE(open(argv[2], O_CREAT | O_WRONLY | O_TRUNC, 0600) == 2);
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
    struct rlimit limit = {3, 3};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  } else if (Is(how, "chdir")) {
    REQUIRE(chdir("/") == 0);
  } else if (Is(how, "removed_directory")) {
    REQUIRE(mkdir("gone", 0700) == 0 && chdir("gone") == 0 && rmdir("../gone") == 0);
  } else if (Is(how, "chroot")) {
    REQUIRE(mkdir("jail", 0755) == 0 && chroot("jail") == 0 && chdir("/") == 0);
  } else if (Is(how, "drop_root")) {
    REQUIRE(setgid(65534) == 0 && setuid(65534) == 0);
  } else if (Is(how, "umask")) {
    umask(0777);
  } else {
    return 97;
  }
  work_after_close(250);
  return 7;
}
