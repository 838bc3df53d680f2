// As unit_test.h, for the tests of the symbolizer.
#include "symbolizer/pch/symbolizer.h"
#include "tests/unit/pch/unit_test.h"
