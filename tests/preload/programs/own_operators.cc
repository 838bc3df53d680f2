// A program with operator new and delete of its own, as games and databases have: each block bears a mark. libstdc++ allocates what
// the program gives back.
#include <cstdio>
#include <cstdlib>
#include <new>
#include <sstream>
#include <string>

namespace {

constexpr size_t kMark = 0xfeedface;
int g_made = 0;

struct alignas(16) Header {
  size_t mark;
};

}  // namespace

void* operator new(size_t size) {
  auto* header = static_cast<Header*>(malloc(size + sizeof(Header)));
  if (header == nullptr) throw std::bad_alloc();
  header->mark = kMark;
  ++g_made;
  return header + 1;
}

__attribute__((noinline)) void operator delete(
    void* block) noexcept {  // else GCC warns of the header in front
  if (block == nullptr) return;
  Header* header = static_cast<Header*>(block) - 1;
  if (header->mark != kMark) std::abort();
  free(header);
}
void operator delete(void* block, size_t) noexcept { operator delete(block); }

int main() {
  std::ostringstream stream;
  for (int i = 0; i < 1000; ++i) stream << i;
  for (int i = 0; i < 10; ++i) {
    std::string* copy = new std::string(stream.str());
    copy->append(1000, 'x');
    delete copy;
  }
  std::printf("%d blocks\n", g_made);
  return 7;
}
