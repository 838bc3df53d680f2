#include "agent/base/holding.h"

#include <atomic>

#include "agent/base/raw_syscall.h"

namespace profagent {
namespace {

constinit std::atomic<Holdings*> g_holdings{nullptr};  // read by its own thread, which wrote it

}  // namespace

Holding::Holding(LetGo let_go) : let_go_(let_go) {
  Holdings* all = g_holdings.load(std::memory_order_relaxed);
  if (all == nullptr || all->thread_ != RawSyscall(SYS_gettid)) return;
  entered_ = true;
  older_ = all->newest_;
  if (older_ != nullptr) older_->newer_ = this;
  all->newest_ = this;
}

Holding::~Holding() {
  if (!entered_) return;
  if (older_ != nullptr) older_->newer_ = newer_;
  if (newer_ != nullptr) {
    newer_->older_ = older_;
  } else {
    g_holdings.load(std::memory_order_relaxed)->newest_ = older_;
  }
}

Holdings::Holdings() : thread_(RawSyscall(SYS_gettid)) {
  Holdings* none = nullptr;
  g_holdings.compare_exchange_strong(none, this, std::memory_order_relaxed);
}

Holdings::~Holdings() {
  Holdings* self = this;
  g_holdings.compare_exchange_strong(self, nullptr, std::memory_order_relaxed);
}

void Holdings::LetAllGo() {
  while (Holding* holding = newest_) {
    newest_ = holding->older_;
    holding->let_go_(holding);
  }
}

void Holdings::Forget() { g_holdings.store(nullptr, std::memory_order_relaxed); }

}  // namespace profagent
