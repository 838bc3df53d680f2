// Read once for all tests of a program: half of the time that it took to build them. Each test still includes what it uses.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>
