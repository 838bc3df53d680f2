#include "symbolizer/graph/graph.h"

#include <gtest/gtest.h>

#include "symbolizer/graph/paths.h"
#include "symbolizer/profile/merge_profiles.h"
#include "tests/golden/profile_builder.h"

namespace profagent::graph {
namespace {

const Node& NodeNamed(const Graph& graph, std::string_view name) {
  for (const uint32_t index : graph.shown)
    if (graph.nodes[index].name == name) return graph.nodes[index];
  ADD_FAILURE() << "no node " << name;
  static const Node none;
  return none;
}

// A function that calls itself was on the stack once, not five times.
TEST(BuildGraph, CountsARecursiveFunctionOnce) {
  ProfileBuilder b;
  b.Type("n", "count");
  const uint64_t f = b.Location(0, 1, {{"f", "", 0}}), main = b.Location(0, 2, {{"main", "", 0}});
  b.Sample({f, f, f, main}, {5});
  const Graph graph = BuildGraph(MakeView(Compact(b.profile())), {});
  EXPECT_EQ(NodeNamed(graph, "0000000000000001 f").cum, 5);
  EXPECT_EQ(NodeNamed(graph, "0000000000000001 f").flat, 5);
  EXPECT_EQ(graph.edges.size(), 1u);
}

TEST(BuildGraph, KnowsInlinedCalls) {
  ProfileBuilder b;
  b.Type("n", "count");
  const uint64_t both = b.Location(0, 1, {{"inner", "", 0}, {"outer", "", 0}}),
                 main = b.Location(0, 2, {{"main", "", 0}});
  b.Sample({both, main}, {1});
  const Graph graph = BuildGraph(MakeView(Compact(b.profile())), {});
  const Node& inner = NodeNamed(graph, "0000000000000001 inner");
  const Node& outer = NodeNamed(graph, "0000000000000001 outer");
  ASSERT_EQ(inner.in.size(), 1u);
  EXPECT_TRUE(graph.edges[inner.in[0]].inlined);
  ASSERT_EQ(outer.in.size(), 1u);
  EXPECT_FALSE(graph.edges[outer.in[0]].inlined);
}

// What is spent in a node that is left out must not be charged to its caller.
TEST(BuildGraph, LeavesOutNodesWithoutMovingTheirWeight) {
  ProfileBuilder b;
  b.Type("n", "count");
  const uint64_t leaf = b.Location(0, 1, {{"leaf", "", 0}}), mid = b.Location(0, 2, {{"mid", "", 0}}),
                 main = b.Location(0, 3, {{"main", "", 0}});
  b.Sample({leaf, mid, main}, {7});
  const View view = MakeView(Compact(b.profile()));
  const Graph whole = BuildGraph(view, {});
  NodeSet kept;
  for (const Node& node : whole.nodes)
    if (node.name != "0000000000000001 leaf") kept.insert(node.info);
  const Graph graph = BuildGraph(view, {.kept = &kept});
  EXPECT_EQ(NodeNamed(graph, "0000000000000002 mid").flat, 0);
  EXPECT_EQ(NodeNamed(graph, "0000000000000002 mid").cum, 7);

  kept.clear();
  for (const Node& node : whole.nodes)
    if (node.name != "0000000000000002 mid") kept.insert(node.info);
  const Graph bridged = BuildGraph(view, {.kept = &kept});
  ASSERT_EQ(bridged.edges.size(), 1u);
  EXPECT_TRUE(bridged.edges[0].residual);
}

TEST(Paths, AreCleanedAsGoCleansThem) {
  EXPECT_EQ(CleanPath(""), ".");
  EXPECT_EQ(CleanPath("/a//b/../c.cc"), "/a/c.cc");
  EXPECT_EQ(CleanPath("/../.."), "/");
  EXPECT_EQ(CleanPath("a/../../b/"), "../b");
  EXPECT_EQ(CleanPath("./"), ".");
  EXPECT_EQ(BaseName("/usr/bin/app/"), "app");
  EXPECT_EQ(BaseName(""), ".");
  EXPECT_EQ(BaseName("//"), "/");
}

TEST(Paths, LoseTheDirectoryTheyWereBuiltIn) {
  EXPECT_EQ(TrimSourcePath("/proc/self/cwd/a/b.cc", "", ""), "a/b.cc");
  EXPECT_EQ(TrimSourcePath("/build/x/b.cc", "/other:/build", ""), "x/b.cc");
  EXPECT_EQ(TrimSourcePath("/builder/b.cc", "/build", ""), "/builder/b.cc");
  EXPECT_EQ(TrimSourcePath("/remote/project/src/b.cc", "", "/home/me/project"), "src/b.cc");
}

}  // namespace
}  // namespace profagent::graph
