#include <gtest/gtest.h>

#include <limits>

#include "core/linear_recurrence.h"

namespace machin_fast {
namespace {

TEST(Affine, ComposedMapsDoWhatTheMapsDoInTurn) {
  for (const float a : {0, 1, -2}) {
    for (const float b : {0, 3}) {
      for (const float x : {0, 5}) {
        const Affine<float> f = {b, a}, g = {2, -3}, h = {7, 0};
        EXPECT_EQ(apply(compose(f, g), x), apply(f, apply(g, x)));
        EXPECT_EQ(apply(compose(g, f), x), apply(g, apply(f, x)));
        EXPECT_EQ(apply(compose(f, compose(g, h)), x), apply(compose(compose(f, g), h), x));
      }
    }
  }
}

TEST(Affine, ACoefficientOfZeroCutsWhateverComes) {
  for (const double x :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    const Affine<double> cut = {4, 0}, spoiled = {x, x}, identity = {0, 1};
    EXPECT_EQ(apply(cut, x), 4);
    EXPECT_EQ(compose(cut, spoiled).b, 4);
    EXPECT_EQ(compose(cut, spoiled).a, 0);
    EXPECT_EQ(apply(compose(identity, cut), x), 4);
    EXPECT_EQ(apply(compose(cut, identity), x), 4);
  }
}

}  // namespace
}  // namespace machin_fast
