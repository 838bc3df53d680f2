// Writes the golden profiles into a directory: make_golden_profiles DIRECTORY
#include <cstdio>

#include "symbolizer/profile/gunzip.h"
#include "symbolizer/profile/write_profile.h"
#include "tests/golden/agent_profiles.h"
#include "tests/golden/golden_profiles.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: make_golden_profiles DIRECTORY\n", stderr);
    return 2;
  }
  for (const profagent::GoldenProfile& golden : profagent::GoldenProfiles()) {
    const std::string path = std::string(argv[1]) + "/" + golden.name + ".pb.gz";
    // As it is: WriteProfile would mend the names that are no UTF-8, which other writers' profiles have.
    const profagent::Status written =
        profagent::WriteWholeFile(profagent::Gzip(golden.profile.SerializeAsString()), path, 0600);
    if (!written) {
      std::fprintf(stderr, "%s\n", written.error().text.c_str());
      return 1;
    }
  }
  for (const profagent::AgentProfile& profile : profagent::AgentProfiles()) {
    const std::string path = std::string(argv[1]) + "/" + profile.name + ".pb.gz";
    const profagent::Status written = profagent::WriteWholeFile(profile.bytes, path, 0600);
    if (profile.bytes.empty() || !written) {
      std::fprintf(stderr, "%s: no such profile can be made\n", profile.name.c_str());
      return 1;
    }
  }
  return 0;
}
