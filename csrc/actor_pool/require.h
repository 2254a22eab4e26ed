// Checks of arguments, as core/check.h has them for ops, but for classes: they throw
// std::invalid_argument, which Python sees as ValueError.
#pragma once

#include <sstream>
#include <stdexcept>

namespace machin_fast {

template <typename... Parts>
[[noreturn, gnu::cold, gnu::noinline]] void refuse(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw std::invalid_argument(text.str());
}

#define MF_REQUIRE(condition, ...)        \
  do {                                    \
    if (!(condition)) [[unlikely]] {      \
      ::machin_fast::refuse(__VA_ARGS__); \
    }                                     \
  } while (false)

}  // namespace machin_fast
