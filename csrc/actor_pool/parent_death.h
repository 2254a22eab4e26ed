// Workers end with their parent, however that ended.
#pragma once

namespace machin_fast {

// Starts a thread that ends this process at once when the other end of the pipe `fd` is closed, or
// the parent writes to it. The fd is duplicated.
// `killed_with_starter`: the kernel, too, kills this process when the *thread* that started it
// ends; that gets stopped processes as well. Linux; nothing elsewhere.
// Throws std::system_error.
void exit_with_parent(int fd, bool killed_with_starter);

}  // namespace machin_fast
