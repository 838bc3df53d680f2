#include "agent/base/log.h"

#include "agent/base/raw_syscall.h"

namespace profagent {

PROF_WRITTEN_AT_START constinit Verbosity g_verbosity = Verbosity::kErrors;

void WriteLogLine(std::string_view line) {
  char memory[1100];
  TextWriter text(memory, sizeof memory);
  text.Add("profagent: ", line.substr(0, 1024), '\n');
  RawSyscall(SYS_write, 2, text.c_str(), text.size());
}

}  // namespace profagent
