#include "symbolizer/report/go_text.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "symbolizer/graph/utf8.h"

namespace profagent {
namespace {

struct LocalTime {
  std::tm parts{};
  long nanos = 0;
  std::string zone;
};

// Go takes TZ for the name of a file of the zone database, and UTC if there is none. The C library also reads
// rules
// ("EST5EDT4"), and shows an unknown name as if it were a zone.
bool ZoneIsUtc() {
  const char* variable = std::getenv("TZ");
  if (variable == nullptr) return false;  // /etc/localtime, or UTC by the C library's own rule
  std::string name(variable);
  if (name.starts_with(':')) name.erase(0, 1);
  if (name.empty() || name == "UTC") return true;
  if (name.starts_with('/')) return access(name.c_str(), R_OK) != 0;
  for (const char* directory : {"/usr/share/zoneinfo/", "/usr/share/lib/zoneinfo/", "/usr/lib/locale/TZ/"})
    if (access((directory + name).c_str(), R_OK) == 0) return false;
  return true;
}

LocalTime ToLocalTime(int64_t unix_nanos) {
  constexpr int64_t kSecond = 1'000'000'000;
  LocalTime local;
  std::time_t seconds = unix_nanos / kSecond;
  local.nanos = static_cast<long>(unix_nanos % kSecond);
  if (local.nanos < 0) {
    local.nanos += kSecond;
    --seconds;
  }
  if (ZoneIsUtc()) {
    gmtime_r(&seconds, &local.parts);
    local.zone = "UTC";
  } else {
    tzset();
    localtime_r(&seconds, &local.parts);
    local.zone = local.parts.tm_zone;
  }
  return local;
}

template <class... Values>
std::string Format(const char* format, Values... values) {
  char buffer[128];
  return {buffer, static_cast<size_t>(std::snprintf(buffer, sizeof buffer, format, values...))};
}

// A value of `unit`, from a count of its billionths (or millionths...): "1.5", "2".
std::string WithFraction(uint64_t value, int digits) {
  uint64_t unit = 1;
  for (int i = 0; i < digits; ++i) unit *= 10;
  std::string text = std::to_string(value / unit);
  std::string fraction = std::to_string(value % unit);
  fraction.insert(0, static_cast<size_t>(digits) - (digits > 0 ? fraction.size() : 0), '0');
  while (!fraction.empty() && fraction.back() == '0') fraction.pop_back();
  return digits == 0 || fraction.empty() ? text : text + "." + fraction;
}

}  // namespace

void AppendPadded(std::string& text, std::string_view part, size_t width) {
  size_t characters = 0;
  for (size_t at = 0; at < part.size(); at += graph::CharacterLength(part.substr(at))) ++characters;
  if (characters < width) text.append(width - characters, ' ');
  text.append(part);
}

std::string_view FirstCharacters(std::string_view text, size_t count) {
  size_t at = 0;
  for (; count > 0 && at < text.size(); --count) at += graph::CharacterLength(text.substr(at));
  return text.substr(0, at);
}

std::string_view TrimSpace(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\v\f\r";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

std::string HeaderTime(int64_t unix_nanos) {
  const LocalTime local = ToLocalTime(unix_nanos);
  static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                            "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::tm& t = local.parts;
  return Format("%s %d, %04d at %d:%02d%s (", kMonths[t.tm_mon], t.tm_mday, t.tm_year + 1900,
                t.tm_hour % 12 == 0 ? 12 : t.tm_hour % 12, t.tm_min, t.tm_hour < 12 ? "am" : "pm") +
         local.zone + ")";
}

std::string RawTime(int64_t unix_nanos) {
  const LocalTime local = ToLocalTime(unix_nanos);
  const std::tm& t = local.parts;
  std::string text = Format("%04d-%02d-%02d %02d:%02d:%02d", t.tm_year + 1900, t.tm_mon + 1, t.tm_mday,
                            t.tm_hour, t.tm_min, t.tm_sec);
  text +=
      WithFraction(static_cast<uint64_t>(local.nanos), 9).substr(1);  // without the 0 in front of the point
  const long offset = t.tm_gmtoff / 60;
  return text +
         Format(" %c%02ld%02ld ", offset < 0 ? '-' : '+', std::labs(offset) / 60, std::labs(offset) % 60) +
         local.zone;
}

std::string DurationText(int64_t nanos) {
  const std::string sign = nanos < 0 ? "-" : "";
  const uint64_t size = nanos < 0 ? 0 - static_cast<uint64_t>(nanos) : static_cast<uint64_t>(nanos);
  constexpr uint64_t kSecond = 1'000'000'000, kMinute = 60 * kSecond, kHour = 60 * kMinute;
  if (size == 0) return "0s";
  if (size < 1000) return sign + WithFraction(size, 0) + "ns";
  if (size < 1'000'000) return sign + WithFraction(size, 3) + "µs";
  if (size < kSecond) return sign + WithFraction(size, 6) + "ms";
  std::string text = sign;
  if (size >= kHour) text += std::to_string(size / kHour) + "h";
  if (size >= kMinute) text += std::to_string(size % kHour / kMinute) + "m";
  return text + WithFraction(size % kMinute, 9) + "s";
}

}  // namespace profagent
