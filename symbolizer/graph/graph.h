// Samples to a graph: one node for each distinct place (function, line, file or address, whatever the view
// still tells apart), with what was spent in it (flat) and in it or below it (cum), and an edge for each
// caller and callee.
//
// A node counts once in a stack, however often recursion takes it there; so does an edge.
//
// Context: `offline`.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "symbolizer/graph/view.h"

namespace profagent::graph {

// What makes a node different from another.
struct NodeInfo {
  StringId name = kEmpty;
  uint64_t address = 0;
  StringId file = kEmpty;
  int64_t start_line = 0;
  int64_t line = 0;
  StringId object = kEmpty;  // only where there is no function name, so that functions merge across binaries

  bool operator==(const NodeInfo&) const = default;
};

struct NodeInfoHash {
  size_t operator()(const NodeInfo& info) const;
};
using NodeSet = std::unordered_set<NodeInfo, NodeInfoHash>;

// "0000000000401000 main main.cc:12", from what is known; "[libfoo.so]" or "<unknown>" if nothing is.
std::string PrintableName(const View& view, const NodeInfo& info);

struct Node {
  NodeInfo info;
  std::string name;  // PrintableName
  int64_t flat = 0, flat_divisor = 0, cum = 0, cum_divisor = 0;
  std::vector<uint32_t> in, out;  // edges, those that were not trimmed

  int64_t FlatValue() const;  // the mean, where there is a divisor
  int64_t CumValue() const;
};

struct Edge {
  uint32_t from = 0, to = 0;  // nodes
  int64_t weight = 0, weight_divisor = 0;
  bool residual = false;  // goes over nodes that were left out
  bool inlined = true;    // the callee was inlined into the caller, every time
};

struct Graph {
  std::vector<Node> nodes;      // all
  std::vector<uint32_t> shown;  // those of a report, in its order
  std::vector<Edge> edges;
};

struct GraphOptions {
  size_t sample_index = 0;
  bool mean = false;  // divide by the first value
  bool drop_negative = false;
  const NodeSet* kept = nullptr;  // only these, if given
};

Graph BuildGraph(const View& view, const GraphOptions& options);

// The nodes of each location, innermost first: what BuildGraph puts stacks together from.
std::vector<std::vector<NodeInfo>> NodesOfLocations(const View& view);

// Decreasing by |flat| (or |cum|), ties by name: pprof's order.
void SortNodes(Graph& graph, const View& view, bool by_cum);

// The nodes among `shown` whose |cum| is at least `cutoff`.
NodeSet NodesAtLeast(const Graph& graph, int64_t cutoff);

// Removes edges into shown nodes whose |weight| is below `cutoff`.
void TrimEdges(Graph& graph, int64_t cutoff);

}  // namespace profagent::graph
