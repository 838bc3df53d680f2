// A profile of which every function has a name from standard input: nm libfoo.so | make_names_profile OUTPUT
#include <cstdio>
#include <iostream>
#include <string>

#include "symbolizer/profile/write_profile.h"
#include "tests/golden/profile_builder.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: make_names_profile OUTPUT < NAMES\n", stderr);
    return 2;
  }
  profagent::ProfileBuilder builder;
  builder.Type("samples", "count");
  const uint64_t mapping = builder.Mapping(0x1000, ~uint64_t{0}, 0, "names", "");
  uint64_t address = 0x1000;
  for (std::string name; std::getline(std::cin, name); ++address) {
    if (name.find('|') != std::string::npos) continue;  // means something to the builder
    builder.Sample({builder.Location(mapping, address, {{name, "", 0}})}, {1});
  }
  const profagent::Status written = profagent::WriteProfile(builder.profile(), argv[1]);
  if (!written) {
    std::fprintf(stderr, "%s\n", written.error().text.c_str());
    return 1;
  }
  return 0;
}
