#include "symbolizer/profile/read_profile.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

#include "symbolizer/profile/gunzip.h"
#include "symbolizer/profile/wire_scan.h"

namespace profagent {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// Pipes and files alike, so that `profagent -top <(curl ...)` works.
Result<std::string> ReadWhole(const std::string& path, size_t limit) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return ErrorAbout(path, std::strerror(errno), errno);
  struct stat status {};
  if (fstat(file.get(), &status) != 0) return ErrorAbout(path, std::strerror(errno), errno);
  if (S_ISDIR(status.st_mode)) return ErrorAbout(path, "is a directory, not a profile", EISDIR);

  constexpr size_t kLeast = size_t{64} << 10;
  std::string bytes;
  size_t used = 0;
  while (true) {
    const size_t expected =
        static_cast<size_t>(std::max<off_t>(status.st_size, 0)) + 1;  // + 1: reads the end of file
    if (used == bytes.size()) bytes.resize(std::min(std::max({used * 2, expected, kLeast}), limit + 1));
    const ssize_t n = read(file.get(), bytes.data() + used, bytes.size() - used);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrorAbout(path, std::strerror(errno), errno);
    if (n == 0) break;
    used += static_cast<size_t>(n);
    if (used > limit) {
      return ErrorAbout(path,
                        FixedText<64>().Add("larger than ", limit >> 20, " MiB, which no profile is").view());
    }
  }
  bytes.resize(used);
  return bytes;
}

// What a file that is no profile seems to be: most of these were met by somebody who mixed up two file names.
std::string_view ForeignFormat(std::string_view bytes) {
  struct Magic {
    std::string_view start, name;
  };
  using std::string_view_literals::operator""sv;
  static constexpr Magic kMagics[] = {
      {"PERFILE2"sv, "this is a perf.data file; `perf script` or `perf report` read it"},
      {"\x7f"
       "ELF"sv,
       "this is an ELF file (a program, library or core), not a profile"},
      {"heap profile:"sv, "this is a heap profile in gperftools' text format, which is not read"},
      {"--- "sv, "this is a profile in gperftools' text format, which is not read"},
      {"\0\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0"sv,
       "this is a CPU profile in gperftools' binary format, which is not read"},
      {"go 1."sv, "this is an execution trace of Go; `go tool trace` reads it"},
      {"\x28\xb5\x2f\xfd"sv, "this is zstd-compressed; decompress it first"},
      {"\xfd"
       "7zXZ"sv,
       "this is xz-compressed; decompress it first"},
      {"BZh"sv, "this is bzip2-compressed; decompress it first"},
      {"PK\3\4"sv, "this is a zip archive"},
      {"<!"sv, "this is HTML"},
      {"<html"sv, "this is HTML"},
      {"{"sv, "this is JSON"},
      {"# callgrind"sv, "this is a callgrind profile; callgrind_annotate and kcachegrind read it"},
      {"SQLite format 3"sv, "this is an SQLite database"},
  };
  for (const Magic& magic : kMagics)
    if (bytes.starts_with(magic.start)) return magic.name;
  const auto printable = [](unsigned char c) { return (c >= ' ' && c != 0x7f) || (c >= '\t' && c <= '\r'); };
  if (std::ranges::all_of(bytes.substr(0, 512), printable)) return "this is a text file";
  return {};
}

}  // namespace

Result<Profile> DecodeProfile(std::string_view bytes, const ReadLimits& limits) {
  std::string plain;
  if (LooksGzipped(bytes)) {
    Result<std::string> unpacked = Gunzip(bytes, limits.uncompressed);
    if (!unpacked) return unpacked.error();
    plain = std::move(*unpacked);
    bytes = plain;
  }
  if (bytes.size() > std::min(limits.uncompressed, size_t{std::numeric_limits<int>::max()}))
    return Error::Of("larger than ", limits.uncompressed >> 20, " MiB, which no profile is");

  const Result<WireScan> scan = ScanEncodedProfile(bytes);
  const std::string_view foreign = scan || bytes.empty() ? std::string_view{} : ForeignFormat(bytes);
  if (!foreign.empty()) return Error::Of("unrecognized profile format: ", foreign);
  if (!scan) return scan.error();
  if (scan->memory > limits.in_memory)
    return Error::Of("would take ", scan->memory >> 20, " MiB of memory; the limit is ",
                     limits.in_memory >> 20, " MiB");

  Profile profile;
  if (!profile.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return Error::Of("parsing profile: unrecognized profile format");
  const Status valid = ValidateProfile(profile);
  if (!valid) return valid.error();
  return profile;
}

Result<Profile> ReadProfile(const std::string& path, const ReadLimits& limits) {
  const Result<std::string> bytes = ReadWhole(path, limits.file);
  if (!bytes) return bytes.error();
  Result<Profile> profile = DecodeProfile(*bytes, limits);
  if (!profile) return ErrorAbout(path, profile.error().text.view());
  return profile;
}

}  // namespace profagent
