#include "symbolizer/run/ledger_watch.h"

#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#include <climits>
#include <utility>

namespace profagent {

Nanos MonotonicNow() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return Nanos{static_cast<uint64_t>(now.tv_sec) * kNanosPerSecond + static_cast<uint64_t>(now.tv_nsec)};
}

LedgerWatch::LedgerWatch(const std::string& directory,
                         std::function<void(const std::string& name)> on_release)
    : fd_(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)), on_release_(std::move(on_release)) {
  if (fd_ < 0 || inotify_add_watch(fd_, directory.c_str(), IN_CLOSE_WRITE | IN_ONLYDIR) >= 0) return;
  close(fd_);
  fd_ = -1;
}

LedgerWatch::~LedgerWatch() {
  if (fd_ >= 0) close(fd_);
}

void LedgerWatch::Note() {
  alignas(inotify_event) char buffer[16 * (sizeof(inotify_event) + NAME_MAX + 1)];
  for (ssize_t size; fd_ >= 0 && (size = read(fd_, buffer, sizeof buffer)) > 0;) {
    const Nanos now = MonotonicNow();
    for (const char* at = buffer; at < buffer + size;) {
      const auto* event = reinterpret_cast<const inotify_event*>(at);
      if (event->len > 0) {
        released_[event->name] = now;
        if (on_release_) on_release_(event->name);
      }
      at += sizeof *event + event->len;
    }
  }
}

Nanos LedgerWatch::ReleasedAt(const std::string& path) const {
  const auto found = released_.find(path.substr(path.rfind('/') + 1));
  return found != released_.end() ? found->second : Nanos{};
}

}  // namespace profagent
