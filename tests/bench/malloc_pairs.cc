// Nanoseconds a malloc+free pair, 16 to 256 bytes, from inside: heap_cost.py runs it plain and under each profiler.
//
//   malloc_pairs THREADS immediate|random SLICES
//
// immediate: free what was just allocated. random: replace one of 10 000 live blocks. Each thread prints nothing; the line at
// the end is the smallest and the median slice over all threads. Minima are what interference does not reach.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {

constexpr int kPairs = 100'000;  // a slice: some 2 ms
constexpr size_t kPool = 10'000;

void* volatile g_escape;

uint64_t Next(uint64_t* state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  return *state ^= *state << 17;
}

double Immediate(uint64_t* state) {
  auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kPairs; ++i) {
    void* block = malloc(16 + (Next(state) & 255) % 241);
    g_escape = block;
    free(block);
  }
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count() / kPairs;
}

double Random(uint64_t* state, std::vector<void*>& pool) {
  auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kPairs; ++i) {
    uint64_t draw = Next(state);
    void*& place = pool[(draw >> 20) % kPool];
    free(place);
    place = malloc(16 + (draw & 255) % 241);
  }
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count() / kPairs;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  int threads = atoi(argv[1]), slices = atoi(argv[3]);
  bool immediate = strcmp(argv[2], "immediate") == 0;
  std::vector<std::vector<double>> all(static_cast<size_t>(threads),
                                       std::vector<double>(static_cast<size_t>(slices)));
  auto work = [&](size_t t) {
    uint64_t state = 88172645463325252ULL + t * 7919;
    std::vector<void*> pool(kPool);
    for (double& slice : all[t]) slice = immediate ? Immediate(&state) : Random(&state, pool);
    for (void* block : pool) free(block);
  };
  std::vector<std::thread> others;
  for (size_t t = 1; t < all.size(); ++t) others.emplace_back(work, t);
  work(0);
  for (std::thread& thread : others) thread.join();
  std::vector<double> flat;
  for (auto& of_thread : all) flat.insert(flat.end(), of_thread.begin(), of_thread.end());
  std::sort(flat.begin(), flat.end());
  printf("%.2f %.2f\n", flat.front(), flat[flat.size() / 2]);
  return 0;
}
