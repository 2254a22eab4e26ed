// Checks of arguments. Every one throws std::runtime_error, which Python sees as RuntimeError,
// with a text of the form "<op>: <argument> must <rule>, got <value>[ at position <k>][. <cure>]".
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

#include "core/array.h"

namespace machin_fast {

template <typename... Parts>
[[noreturn, gnu::cold, gnu::noinline]] void fail(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw std::runtime_error(text.str());
}

#define MF_CHECK(condition, ...)        \
  do {                                  \
    if (!(condition)) [[unlikely]] {    \
      ::machin_fast::fail(__VA_ARGS__); \
    }                                   \
  } while (false)

std::string to_text(const int64_t* shape, int64_t dim);  // "[4, 3]"
std::string shape_text(const Array& x);
std::string device_text(const Array& x);  // "cuda:0"
const char* dtype_text(DType dtype);      // "float32"

void check_dtype(const char* op, const char* argument, const Array& x, DType dtype);
void check_shape(const char* op, const char* argument, const Array& x, const Array& like);
void check_device(const char* op, const char* argument, const Array& x, const Array& like);
void check_floating(const char* op, const char* argument, const Array& x);
void check_dim(const char* op, const char* argument, const Array& x, int64_t dim,
               const char* shape);
void check_contiguous(const char* op, const char* argument, const Array& x);

// Shape and device of `like`, and `dtype`.
void check_like(const char* op, const char* argument, const Array& x, const Array& like,
                DType dtype);

// An output that the caller handed in: as above, and written in place, so contiguous.
void check_out(const char* op, const char* argument, const Array& x, const Array& like,
               DType dtype);

// A number in [low, high]; NaN is not.
void check_between(const char* op, const char* argument, double x, double low, double high);
void check_not_negative(const char* op, const char* argument, double x);

}  // namespace machin_fast
