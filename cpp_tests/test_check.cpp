#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "core/check.h"

namespace machin_fast {
namespace {

// An array of some shape; contiguous, without memory.
struct Shaped {
  std::vector<int64_t> shape, stride;
  Array array;

  explicit Shaped(std::vector<int64_t> sizes, DType dtype = DType::kFloat32,
                  DeviceType device = DeviceType::kCpu, int32_t index = 0)
      : shape(std::move(sizes)), stride(shape.size()) {
    int64_t numel = 1;
    for (size_t d = shape.size(); d-- > 0;) {
      stride[d] = numel;
      numel *= shape[d];
    }
    array = {.data = nullptr,
             .shape = shape.data(),
             .stride = stride.data(),
             .dim = int64_t(shape.size()),
             .numel = numel,
             .dtype = dtype,
             .itemsize = 4,
             .device = device,
             .device_index = index};
  }
  operator const Array&() const { return array; }
};

std::string text_of(const std::function<void()>& check) {
  try {
    check();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Check, NamesTheArgumentTheRuleAndWhatCame) {
  const Shaped like({4, 3}), other({4, 2}), scalar({});
  EXPECT_EQ(text_of([&] { check_shape("gae", "value", other, like); }),
            "gae: value must have shape [4, 3], got [4, 2]");
  EXPECT_EQ(text_of([&] { check_shape("gae", "value", scalar, like); }),
            "gae: value must have shape [4, 3], got []");
  EXPECT_EQ(text_of([&] { check_dim("gae", "reward", scalar, 2, "[steps, envs]"); }),
            "gae: reward must be [steps, envs], got shape []");
  EXPECT_EQ(text_of([&] { check_dtype("gae", "value", like, DType::kBool); }),
            "gae: value must be bool, got float32");
  EXPECT_EQ(text_of([&] { check_floating("gae", "reward", Shaped({1}, DType::kInt64)); }),
            "gae: reward must be float32 or float64, got int64");
  EXPECT_EQ(text_of([&] { check_floating("gae", "reward", Shaped({1}, DType::kOther)); }),
            "gae: reward must be float32 or float64, got another dtype");
}

TEST(Check, TellsDevicesApart) {
  const Shaped cpu({1}), first({1}, DType::kFloat32, DeviceType::kCuda, 0),
      second({1}, DType::kFloat32, DeviceType::kCuda, 1),
      other({1}, DType::kFloat32, DeviceType::kOther);
  EXPECT_EQ(text_of([&] { check_device("op", "x", second, first); }),
            "op: x must be on cuda:0, got cuda:1");
  EXPECT_EQ(text_of([&] { check_device("op", "x", other, cpu); }),
            "op: x must be on cpu, got another device");
  EXPECT_EQ(text_of([&] { check_device("op", "x", first, first); }), "no error");
}

TEST(Check, ContiguousLooksAtStridesOfDimensionsThatHaveSome) {
  Shaped x({4, 1, 3});
  x.stride[1] = 17;  // of no consequence, as there is one of it
  EXPECT_EQ(text_of([&] { check_contiguous("op", "x", x); }), "no error");
  x.stride[2] = 2;
  EXPECT_EQ(text_of([&] { check_contiguous("op", "x", x); }),
            "op: x must be contiguous, got strides [3, 17, 2]");
  Shaped empty({3, 0});
  empty.stride = {1, 1};  // as torch has it
  EXPECT_TRUE(is_contiguous(empty));
  Shaped rows({4, 3});
  rows.stride[0] = 8;
  EXPECT_FALSE(is_contiguous(rows));
  EXPECT_TRUE(is_contiguous(rows, 1));
}

TEST(Check, OutputsMustFitInEveryWay) {
  const Shaped like({4, 3});
  EXPECT_EQ(text_of([&] { check_out("op", "out", like, like, DType::kFloat32); }), "no error");
  Shaped holes({4, 3});
  holes.stride[0] = 6;
  EXPECT_EQ(text_of([&] { check_out("op", "out", holes, like, DType::kFloat32); }),
            "op: out must be contiguous, got strides [6, 1]");
  EXPECT_EQ(text_of([&] { check_out("op", "out", like, like, DType::kInt64); }),
            "op: out must be int64, got float32");
}

TEST(Check, BetweenIncludesItsEndsAndNoNan) {
  EXPECT_EQ(text_of([] { check_between("op", "gamma", 0, 0, 1); }), "no error");
  EXPECT_EQ(text_of([] { check_between("op", "gamma", 1, 0, 1); }), "no error");
  EXPECT_EQ(text_of([] { check_between("op", "gamma", 1.5, 0, 1); }),
            "op: gamma must be in [0, 1], got 1.5");
  EXPECT_EQ(text_of([] { check_between("op", "gamma", std::nan(""), 0, 1); }),
            "op: gamma must be in [0, 1], got nan");
}

TEST(Check, EveryDtypeHasAName) {
  std::string names;
  for (const DType dtype : {DType::kBool, DType::kUInt8, DType::kInt32, DType::kInt64,
                            DType::kFloat32, DType::kFloat64}) {
    names += dtype_text(dtype) + std::string(" ");
  }
  EXPECT_EQ(names, "bool uint8 int32 int64 float32 float64 ");
}

}  // namespace
}  // namespace machin_fast
