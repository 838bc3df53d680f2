#include "agent/interpose/library_hooks.h"

#include <atomic>

#include "agent/base/signal_safe.h"
#include "agent/interpose/real_functions.h"

namespace profagent {
namespace {

// release: what it points to is filled
constinit std::atomic<const LibraryEvents*> g_library_events{nullptr};

}  // namespace

void SetLibraryEvents(const LibraryEvents* events) {
  g_library_events.store(events, std::memory_order_release);
}

}  // namespace profagent

PROF_EXPORT int dlclose(void* library) {
  const profagent::LibraryEvents* events = profagent::g_library_events.load(std::memory_order_acquire);
  if (events == nullptr) return profagent::Real().dlclose(library);
  events->before_close();
  int result = profagent::Real().dlclose(library);
  events->after_close();
  return result;
}
