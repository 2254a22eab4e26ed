#include "actor_pool/mapping.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "actor_pool/require.h"

namespace machin_fast {

Mapping::Mapping(const char* op, int fd, size_t size) : size_(size) {
  const auto failed = [op](const char* call) {
    throw std::system_error(errno, std::generic_category(), std::string(op) + ": " + call);
  };
  struct stat file;
  if (fstat(fd, &file) != 0) failed("fstat");
  // Beyond the end of the file there is no memory but a signal.
  MF_REQUIRE(size_t(file.st_size) >= size, op, ": fd must hold ", size, " bytes, got ",
             file.st_size);
  void* const address = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) failed("mmap");
  data_ = static_cast<std::byte*>(address);
}

Mapping::~Mapping() {
  munmap(data_, size_);
}

}  // namespace machin_fast
