#include "symbolizer/graph/graph.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>

#include "symbolizer/graph/paths.h"
#include "symbolizer/profile/measurement.h"

namespace profagent::graph {
namespace {

int64_t Mean(int64_t value, int64_t divisor) { return divisor == 0 ? value : WrappingDivide(value, divisor); }

uint64_t Mix(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * 0xff51afd7ed558ccd;
  return hash ^ (hash >> 32);
}

// pprof's last resort between nodes that print alike: the text that Go prints for the whole structure.
std::string TieText(const View& view, const NodeInfo& info) {
  return "{" + view.Text(info.name) + "  " + std::to_string(info.address) + " " + view.Text(info.file) + " " +
         std::to_string(info.start_line) + " " + std::to_string(info.line) + " " + view.Text(info.object) +
         "}";
}

class Builder {
 public:
  Builder(const View& view, const GraphOptions& options) : view_(view), options_(options) {}

  Graph Build() {
    for (const auto& infos : NodesOfLocations(view_)) {
      std::vector<uint32_t>& nodes = nodes_of_location_.emplace_back();
      for (const NodeInfo& info : infos) nodes.push_back(FindOrAdd(info));
    }
    last_sample_of_node_.assign(graph_.nodes.size(), 0);
    for (const Sample& sample : view_.samples) Add(sample);
    for (uint32_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      const bool negative = node.flat < 0 || (node.flat == 0 && node.cum < 0);
      if ((node.cum != 0 || node.flat != 0) && !(options_.drop_negative && negative))
        graph_.shown.push_back(i);
    }
    return std::move(graph_);
  }

 private:
  uint32_t FindOrAdd(const NodeInfo& info) {
    if (options_.kept != nullptr && !options_.kept->contains(info)) return kNone;
    const auto [place, added] = node_index_.emplace(info, static_cast<uint32_t>(graph_.nodes.size()));
    if (added) {
      Node& node = graph_.nodes.emplace_back();
      node.info = info;
      node.name = PrintableName(view_, info);
    }
    return place->second;
  }

  void Add(const Sample& sample) {
    const int64_t weight = sample.values[options_.sample_index];
    const int64_t divisor = options_.mean ? sample.values[0] : 0;
    if (weight == 0 && divisor == 0) return;
    ++sample_number_;
    uint32_t parent = kNone;
    bool residual = false;
    for (auto location = sample.locations.rbegin(); location != sample.locations.rend(); ++location) {
      const std::vector<uint32_t>& nodes = nodes_of_location_[*location];
      for (size_t i = nodes.size(); i-- > 0;) {
        const uint32_t node = nodes[i];
        if (node == kNone) {
          residual = true;
          continue;
        }
        if (last_sample_of_node_[node] != sample_number_) {
          last_sample_of_node_[node] = sample_number_;
          graph_.nodes[node].cum = WrappingAdd(graph_.nodes[node].cum, weight);
          graph_.nodes[node].cum_divisor = WrappingAdd(graph_.nodes[node].cum_divisor, divisor);
        }
        if (parent != kNone && node != parent) {
          AddToEdge(parent, node, weight, divisor, residual, i != nodes.size() - 1);
        }
        parent = node;
        residual = false;
      }
    }
    if (parent != kNone && !residual) {
      graph_.nodes[parent].flat = WrappingAdd(graph_.nodes[parent].flat, weight);
      graph_.nodes[parent].flat_divisor = WrappingAdd(graph_.nodes[parent].flat_divisor, divisor);
    }
  }

  // Of an edge that a stack takes several times only the first passage counts, its flags included.
  void AddToEdge(uint32_t from, uint32_t to, int64_t weight, int64_t divisor, bool residual, bool inlined) {
    const uint64_t ends = uint64_t{from} << 32 | to;
    const auto [place, added] = edge_index_.emplace(ends, static_cast<uint32_t>(graph_.edges.size()));
    const uint32_t index = place->second;
    if (added) {
      Edge& edge = graph_.edges.emplace_back();
      edge.from = from;
      edge.to = to;
      last_sample_of_edge_.push_back(0);
      graph_.nodes[from].out.push_back(index);
      graph_.nodes[to].in.push_back(index);
    }
    if (last_sample_of_edge_[index] == sample_number_) return;
    last_sample_of_edge_[index] = sample_number_;
    Edge& edge = graph_.edges[index];
    edge.weight = WrappingAdd(edge.weight, weight);
    edge.weight_divisor = WrappingAdd(edge.weight_divisor, divisor);
    edge.residual |= residual;
    edge.inlined &= inlined;
  }

  const View& view_;
  const GraphOptions& options_;
  Graph graph_;
  std::vector<std::vector<uint32_t>> nodes_of_location_;
  std::unordered_map<NodeInfo, uint32_t, NodeInfoHash> node_index_;
  std::unordered_map<uint64_t, uint32_t> edge_index_;
  std::vector<uint64_t> last_sample_of_node_, last_sample_of_edge_;
  uint64_t sample_number_ = 0;
};

}  // namespace

size_t NodeInfoHash::operator()(const NodeInfo& info) const {
  uint64_t hash = Mix(0x9e3779b97f4a7c15, uint64_t{info.name} << 32 | info.file);
  hash = Mix(hash, info.address);
  hash = Mix(hash, static_cast<uint64_t>(info.line));
  return Mix(hash, static_cast<uint64_t>(info.start_line) << 32 ^ info.object);
}

int64_t Node::FlatValue() const { return Mean(flat, flat_divisor); }
int64_t Node::CumValue() const { return Mean(cum, cum_divisor); }

std::string PrintableName(const View& view, const NodeInfo& info) {
  std::string text;
  if (info.address != 0) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%016" PRIx64 " ", info.address);
    text = digits;
  }
  if (info.name != kEmpty) text += view.Text(info.name);
  const auto add = [&](const std::string& part) {
    if (info.name != kEmpty) text += ' ';
    text += part;
  };
  if (info.line != 0)
    add(view.Text(info.file) + ":" + std::to_string(info.line));
  else if (info.file != kEmpty)
    add(view.Text(info.file));
  else if (info.name != kEmpty)
    return text;
  else if (info.object != kEmpty)
    add("[" + std::string(BaseName(view.Text(info.object))) + "]");
  else
    add("<unknown>");
  return text;
}

std::vector<std::vector<NodeInfo>> NodesOfLocations(const View& view) {
  // "a//b/../c.cc" and "a/c.cc" are one file.
  std::vector<StringId> clean_files;
  for (const Function& function : view.functions) {
    const std::string& file = view.Text(function.file);
    clean_files.push_back(file.empty() ? kEmpty : view.strings->Intern(CleanPath(file)));
  }
  std::vector<std::vector<NodeInfo>> nodes(view.locations.size());
  for (size_t i = 0; i < view.locations.size(); ++i) {
    const Location& location = view.locations[i];
    const StringId object = location.mapping != kNone ? view.mappings[location.mapping].file : kEmpty;
    if (location.lines.empty()) nodes[i].push_back({.address = location.address, .object = object});
    for (const Line& line : location.lines) {
      const Function& function = view.functions[line.function];
      NodeInfo& info = nodes[i].emplace_back();
      info.name = function.name;
      info.address = location.address;
      info.file = clean_files[line.function];
      info.line = line.line;
      if (function.name == kEmpty) {
        info.object = object;
        info.start_line = function.start_line;
      }
    }
  }
  return nodes;
}

Graph BuildGraph(const View& view, const GraphOptions& options) { return Builder(view, options).Build(); }

void SortNodes(Graph& graph, const View& view, bool by_cum) {
  std::ranges::sort(graph.shown, [&](uint32_t left, uint32_t right) {
    const Node& l = graph.nodes[left];
    const Node& r = graph.nodes[right];
    const int64_t first_l = WrappingAbs(by_cum ? l.cum : l.flat),
                  first_r = WrappingAbs(by_cum ? r.cum : r.flat);
    if (first_l != first_r) return first_l > first_r;
    if (const int order = l.name.compare(r.name); order != 0) return order < 0;
    const int64_t second_l = WrappingAbs(by_cum ? l.flat : l.cum),
                  second_r = WrappingAbs(by_cum ? r.flat : r.cum);
    if (second_l != second_r) return second_l > second_r;
    return left != right && TieText(view, l.info) < TieText(view, r.info);
  });
}

NodeSet NodesAtLeast(const Graph& graph, int64_t cutoff) {
  NodeSet kept;
  for (const uint32_t node : graph.shown)
    if (WrappingAbs(graph.nodes[node].cum) >= cutoff) kept.insert(graph.nodes[node].info);
  return kept;
}

void TrimEdges(Graph& graph, int64_t cutoff) {
  std::vector<bool> removed(graph.edges.size());
  for (const uint32_t node : graph.shown)
    for (const uint32_t edge : graph.nodes[node].in)
      removed[edge] = WrappingAbs(graph.edges[edge].weight) < cutoff;
  const auto is_removed = [&](uint32_t edge) { return removed[edge]; };
  for (Node& node : graph.nodes) {
    std::erase_if(node.in, is_removed);
    std::erase_if(node.out, is_removed);
  }
}

}  // namespace profagent::graph
