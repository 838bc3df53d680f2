// As pch/symbolizer.h, for the command lines.
#include <CLI/CLI.hpp>

#include "symbolizer/pch/symbolizer.h"
