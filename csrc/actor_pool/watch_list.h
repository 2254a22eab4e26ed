// File descriptors that become readable when a worker's process ends: pidfds, or pipes.
#pragma once

#include <poll.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace machin_fast {

class WatchList {
 public:
  explicit WatchList(int64_t size)
      : fds_(static_cast<std::size_t>(size), pollfd{.fd = -1, .events = POLLIN, .revents = 0}) {}
  ~WatchList();
  WatchList(const WatchList&) = delete;
  WatchList& operator=(const WatchList&) = delete;

  // Watches a duplicate of `fd`; -1 ends the watch. Throws std::system_error.
  void set(int64_t position, int fd);

  // Positions whose process has ended.
  std::vector<int64_t> ended() const;
  bool any_ended() const;

 private:
  mutable std::vector<pollfd> fds_;  // poll writes its findings there; those of -1 it passes over
};

}  // namespace machin_fast
