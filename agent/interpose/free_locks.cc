#include "agent/interpose/free_locks.h"

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <iterator>

#include "agent/base/raw_syscall.h"
#include "agent/interpose/loaded_object.h"
#include "agent/interpose/lock_waiting.h"

namespace profagent {

constinit bool g_mutexes_are_known = false;
constinit bool g_readers_are_known = false;

namespace {

// valgrind.h's request RUNNING_ON_VALGRIND: rotations that leave rdi as it was, and an exchange of a register with itself.
bool IsUnderValgrind() {
  constexpr uint64_t kRunningOnValgrind = 0x1001;
  const uint64_t request[6] = {kRunningOnValgrind};
  uint64_t answer = 0;
  asm volatile(
      "rolq $3, %%rdi; rolq $13, %%rdi; rolq $61, %%rdi; rolq $51, %%rdi\n\t"
      "xchgq %%rbx, %%rbx"
      : "+d"(answer)
      : "a"(request)
      : "cc", "memory");
  return answer != 0;
}

// libc's initializers are zero throughout; here, what is between the members too.
template <class Lock>
struct Sample {
  Lock lock;
  Sample() { std::memset(&lock, 0, sizeof lock); }
  bool operator==(const Sample& other) const {
    return std::equal(std::begin(lock.__size), std::end(lock.__size), std::begin(other.lock.__size));
  }
};

bool MutexesAreAsKnown(const RealLocks& real, int kind) {
  Sample<pthread_mutex_t> free;
  free.lock.__data.__kind = kind;
  Sample<pthread_mutex_t> held = free, tried = free;
  held.lock.__data.__lock = 1;
  held.lock.__data.__owner = OwnerInMutexes();
  held.lock.__data.__nusers = 1;
  bool recursive = kind == PTHREAD_MUTEX_RECURSIVE_NP;
  if (recursive) held.lock.__data.__count = 2;
  int locks = recursive ? 2 : 1;
  for (int i = 0; i < locks; ++i) {
    if (real.pthread_mutex_lock(&tried.lock) != 0) return false;
  }
  bool known = tried == held;
  for (int i = 0; i < locks; ++i) known &= real.pthread_mutex_unlock(&tried.lock) == 0;
  return known && tried == free;
}

bool ReadersAreAsKnown(const RealLocks& real) {
  Sample<pthread_rwlock_t> free, held, tried;
  held.lock.__data.__readers = kOneReader;
  if (real.pthread_rwlock_rdlock(&tried.lock) != 0) return false;
  bool known = tried == held;
  return real.pthread_rwlock_unlock(&tried.lock) == 0 && tried == free && known;
}

bool AreLibcs(std::initializer_list<const void*> functions) {
  for (const void* function : functions) {
    if (!IsLibcs(function)) return false;
  }
  return true;
}

template <class F>
const void* AddressOf(F* function) {
  return reinterpret_cast<const void*>(function);
}

}  // namespace

void LearnLocks(const RealLocks& real) {
  if (IsUnderValgrind()) return;
  g_mutexes_are_known = AreLibcs({AddressOf(real.pthread_mutex_lock), AddressOf(real.pthread_mutex_trylock),
                                  AddressOf(real.pthread_mutex_unlock)}) &&
                        MutexesAreAsKnown(real, PTHREAD_MUTEX_TIMED_NP) &&
                        MutexesAreAsKnown(real, PTHREAD_MUTEX_RECURSIVE_NP);
  g_readers_are_known =
      AreLibcs({AddressOf(real.pthread_rwlock_rdlock), AddressOf(real.pthread_rwlock_tryrdlock),
                AddressOf(real.pthread_rwlock_unlock)}) &&
      ReadersAreAsKnown(real);
}

bool NeedsNoWait(const pthread_mutex_t* mutex) {
  if (__atomic_load_n(&mutex->__data.__lock, __ATOMIC_RELAXED) == 0) return true;
  // Once more, or an error. Of the plain kind it is a deadlock.
  bool is_asked = (mutex->__data.__kind & kMutexKindMask) != PTHREAD_MUTEX_TIMED_NP;
  return is_asked && __atomic_load_n(&mutex->__data.__owner, __ATOMIC_RELAXED) == RawSyscall(SYS_gettid);
}

int TryByLock(pthread_mutex_t* mutex) noexcept {
  return NeedsNoWait(mutex) ? g_real_locks.pthread_mutex_lock(mutex) : EBUSY;
}

}  // namespace profagent
