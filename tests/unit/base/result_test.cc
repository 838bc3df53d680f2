#include "agent/base/result.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>

#include "agent/base/function_ref.h"

namespace profagent {
namespace {

Result<int> Half(int number) {
  if (number % 2 != 0) return Error::Of(number, " is odd");
  return number / 2;
}

TEST(Result, HoldsAValueOrASentence) {
  Result<int> good = Half(8);
  ASSERT_TRUE(good);
  EXPECT_EQ(*good, 4);
  Result<int> bad = Half(7);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().text.view(), "7 is odd");
  EXPECT_EQ(bad.error().code, 0);
}

TEST(Result, CarriesWhatCanOnlyBeMoved) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(5);
  ASSERT_TRUE(result);
  std::unique_ptr<int> value = std::move(*result);
  EXPECT_EQ(*value, 5);
}

TEST(Result, PutsTheKernelsReasonIntoWords) {
  Error error = Error::OfKernel(ENOENT, "cannot open ", "/x");
  EXPECT_EQ(error.text.view(), "cannot open /x: No such file or directory");
  EXPECT_EQ(error.code, ENOENT);
  EXPECT_EQ(Error::OfKernel(3999, "strange").text.view(), "strange: error 3999");
}

int Plus(int a) { return a + 1; }

TEST(FunctionRef, CallsLambdasConstOnesAndFunctions) {
  int calls = 0;
  auto counting = [&](int a) { return ++calls, a; };
  const auto doubling = [](int a) { return 2 * a; };
  auto call = [](FunctionRef<int(int)> function) { return function(21); };
  EXPECT_EQ(call(counting), 21);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(call(doubling), 42);
  EXPECT_EQ(call(Plus), 22);
  EXPECT_EQ(call([](int) { return 7; }), 7);
}

}  // namespace
}  // namespace profagent
