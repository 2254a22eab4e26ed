#include "actor_pool/spin.h"

#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

namespace machin_fast {

int usable_cores() {
#ifdef __linux__
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) == 0) return CPU_COUNT(&cores);
#endif
  return int(std::thread::hardware_concurrency());
}

}  // namespace machin_fast
