#include "actor_pool/parent_death.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <thread>

#ifdef __linux__
#include <sys/prctl.h>
#endif

namespace machin_fast {

void exit_with_parent(int fd, bool killed_with_starter) {
  const auto check = [](bool good) {
    if (!good) throw std::system_error(errno, std::generic_category(), "exit_with_parent");
  };
  const int pipe = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  check(pipe >= 0);
#ifdef __linux__
  if (killed_with_starter) check(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
#else
  (void)killed_with_starter;
#endif
  // The thread takes no signals: they are for the thread that runs Python.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread([pipe] {
    pollfd parent{.fd = pipe, .events = POLLIN, .revents = 0};
    while (poll(&parent, 1, -1) < 0) {
    }
    _exit(1);
  }).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace machin_fast
