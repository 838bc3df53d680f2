#include "agent/base/thread_state.h"

namespace profagent {

__thread ThreadState t_state __attribute__((tls_model("initial-exec")));

}  // namespace profagent
