// The private directory on tmpfs in which the processes of one run keep their ledgers.
//
// Context:   `offline`.
// Owner:     one `profagent run`, which holds an flock on the directory as long as it lives. A directory whose lock is
//            free belonged to a run that was killed.
// Root's:    what root runs may change its user before an exec or a fork (su, setpriv, entry points of containers), and is to
//            record all the same. So anybody who knows the name may make files there; it is a directory with a name of 128
//            random bits, in one that only its owner can list. What is in such a file may then be anybody's word, as it is
//            of a program with another user's rights in any case: the harvest believes none of it (agent/ledger/ledger_view.h).
// Left over: such a directory holds what somebody's program did, so it is not thrown away at once: the next run of the
//            same user names it (once), and a later one removes it when no process records into it any more and it is a
//            day old. (It is memory; a reboot clears it anyway.)
// Space:     a ledger of a compiler takes some 0.7 MB, and a container's /dev/shm has 64: a build fills it. So what nobody records
//            into any more is moved to a disk once the place gets short.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/result.h"

namespace profagent {

class LedgerDirectory {
 public:
  // In the first of $XDG_RUNTIME_DIR, /dev/shm, $TMPDIR and /tmp that takes it and has some space left. Mode 0700, owned
  // by the user; root's: 01733, in one of 0711, and rather where others may go.
  static Result<LedgerDirectory> Create();

  LedgerDirectory(LedgerDirectory&& other) noexcept;
  LedgerDirectory& operator=(LedgerDirectory&&) = delete;
  ~LedgerDirectory() { Remove(); }

  // With everything in it, unless Keep was called.
  void Remove();
  // For whoever wants to look into the ledgers. A later run removes it like any left over one, when it is a day old.
  void Keep();

  // `ledger`, a file's name: its process has let go of it. Moved to a disk if this is on tmpfs and 16 MiB of such are there,
  // or less than a half and less than 256 MiB of its space are left; where that cannot be it stays.
  void MakeRoomOf(const std::string& ledger);

  const std::string& path() const { return path_; }
  // Also where ledgers were moved to.
  std::vector<std::string> paths() const;
  // Where path() stands, or the same.
  const std::string& top() const { return top_; }
  // Not on tmpfs: every sample may cost a disk's time.
  bool on_disk() const { return on_disk_; }

  struct LedgerFile {
    std::string path;
    uint32_t pid;
    uint32_t serial;  // images of this pid, in their order
  };
  // By pid and serial; what was moved, too.
  std::vector<LedgerFile> List() const;

 private:
  static Result<LedgerDirectory> CreateIn(const std::string& place);
  LedgerDirectory(std::string top, std::string path, int lock, bool on_disk);

  std::string top_;
  std::string path_;
  int lock_ = -1;
  bool on_disk_ = false;
  bool keep_ = false;
  uint64_t kept_ = 0;                       // bytes of ledgers that were let go, and stay on tmpfs
  std::unique_ptr<LedgerDirectory> moved_;  // on a disk
};

// PID.SERIAL.ledger; false: not such a name.
bool ParseLedgerName(const std::string& name, uint32_t* pid, uint32_t* serial);

// Whether a process has this ledger mapped: it is alive and records. Believed of one that may not be looked at, so that of
// a process in another pid namespace the answer may be some stranger's: only a ledger that was let go is surely nobody's.
bool IsRecordedInto(const LedgerDirectory::LedgerFile& ledger);

// Processes that are alive and were told to record into the directory; whether they do is another question. Only of those
// that began after this one: what the others' environments hold is not read.
struct ToldProcess {
  uint32_t pid;
  std::string name;
};
std::vector<ToldProcess> ProcessesToldOf(const std::string& ledger_directory);

// Directories of runs that were killed: removes the old ones of this user, returns those that were not named before.
std::vector<std::string> TidyLeftOvers();

}  // namespace profagent
