#include "agent/ledger/ledger_allowance.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "agent/base/raw_syscall.h"
#include "agent/ledger/layout.h"

namespace profagent {
namespace {

constexpr uint64_t kPage = 4096;
// Under vm.overcommit_memory=2 address space is charged as if it were used, to the whole machine.
constexpr uint64_t kStrictCommitSize = uint64_t{16} << 20;

bool CommitIsStrict() {
  long fd = RawSyscall(SYS_openat, AT_FDCWD, "/proc/sys/vm/overcommit_memory", O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return false;
  char mode = '0';
  RawSyscall(SYS_read, fd, &mode, 1);
  RawSyscall(SYS_close, fd);
  return mode == '2';
}

}  // namespace

uint64_t ResourceLimit(int resource) {
  struct rlimit limit = {};
  long result = RawSyscall(SYS_prlimit64, 0, resource, nullptr, &limit);
  if (result != 0) result = RawSyscall(SYS_getrlimit, resource, &limit);
  return result != 0 || limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
}

void Allowance::CutTo(uint64_t most, std::string_view why) {
  most = (most < kLedgerMinSize ? kLedgerMinSize : most) / kPage * kPage;
  if (size <= most) return;
  size = most;
  reason = why;
}

void Allowance::CutForPrivateMemory() {
  CutTo(ResourceLimit(RLIMIT_DATA) / kShareOfLimit, "a sixteenth of the data limit, RLIMIT_DATA");
  if (size > kStrictCommitSize && CommitIsStrict()) CutTo(kStrictCommitSize, "vm.overcommit_memory is 2");
}

Allowance AllowanceFor(Bytes wanted) {
  uint64_t size = wanted.value < kLedgerMinSize ? kLedgerMinSize : wanted.value;
  Allowance allowance{size > kLedgerMaxSize ? kLedgerMaxSize : (size + kPage - 1) / kPage * kPage, {}};
  allowance.CutTo(ResourceLimit(RLIMIT_AS) / kShareOfLimit,
                  "a sixteenth of the address space limit, RLIMIT_AS");
  return allowance;
}

}  // namespace profagent
