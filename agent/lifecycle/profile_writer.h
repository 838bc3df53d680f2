// Puts a profile of this process into a file.
//
// Context:  `dump`: on OwnStack, with the signals of the thread blocked; other threads may add to the ledger meanwhile.
// Paths:    a relative one means the directory in which the program was started, wherever it went since.
// Failure:  one line on descriptor 2 that names the file and the reason; the program goes on.
#pragma once

#include <string_view>

#include "agent/base/holding.h"
#include "agent/base/profile_names.h"
#include "agent/ledger/ledger.h"
#include "agent/lifecycle/wanted_profiles.h"

namespace profagent {

enum class WhenEmpty { kWrite, kSkip };
enum class Afterwards { kProcessGoesOn, kProcessEnds };

// Whether one of those that are written at the end may have a sample, by the header alone: what is forked and does little ends
// without a stack to write on and without a look for a free name.
bool MayHaveSamples(const LedgerHeader& header, const WantedProfiles& wanted);

// True: the file is there now.
bool WriteProfile(const Ledger& ledger, const WantedProfile& profile, std::string_view path,
                  WhenEmpty when_empty, Afterwards afterwards);

PathText AbsolutePath(const Ledger& ledger, std::string_view path);

// Which of `path`, path.2, path.3 ... is the first that does not exist for any of the kinds that are written at the end: for
// names that no rule makes unique. One number for all kinds, for not every image of a process has samples of each.
uint32_t UnusedNumber(const Ledger& ledger, const WantedProfiles& wanted, const ProcessName& process,
                      WrittenAt when, uint32_t dump_number);

// The first number behind `last` that no dump has which is newer than this process. Such a dump is one of what the process was before
// an exec (which counted from 1, too), or of another first process: it stays. Older ones are an earlier run's. `kBeforeExec`: only what
// the process was before counts, not who writes meanwhile.
enum class WhoseDumps { kAll, kBeforeExec };
uint32_t NextDumpNumber(const Ledger& ledger, const WantedProfiles& wanted, const ProcessName& process,
                        uint32_t last, WhoseDumps whose);

// Held from the question whether a plain name (or a dump's) has appeared until ours are written: the ranks of an MPI program end
// together, and are asked for a dump together, and each found none of the other's. A lock of the directory (flock), which goes
// with the process; who does not get it writes all the same.
class PlainNameTurn : private Holding {
 public:
  PlainNameTurn(const Ledger& ledger, const WantedProfiles& wanted);
  ~PlainNameTurn() { End(); }
  PlainNameTurn(const PlainNameTurn&) = delete;
  PlainNameTurn& operator=(const PlainNameTurn&) = delete;

 private:
  void End();

  static constexpr int kLongestWait = 300;  // milliseconds
  int fd_ = -1;
};

// Whether one of the plain names is a regular file that is newer than this process: somebody else's, who got the same name from
// a launcher without the agent (`mpirun env LD_PRELOAD=...`, `app & app &`), since a process writes there once, at its end. Says so.
bool AppearedMeanwhile(const Ledger& ledger, const WantedProfiles& wanted, const ProcessName& process,
                       uint32_t dump_number);

// What %e stands for; lives in the ledger.
std::string_view ProgramName(const Ledger& ledger);

}  // namespace profagent
