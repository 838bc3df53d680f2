#include "agent/base/arena.h"

#include <sys/mman.h>

#include "agent/base/raw_syscall.h"

namespace profagent {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kBlockSize = 256 * 1024;  // one mapping a quarter megabyte: few system calls, little waste

}  // namespace

void* Arena::Allocate(size_t size, size_t alignment) {
  if (size > SIZE_MAX / 2 || alignment > kPage) return nullptr;
  uintptr_t start = (at_ + alignment - 1) & ~(alignment - 1);
  if (blocks_ != nullptr && start <= end_ && size <= end_ - start) {
    at_ = start + size;
    return reinterpret_cast<void*>(start);
  }

  size_t need = (size + sizeof(Block) + alignment + kPage - 1) & ~(kPage - 1);
  size_t left = limit_ - taken_;
  if (need > left) return nullptr;
  size_t want = need > kBlockSize ? need : kBlockSize < left ? kBlockSize : left & ~(kPage - 1);
  // Who has taken much takes more, and writes to all of it: a page at a time would be a fault each.
  int populate = taken_ > kLittle ? MAP_POPULATE : 0;
  long memory = RawSyscall(SYS_mmap, nullptr, want, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | populate, -1, 0);
  if (SyscallError(memory) != 0) return nullptr;
  auto* block = reinterpret_cast<Block*>(memory);
  block->next = blocks_;
  block->size = want;
  blocks_ = block;
  taken_ += want;

  start = (static_cast<uintptr_t>(memory) + sizeof(Block) + alignment - 1) & ~(alignment - 1);
  uintptr_t block_end = static_cast<uintptr_t>(memory) + want;
  // Go on where more room is: behind a large array that is less than in the block before it.
  if (block_end - (start + size) >= end_ - at_) {
    at_ = start + size;
    end_ = block_end;
  }
  return reinterpret_cast<void*>(start);
}

void Arena::Release() {
  while (blocks_ != nullptr) {
    Block* block = blocks_;
    blocks_ = block->next;
    RawSyscall(SYS_munmap, block, block->size);
  }
  at_ = end_ = 0;
  taken_ = 0;
}

}  // namespace profagent
