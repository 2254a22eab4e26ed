// Memory that processes share, by a file descriptor that one hands to the other.
#pragma once

#include <cstddef>

namespace machin_fast {

class Mapping {
 public:
  // Maps the first `size` bytes; the fd may be closed afterwards.
  // Throws std::invalid_argument if the file is shorter, std::system_error if it cannot be mapped.
  Mapping(const char* op, int fd, size_t size);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::byte* data() const { return data_; }

 private:
  std::byte* data_;
  size_t size_;
};

}  // namespace machin_fast
