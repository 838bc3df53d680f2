#include "symbolizer/graph/paths.h"

#include <vector>

namespace profagent::graph {
namespace {

std::vector<std::string_view> SplitList(std::string_view list) {
  std::vector<std::string_view> parts;
  while (!list.empty()) {
    const size_t end = list.find(':');
    parts.push_back(list.substr(0, end));
    if (end == std::string_view::npos) break;
    list.remove_prefix(end + 1);
    if (list.empty()) parts.push_back(list);  // "a:" has an empty second part
  }
  return parts;
}

}  // namespace

std::string_view BaseName(std::string_view path) {
  if (path.empty()) return ".";
  while (!path.empty() && path.back() == '/') path.remove_suffix(1);
  if (path.empty()) return "/";
  return path.substr(path.rfind('/') + 1);  // npos + 1 is 0
}

std::string CleanPath(std::string_view path) {
  const bool rooted = path.starts_with('/');
  std::vector<std::string_view> kept;
  for (size_t at = 0; at < path.size();) {
    size_t end = path.find('/', at);
    if (end == std::string_view::npos) end = path.size();
    const std::string_view part = path.substr(at, end - at);
    at = end + 1;
    if (part.empty() || part == ".") continue;
    if (part != "..")
      kept.push_back(part);
    else if (!kept.empty() && kept.back() != "..")
      kept.pop_back();
    else if (!rooted)
      kept.push_back(part);
  }
  std::string clean = rooted ? "/" : "";
  for (size_t i = 0; i < kept.size(); ++i) clean.append(i == 0 ? "" : "/").append(kept[i]);
  return clean.empty() ? "." : clean;
}

std::string_view TrimSourcePath(std::string_view path, std::string_view trim_path,
                                std::string_view search_path) {
  if (trim_path.empty()) {
    for (const std::string_view directory : SplitList(search_path)) {
      const std::string wanted = "/" + std::string(BaseName(directory)) + "/";
      if (const size_t found = path.find(wanted); found != std::string_view::npos)
        return path.substr(found + wanted.size());
    }
  }
  std::vector<std::string_view> prefixes = SplitList(trim_path);
  // What build systems that compile in a sandbox leave in debug information.
  prefixes.insert(prefixes.end(), {"/proc/self/cwd/./", "/proc/self/cwd/"});
  for (const std::string_view prefix : prefixes) {
    std::string whole(prefix);
    if (!whole.ends_with('/')) whole += '/';
    if (path.starts_with(whole)) return path.substr(whole.size());
  }
  return path;
}

}  // namespace profagent::graph
