#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>

#include "core/isa.h"

namespace machin_fast {
namespace {

// The choice is made once per process, so each of these runs in a process of its own.
class IsaDeathTest : public testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

[[noreturn]] void tell(const char* wanted) {
  if (wanted == nullptr) {
    unsetenv("MACHIN_FAST_ISA");
  } else {
    setenv("MACHIN_FAST_ISA", wanted, 1);
  }
  std::cerr << isa_name(cpu_isa());
  std::exit(0);
}

#ifdef MF_ALL_ISAS
const char* best() {
  if (__builtin_cpu_supports("avx512vl")) return "^avx512$";
  return __builtin_cpu_supports("avx2") ? "^avx2$" : "^baseline$";
}
#else
const char* best() {
  return "^baseline$";
}
#endif

TEST_F(IsaDeathTest, TheBestOfThisProcessorIsTaken) {
  EXPECT_EXIT(tell(nullptr), testing::ExitedWithCode(0), best());
}

TEST_F(IsaDeathTest, TheEnvironmentMayAskForLess) {
  EXPECT_EXIT(tell("baseline"), testing::ExitedWithCode(0), "^baseline$");
}

TEST_F(IsaDeathTest, TheEnvironmentCannotAskForMoreOrForNonsense) {
  EXPECT_EXIT(tell("avx512"), testing::ExitedWithCode(0), best());
  EXPECT_EXIT(tell("avx1024"), testing::ExitedWithCode(0), best());
  EXPECT_EXIT(tell(""), testing::ExitedWithCode(0), best());
}

TEST(Isa, TheChoiceIsMadeOnce) {
  const Isa before = cpu_isa();
  const char* old = std::getenv("MACHIN_FAST_ISA");
  const std::string kept = old == nullptr ? "" : old;
  setenv("MACHIN_FAST_ISA", "baseline", 1);
  EXPECT_EQ(cpu_isa(), before);
  if (old == nullptr) {
    unsetenv("MACHIN_FAST_ISA");
  } else {
    setenv("MACHIN_FAST_ISA", kept.c_str(), 1);
  }
}

}  // namespace
}  // namespace machin_fast
