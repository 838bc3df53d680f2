// The hashes that place records in their chains and that a reader checks records against.
//
// Context: every one. Part of the ledger's format: a change raises kLedgerVersion.
// How:     FNV-1a over 64-bit words with a shift mixed in, folded to 32 bits: one multiplication a frame. Good
//          enough for chains. A reader takes a wrong record for a right one with a chance of 2^-32, and only
//          in a damaged file.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "agent/base/signal_safe.h"
#include "agent/ledger/frame.h"
#include "agent/ledger/layout.h"

namespace profagent {

inline constexpr uint64_t kHashStart = 0xcbf29ce484222325;
inline constexpr uint64_t kHashPrime = 0x100000001b3;

PROF_ALWAYS_INLINE uint64_t MixHash(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * kHashPrime;
  return hash ^ hash >> 29;
}
PROF_ALWAYS_INLINE uint32_t FoldHash(uint64_t hash) { return static_cast<uint32_t>(hash ^ hash >> 32); }

PROF_ALWAYS_INLINE uint32_t HashText(std::string_view text) {
  uint64_t hash = kHashStart;
  for (char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * kHashPrime;
  return FoldHash(hash);
}

PROF_ALWAYS_INLINE uint32_t HashStack(std::span<const Frame> frames, WalkEnd end) {
  // Four sums side by side: a multiplication waits for the one before it, and a stack has 60 frames.
  uint64_t a = MixHash(kHashStart, static_cast<uint64_t>(end)), b = a + 1, c = a + 2, d = a + 3;
  size_t i = 0;
  for (; i + 4 <= frames.size(); i += 4) {
    a = MixHash(a, frames[i].value);
    b = MixHash(b, frames[i + 1].value);
    c = MixHash(c, frames[i + 2].value);
    d = MixHash(d, frames[i + 3].value);
  }
  for (; i < frames.size(); ++i) a = MixHash(a, frames[i].value);
  return FoldHash(MixHash(MixHash(MixHash(a, b), c), d));
}

PROF_ALWAYS_INLINE uint32_t HashPair(uint64_t a, uint64_t b) {
  return FoldHash(MixHash(MixHash(kHashStart, a), b));
}

// Of a record in a hashed chain: what makes it one of its kind. A stack's is its own claim, which a reader checks against the frames.
PROF_ALWAYS_INLINE uint32_t HashOf(const StackRecord& stack) { return stack.hash; }
PROF_ALWAYS_INLINE uint32_t HashOf(const CpuSiteRecord& site) { return HashPair(site.stack, site.name); }
PROF_ALWAYS_INLINE uint32_t HashOf(const HeapSiteRecord& site) { return HashPair(site.stack, site.size); }
PROF_ALWAYS_INLINE uint32_t HashOf(const ContentionSiteRecord& site) {
  return HashPair(uint64_t{site.stack} << 32 | site.lock, static_cast<uint64_t>(site.kind));
}

}  // namespace profagent
