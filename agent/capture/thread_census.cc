#include "agent/capture/thread_census.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>

#include "agent/base/raw_syscall.h"
#include "agent/capture/cpu_timers.h"

namespace profagent {
namespace {

class TaskReader {  // of /proc/self/task
 public:
  TaskReader() {
    fd_ = static_cast<int>(
        RawSyscall(SYS_openat, AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  ~TaskReader() {
    if (fd_ >= 0) RawSyscall(SYS_close, fd_);
  }
  TaskReader(const TaskReader&) = delete;
  TaskReader& operator=(const TaskReader&) = delete;

  // 0: no more.
  uint32_t NextTid() {
    for (;;) {
      if (at_ >= filled_) {
        long read = fd_ >= 0 ? RawSyscall(SYS_getdents64, fd_, buffer_, sizeof buffer_) : 0;
        if (read <= 0) return 0;
        filled_ = static_cast<size_t>(read);
        at_ = 0;
      }
      // struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name
      const char* entry = buffer_ + at_;
      uint16_t length = 0;
      std::memcpy(&length, entry + 16, sizeof length);
      at_ += length;
      uint32_t tid = 0;
      for (const char* digit = entry + 19; *digit >= '0' && *digit <= '9'; ++digit) {
        tid = tid * 10 + static_cast<uint32_t>(*digit - '0');
      }
      if (tid != 0) return tid;
    }
  }

 private:
  int fd_;
  size_t at_ = 0;
  size_t filled_ = 0;
  alignas(8) char buffer_[1024];
};

}  // namespace

void ThreadCensus::Reset() {
  starting_.store(0, std::memory_order_relaxed);
  looking_.store(0, std::memory_order_relaxed);
  collect_at_.store(kFirstCollection, std::memory_order_relaxed);
}

bool ThreadCensus::IsKnown(uint32_t tid) {
  if (slots_->NewestOf(tid) != nullptr) return true;
  for (uint32_t i = 0; i < slots_->limit(); ++i) {
    ThreadSlot* slot = slots_->At(i);
    if (slot->use.load(std::memory_order_acquire) != SlotUse::kFree &&
        slot->tid.load(std::memory_order_seq_cst) == tid) {
      return true;
    }
  }
  return false;
}

void ThreadCensus::ForEachNewThread(const Turn&, FunctionRef<bool(uint32_t tid)> adopt) {
  TaskReader tasks;
  while (uint32_t tid = tasks.NextTid()) {
    if (IsKnown(tid)) continue;
    // Nobody is on the way through pthread_create, and the thread still is not known: then nobody announced
    // it. (Next second, if somebody was.)
    if (starting_.load(std::memory_order_seq_cst) != 0) return;
    if (IsKnown(tid)) continue;
    if (!adopt(tid)) return;
  }
}

// Of a thread without a timer of its own, which would tell.
bool ThreadCensus::IsNumberGone(const ThreadSlot& slot) {
  uint32_t tid = slot.tid.load(std::memory_order_relaxed);
  if (SyscallError(RawSyscall(SYS_tgkill, RawSyscall(SYS_getpid), tid, 0)) == ESRCH) return true;
  const ThreadSlot* newest = slots_->NewestOf(tid);  // the number may be a new thread's by now
  return newest != nullptr && newest->birth > slot.birth;
}

// `use` is read once, by the caller: a slot that is handed to pthread_create may be given back at any moment.
bool ThreadCensus::IsGone(const ThreadSlot& slot, SlotUse use) {
  if (use == SlotUse::kStarting) return false;
  int32_t timer = slot.timer_id.load(std::memory_order_acquire);
  if (timer == kNoTimer) return IsNumberGone(slot);
  return slot.armed.load(std::memory_order_acquire) && IsThreadGone(timer);
}

void ThreadCensus::ForEachSlot(const Turn&, FunctionRef<void(ThreadSlot*)> bury,
                               FunctionRef<void(ThreadSlot*)> visit) {
  uint32_t alive = 0;
  for (uint32_t i = 0; i < slots_->limit(); ++i) {
    ThreadSlot* slot = slots_->At(i);
    SlotUse use = slot->use.load(std::memory_order_acquire);
    if (use == SlotUse::kFree) continue;
    if (IsGone(*slot, use)) {
      bury(slot);
    } else {
      ++alive;
      visit(slot);
    }
  }
  collect_at_.store(alive * 2 < kFirstCollection ? kFirstCollection : alive * 2, std::memory_order_relaxed);
}

}  // namespace profagent
