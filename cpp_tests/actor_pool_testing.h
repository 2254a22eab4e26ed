// Shared memory and processes for the tests of csrc/actor_pool.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <new>
#include <utility>

namespace machin_fast::testing {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Zeroed memory that children of this process share.
class SharedMemory {
 public:
  explicit SharedMemory(size_t size) : size_(size) {
    data_ = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (data_ == MAP_FAILED) throw std::bad_alloc();
  }
  ~SharedMemory() { munmap(data_, size_); }
  SharedMemory(const SharedMemory&) = delete;

  std::byte* data() const { return static_cast<std::byte*>(data_); }

 private:
  void* data_;
  size_t size_;
};

// A child process that runs `body`. `ended()` becomes readable when it has ended.
class Child {
 public:
  explicit Child(const std::function<void()>& body) {
    int ends[2];
    if (pipe(ends) != 0) throw std::bad_alloc();
    std::fflush(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      close(ends[0]);
      body();
      _exit(0);
    }
    close(ends[1]);
    ended_ = ends[0];
  }
  ~Child() {
    kill();
    close(ended_);
  }
  Child(const Child&) = delete;

  pid_t pid() const { return pid_; }
  int ended() const { return ended_; }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    wait();
  }
  // The exit code, or minus the signal that ended it.
  int wait() {
    int status = 0;
    waitpid(std::exchange(pid_, 0), &status, 0);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
  }

 private:
  pid_t pid_ = 0;
  int ended_ = -1;
};

}  // namespace machin_fast::testing
