#include "agent/capture/perf_events.h"

#include <fcntl.h>
#include <linux/perf_event.h>
#include <sys/resource.h>

#include <cerrno>

#include "agent/base/raw_syscall.h"

namespace profagent {
namespace {

// Above what applications number, select's 1024 included, and low enough that the kernel's table stays small.
int LowestDescriptor() {
  struct rlimit limit = {};
  if (RawSyscall(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit) != 0) return 3;
  if (limit.rlim_cur >= 8192) return 4096;
  return static_cast<int>(limit.rlim_cur / 2);
}

}  // namespace

PerfEvent OpenPerfEvent(uint32_t tid, int signo, Nanos first) {
  struct perf_event_attr attributes = {};
  attributes.size = sizeof attributes;
  attributes.type = PERF_TYPE_SOFTWARE;
  attributes.config = PERF_COUNT_SW_TASK_CLOCK;
  attributes.sample_period = first.value;
  attributes.disabled = 1;
  attributes.exclude_hv = 1;
  attributes.wakeup_events = 1;
  long opened = RawSyscall(SYS_perf_event_open, &attributes, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
  if (SyscallError(opened) == EACCES || SyscallError(opened) == EPERM) {
    attributes.exclude_kernel = 1;  // perf_event_paranoid 2 leaves this much to everyone
    opened = RawSyscall(SYS_perf_event_open, &attributes, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
  }
  if (SyscallError(opened) != 0) return {static_cast<int32_t>(opened)};

  long moved = RawSyscall(SYS_fcntl, opened, F_DUPFD_CLOEXEC, LowestDescriptor());
  if (SyscallError(moved) == 0) {
    RawSyscall(SYS_close, opened);
    opened = moved;
  }
  struct f_owner_ex owner = {F_OWNER_TID, static_cast<pid_t>(tid)};
  PerfEvent event{static_cast<int32_t>(opened), 0, attributes.exclude_kernel != 0};
  long result = RawSyscall(SYS_ioctl, opened, PERF_EVENT_IOC_ID, &event.id);
  if (result == 0) result = RawSyscall(SYS_fcntl, opened, F_SETSIG, signo);
  if (result == 0) result = RawSyscall(SYS_fcntl, opened, F_SETOWN_EX, &owner);
  if (result == 0) result = RawSyscall(SYS_fcntl, opened, F_SETFL, O_ASYNC | O_NONBLOCK);
  if (result != 0) {
    RawSyscall(SYS_close, opened);
    return {static_cast<int32_t>(result)};
  }
  return event;
}

void EnablePerfEvent(const PerfEvent& event) { RawSyscall(SYS_ioctl, event.fd, PERF_EVENT_IOC_REFRESH, 1); }

void ContinuePerfEvent(int32_t fd, Nanos period) {
  RawSyscall(SYS_ioctl, fd, PERF_EVENT_IOC_PERIOD, &period.value);
  RawSyscall(SYS_ioctl, fd, PERF_EVENT_IOC_ENABLE, 0);
}

bool IsStillOurs(const PerfEvent& event) {
  uint64_t id = 0;
  return event.fd >= 0 && RawSyscall(SYS_ioctl, event.fd, PERF_EVENT_IOC_ID, &id) == 0 && id == event.id;
}

void ClosePerfEvent(const PerfEvent& event) {
  if (!IsStillOurs(event)) return;
  RawSyscall(SYS_ioctl, event.fd, PERF_EVENT_IOC_DISABLE, 0);
  RawSyscall(SYS_close, event.fd);
}

}  // namespace profagent
