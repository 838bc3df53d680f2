#include "agent/base/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "agent/base/raw_syscall.h"

namespace profagent {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kLeastBlock = 64 * 1024;
constexpr size_t kLargestBlock = 1024 * 1024;

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
  if (need > left || left - need < held_back_) return nullptr;
  left -= held_back_;
  // An eighth of what it has: few system calls, little waste.
  size_t block_size = std::clamp(taken_ / 8 & ~(kLeastBlock - 1), kLeastBlock, kLargestBlock);
  bool is_shared = need <= block_size;
  size_t want = !is_shared ? need : block_size < left ? block_size : left & ~(kPage - 1);
  // What many arrays share will be written to, and a page at a time would be a fault each, some six times as dear. Not so a large
  // array, which may be of a size that a file claims, but where so much was taken already.
  int populate = is_shared || taken_ > kLittle ? MAP_POPULATE : 0;
  long memory = RawSyscall(SYS_mmap, nullptr, want, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | populate, -1, 0);
  if (SyscallError(memory) != 0) return nullptr;
  auto* block = reinterpret_cast<Block*>(memory);
  block->next = blocks_;
  block->size = want;
  blocks_ = block;
  taken_ += want;

  start = (static_cast<uintptr_t>(memory) + sizeof(Block) + alignment - 1) & ~(alignment - 1);
  block->only = is_shared ? nullptr : reinterpret_cast<void*>(start);
  if (is_shared) {
    at_ = start + size;
    end_ = static_cast<uintptr_t>(memory) + want;
  }
  return reinterpret_cast<void*>(start);
}

Arena::Block** Arena::OnlyOf(void* array) {
  Block** link = &blocks_;
  while (*link != nullptr && (*link)->only != array) link = &(*link)->next;
  return *link != nullptr && array != nullptr ? link : nullptr;
}

std::string_view Arena::Copy(std::string_view text) {
  char* copy = !text.empty() ? AllocateArray<char>(text.size()) : nullptr;
  if (copy == nullptr) return {};
  std::memcpy(copy, text.data(), text.size());
  return {copy, text.size()};
}

void* Arena::Extend(void* array, size_t size, size_t wanted) {
  Block** link = OnlyOf(array);
  if (link == nullptr) {
    auto start = reinterpret_cast<uintptr_t>(array);
    // The last one of those that share a block.
    if (array != nullptr && start + size == at_ && wanted <= end_ - start) {
      at_ = start + wanted;
      return array;
    }
    void* longer = Allocate(wanted);
    if (longer != nullptr && size > 0) std::memcpy(longer, array, size);
    return longer;
  }
  Block* block = *link;
  auto offset = static_cast<size_t>(static_cast<std::byte*>(array) - reinterpret_cast<std::byte*>(block));
  if (wanted > SIZE_MAX / 2) return nullptr;
  size_t need = (offset + wanted + kPage - 1) & ~(kPage - 1);
  if (need <= block->size) return array;
  size_t more = need - block->size, left = limit_ - taken_;
  if (more > left || left - more < held_back_) return nullptr;
  long memory = RawSyscall(SYS_mremap, block, block->size, need, MREMAP_MAYMOVE);
  if (SyscallError(memory) != 0) return nullptr;
  block = reinterpret_cast<Block*>(memory);
  block->size = need;
  block->only = reinterpret_cast<std::byte*>(block) + offset;
  *link = block;
  taken_ += more;
  return block->only;
}

void Arena::GiveBack(void* array) {
  Block** link = OnlyOf(array);
  if (link == nullptr) return;
  Block* block = *link;
  *link = block->next;
  taken_ -= block->size;
  RawSyscall(SYS_munmap, block, block->size);
}

void Arena::Release() {
  while (blocks_ != nullptr) {
    // The kernel mostly puts a mapping right below the one before it. What lies together goes at once: each munmap empties the
    // processors' address caches, which takes longer than giving back the pages.
    auto* start = reinterpret_cast<std::byte*>(blocks_);
    size_t size = 0;
    while (reinterpret_cast<std::byte*>(blocks_) == start + size) {
      size += blocks_->size;
      blocks_ = blocks_->next;
    }
    RawSyscall(SYS_munmap, start, size);
  }
  at_ = end_ = 0;
  taken_ = 0;
}

}  // namespace profagent
