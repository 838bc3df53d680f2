// A C++ library: the only one of the program that needs libgcc_s.
#include <stdexcept>
#include <string>

#include "tests/support/burn.h"

WORK(work_in_cleanup)

namespace {

struct Cleanup {
  explicit Cleanup(int* count) : count_(count) {}
  ~Cleanup() { ++*count_; }
  int* count_;
};

WHOLE_FUNCTION int Throw(int depth, int* cleanups) {
  Cleanup cleanup(cleanups);
  if (depth == 0) throw std::runtime_error("number " + std::to_string(*cleanups));
  return Throw(depth - 1, cleanups) + 1;
}

}  // namespace

// Throws through `depth` frames until `millis` of CPU time are used up; answers how many exceptions were caught whole.
extern "C" int throw_and_catch(int depth, long millis) {
  int64_t end = ThreadCpuNanos() + millis * 1000000;
  int caught = 0;
  while (ThreadCpuNanos() < end) {
    int cleanups = 0;
    try {
      Throw(depth, &cleanups);
    } catch (const std::exception& error) {
      if (cleanups != depth + 1 || std::string(error.what()).substr(0, 7) != "number ") return -1;
      ++caught;
    }
  }
  return caught;
}
