// What tests of the unwinder share: one started Unwinder, a signal handler that walks, names of frames.
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "agent/unwind/unwinder.h"

namespace profagent {

// The whole stack of the calling thread.
inline StackBounds OwnStackBounds() {
  pthread_attr_t attributes;
  pthread_getattr_np(pthread_self(), &attributes);
  void* low;
  size_t size;
  pthread_attr_getstack(&attributes, &low, &size);
  pthread_attr_destroy(&attributes);
  return {reinterpret_cast<uintptr_t>(low), reinterpret_cast<uintptr_t>(low) + size};
}

struct Capture {
  std::vector<Frame> frames;
  WalkEnd end = WalkEnd::kNoUnwindInfo;
  std::vector<std::string> names;  // by dladdr: exported symbols only
  bool Has(const std::string& name) const {
    for (auto& each : names) {
      if (each == name) return true;
    }
    return false;
  }
};

// Whether the code that is walked is what was written: the thread sanitizer gives every function, leaves too, frames and calls
// of its own. What threads do to each other is in RecipeCacheTest and ModuleMapTest.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool kCodeAsWritten = false;
#else
inline constexpr bool kCodeAsWritten = true;
#endif

class UnwindFixture : public ::testing::Test {
 public:  // handlers without captures reach it through current_
  void SetUp() override {
    ASSERT_TRUE(ledger_.CreateAnonymous(Bytes{kLedgerDefaultSize}));
    // As the agent does before it starts the unwinder.
    std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
    ledger_.header()->executable = ledger_.InternText(program).value;
    unwinder_ = new Unwinder();
    ASSERT_TRUE(unwinder_->Start(&ledger_));
    current_ = this;
  }
  void TearDown() override {
    current_ = nullptr;
    unwinder_->Stop();
    delete unwinder_;
    ledger_.Close();
  }

  // The stack at the SIGUSR1 that `body` raises (the last one, when it raises several).
  template <class Body>
  Capture CaptureBySignal(Body body, bool with_bounds = true, size_t max_depth = kMaxDepthLimit) {
    bounds_ = with_bounds ? OwnStackBounds() : StackBounds{};
    frames_.assign(max_depth, Frame{});
    result_ = {};
    struct sigaction action = {}, old;
    action.sa_sigaction = OnSignal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGUSR1, &action, &old);
    body();
    sigaction(SIGUSR1, &old, nullptr);
    return Result();
  }

  Capture Result() {
    Capture capture;
    capture.frames.assign(frames_.begin(), frames_.begin() + result_.depth);
    capture.end = result_.end;
    for (Frame frame : capture.frames) capture.names.push_back(NameOf(frame));
    return capture;
  }

  uintptr_t AddressOf(Frame frame) { return frame.offset() + unwinder_->modules().load_bias(frame.module()); }
  std::string NameOf(Frame frame) {
    if (frame.module() == ModuleId::kSynthetic) return "[synthetic]";
    Dl_info info;
    if (dladdr(reinterpret_cast<void*>(AddressOf(frame)), &info) == 0 || info.dli_sname == nullptr)
      return "?";
    return info.dli_sname;
  }

  static void OnSignal(int, siginfo_t*, void* context) {
    current_->result_ =
        current_->unwinder_->Walk(*static_cast<ucontext_t*>(context), current_->bounds_, current_->frames_);
  }

  static inline UnwindFixture* current_ = nullptr;
  Ledger ledger_;
  Unwinder* unwinder_ = nullptr;
  StackBounds bounds_;
  std::vector<Frame> frames_;
  WalkResult result_;
  char* hook_frame_ = nullptr;  // of the last function that walked from a hook
};

// Of code as it was written.
class UnwinderTest : public UnwindFixture {
 public:
  void SetUp() override {
    if (!kCodeAsWritten) GTEST_SKIP() << "the sanitizer's frames are not the program's";
    UnwindFixture::SetUp();
  }
  void TearDown() override {
    if (kCodeAsWritten) UnwindFixture::TearDown();
  }
};

}  // namespace profagent
