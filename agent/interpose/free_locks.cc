#include "agent/interpose/free_locks.h"

#include <cstring>
#include <initializer_list>

#include "agent/base/raw_syscall.h"
#include "agent/interpose/loaded_object.h"

namespace profagent {

constinit bool g_readers_are_known = false;

namespace {

constinit bool g_mutexes_are_known = false;

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

template <class T>
bool Same(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

bool MutexesAreAsKnown(const RealLocks& real) {
  const pthread_mutex_t free = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_t held = free;
  held.__data.__lock = 1;
  held.__data.__owner = static_cast<int>(RawSyscall(SYS_gettid));
  held.__data.__nusers = 1;
  pthread_mutex_t mutex = free;
  if (real.pthread_mutex_lock(&mutex) != 0) return false;
  bool known = Same(mutex, held);
  return real.pthread_mutex_unlock(&mutex) == 0 && Same(mutex, free) && known;
}

bool ReadersAreAsKnown(const RealLocks& real) {
  const pthread_rwlock_t free = PTHREAD_RWLOCK_INITIALIZER;
  pthread_rwlock_t held = free;
  held.__data.__readers = kOneReader;
  pthread_rwlock_t lock = free;
  if (real.pthread_rwlock_rdlock(&lock) != 0) return false;
  bool known = Same(lock, held);
  return real.pthread_rwlock_unlock(&lock) == 0 && Same(lock, free) && known;
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
                        MutexesAreAsKnown(real);
  g_readers_are_known =
      AreLibcs({AddressOf(real.pthread_rwlock_rdlock), AddressOf(real.pthread_rwlock_tryrdlock),
                AddressOf(real.pthread_rwlock_unlock)}) &&
      ReadersAreAsKnown(real);
}

int TryUnmet(pthread_mutex_t* mutex) {
  int error = g_real_locks.pthread_mutex_trylock(mutex);
  if (error == 0 && g_mutexes_are_known) t_state.mutex_owner = mutex->__data.__owner;
  return error;
}

}  // namespace profagent
