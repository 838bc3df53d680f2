#include "agent/base/arena.h"

#include <sys/mman.h>

#include "agent/base/raw_syscall.h"

namespace profagent {
namespace {

constexpr size_t kBlockSize = 256 * 1024;  // one mapping a quarter megabyte: few system calls, little waste

}  // namespace

void* Arena::Allocate(size_t size, size_t alignment) {
  if (size > SIZE_MAX / 2 || alignment > 4096) return nullptr;
  uintptr_t start = (at_ + alignment - 1) & ~(alignment - 1);
  if (blocks_ == nullptr || start > end_ || size > end_ - start) {
    size_t want = size + sizeof(Block) + alignment;
    want = want < kBlockSize ? kBlockSize : (want + 4095) & ~size_t{4095};
    long memory =
        RawSyscall(SYS_mmap, nullptr, want, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (SyscallError(memory) != 0) return nullptr;
    auto* block = reinterpret_cast<Block*>(memory);
    block->next = blocks_;
    block->size = want;
    blocks_ = block;
    at_ = static_cast<uintptr_t>(memory) + sizeof(Block);
    end_ = static_cast<uintptr_t>(memory) + want;
    start = (at_ + alignment - 1) & ~(alignment - 1);
  }
  at_ = start + size;
  return reinterpret_cast<void*>(start);
}

void Arena::Release() {
  while (blocks_ != nullptr) {
    Block* block = blocks_;
    blocks_ = block->next;
    RawSyscall(SYS_munmap, block, block->size);
  }
  at_ = end_ = 0;
}

}  // namespace profagent
