#include "ops/native_envs.h"

namespace machin_fast::MF_ISA {

void step_envs(NativeEnv env, const EnvStep& args, int64_t begin, int64_t end) {
  using Pack = Vec<double>;
  constexpr int kWidth = kLanes<Pack>;
  dispatch_env(env, [&]<typename Env>() {
    int64_t i = begin;
    for (; i + kWidth <= end; i += kWidth) step_pack<Env, Pack>(args, i, kWidth);
    if (i < end) step_pack<Env, Pack>(args, i, int(end - i));
  });
}

void reset_envs(NativeEnv env, const EnvReset& args, int64_t begin, int64_t end) {
  dispatch_env(env, [&]<typename Env>() {
    for (int64_t i = begin; i < end; ++i) reset_env<Env>(args, i);
  });
}

int64_t refused_env(NativeEnv env, const EnvStep& args) {
  const int64_t envs = args.batch.envs;
  int64_t first = envs;
  dispatch_env(env, [&]<typename Env>() {
    bool all = true;  // without an early way out, so that it vectorises
    for (int64_t i = 0; i < envs; ++i) all &= step_allowed<Env>(args, i);
    if (all) return;
    for (first = 0; step_allowed<Env>(args, first);) ++first;
  });
  return first;
}

}  // namespace machin_fast::MF_ISA
