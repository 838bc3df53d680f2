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
  uint64_t hash = MixHash(kHashStart, static_cast<uint64_t>(end));
  for (Frame frame : frames) hash = MixHash(hash, frame.value);
  return FoldHash(hash);
}

PROF_ALWAYS_INLINE uint32_t HashPair(uint64_t a, uint64_t b) {
  return FoldHash(MixHash(MixHash(kHashStart, a), b));
}

// Of a site: what makes it one of its kind.
PROF_ALWAYS_INLINE uint32_t HashSite(const CpuSiteRecord& site) { return HashPair(site.stack, site.name); }
PROF_ALWAYS_INLINE uint32_t HashSite(const HeapSiteRecord& site) { return HashPair(site.stack, site.size); }
PROF_ALWAYS_INLINE uint32_t HashSite(const ContentionSiteRecord& site) {
  return HashPair(uint64_t{site.stack} << 32 | site.lock, static_cast<uint64_t>(site.kind));
}

}  // namespace profagent
