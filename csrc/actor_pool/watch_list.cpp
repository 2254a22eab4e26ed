#include "actor_pool/watch_list.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace machin_fast {

WatchList::~WatchList() {
  for (const pollfd& each : fds_) {
    if (each.fd >= 0) close(each.fd);
  }
}

void WatchList::set(int64_t position, int fd) {
  int copy = -1;
  if (fd >= 0 && (copy = fcntl(fd, F_DUPFD_CLOEXEC, 0)) < 0) {
    throw std::system_error(errno, std::generic_category(), "Dispatcher.watch");
  }
  int& slot = fds_[size_t(position)].fd;
  if (slot >= 0) close(slot);
  slot = copy;
}

bool WatchList::any_ended() const {
  return poll(fds_.data(), nfds_t(fds_.size()), 0) > 0;
}

std::vector<int64_t> WatchList::ended() const {
  std::vector<int64_t> found;
  if (!any_ended()) return found;
  for (size_t i = 0; i < fds_.size(); ++i) {
    if (fds_[i].fd >= 0 && fds_[i].revents != 0) found.push_back(int64_t(i));
  }
  return found;
}

}  // namespace machin_fast
