// Writes the golden profiles into a directory: make_golden_profiles DIRECTORY
#include <cstdio>

#include "symbolizer/profile/write_profile.h"
#include "tests/golden/golden_profiles.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: make_golden_profiles DIRECTORY\n", stderr);
    return 2;
  }
  for (const profagent::GoldenProfile& golden : profagent::GoldenProfiles()) {
    const std::string path = std::string(argv[1]) + "/" + golden.name + ".pb.gz";
    const profagent::Status written = profagent::WriteProfile(golden.profile, path);
    if (!written) {
      std::fprintf(stderr, "%s\n", written.error().text.c_str());
      return 1;
    }
  }
  return 0;
}
