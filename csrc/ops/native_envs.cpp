#include "ops/native_envs.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <optional>
#include <utility>

#include "core/span.h"
#include "ops/tensor.h"

namespace machin_fast {
namespace {

constexpr const char* kStep = "native_envs_step_";
constexpr const char* kReset = "native_envs_reset_";

// Environments that a thread should have at least: 20 us of CartPoles (measured), which is about
// what waking a thread costs.
constexpr int64_t kEnvsPerThread = 2048;
// They are dealt out in packs, so that threads do not share a line of the flags.
constexpr int64_t kEnvsPerPack = 64;

struct EnvSizes {
  int64_t variables, observation, actions, draws;
  StartBounds start;
};

NativeEnv native_env(const char* op, int64_t env) {
  MF_CHECK(env >= 0 && env < kNativeEnvs, op, ": env must be in [0, ", kNativeEnvs, "), got ", env);
  return NativeEnv(env);
}

EnvSizes sizes_of(NativeEnv env) {
  EnvSizes sizes;
  dispatch_env(env, [&]<typename Env>() {
    sizes = {Env::kVariables, Env::kObservation, Env::kActions, Env::kDraws, Env::start()};
  });
  return sizes;
}

void check_array(const char* op, const char* name, const Array& x, DType dtype,
                 std::initializer_list<int64_t> shape, const Array& state) {
  check_dtype(op, name, x, dtype);
  Array like = {};
  like.shape = shape.begin();
  like.dim = int64_t(shape.size());
  MF_CHECK(same_shape(x, like), op, ": ", name, " must have shape ", to_text(like.shape, like.dim),
           ", got ", shape_text(x));
  check_device(op, name, x, state);
  check_contiguous(op, name, x);
}

EnvBatch checked_batch(const char* op, const EnvSizes& sizes, const Array& state,
                       const Array& counters) {
  check_dim(op, "state", state, 2, "[variables, envs]");
  const int64_t envs = state.shape[1];
  check_array(op, "state", state, DType::kFloat64, {sizes.variables, envs}, state);
  check_array(op, "counters", counters, DType::kInt64, {kCounters, envs}, state);
  return {.state = state.as<double>(),
          .counters = counters.as<int64_t>(),
          .envs = envs,
          .start = sizes.start};
}

// Arguments that are written share no memory with any other.
template <size_t kCount>
void check_apart(const char* op, const std::pair<const char*, Array> (&arrays)[kCount],
                 size_t written) {
  for (size_t j = 0; j < written; ++j) {
    for (size_t k = j + 1; k < kCount; ++k) {
      MF_CHECK(!overlap(span_of(arrays[j].second), span_of(arrays[k].second)), op, ": ",
               arrays[j].first, " must not share memory with ", arrays[k].first);
    }
  }
}

EnvStep checked_step(NativeEnv env, const EnvStepArrays& x, int64_t limit, int64_t autoreset) {
  const EnvSizes sizes = sizes_of(env);
  const EnvBatch batch = checked_batch(kStep, sizes, x.state, x.counters);
  const int64_t envs = batch.envs;
  if (sizes.actions > 0) {
    check_array(kStep, "action", x.action, DType::kInt64, {envs}, x.state);
  } else {
    check_array(kStep, "action", x.action, DType::kFloat32, {envs, 1}, x.state);
  }
  check_array(kStep, "observation", x.observation, DType::kFloat32, {envs, sizes.observation},
              x.state);
  check_array(kStep, "reward", x.reward, DType::kFloat32, {envs}, x.state);
  check_array(kStep, "terminated", x.terminated, DType::kBool, {envs}, x.state);
  check_array(kStep, "truncated", x.truncated, DType::kBool, {envs}, x.state);
  Array last = {};  // of no memory
  if (x.final_observation != nullptr) {
    last = *x.final_observation;
    check_array(kStep, "final_observation", last, DType::kFloat32, {envs, sizes.observation},
                x.state);
  }
  check_apart(kStep,
              {{"observation", x.observation},
               {"reward", x.reward},
               {"terminated", x.terminated},
               {"truncated", x.truncated},
               {"final_observation", last},
               {"state", x.state},
               {"counters", x.counters},
               {"action", x.action}},
              7);
  MF_CHECK(limit >= 0, kStep, ": max_episode_steps must not be negative, got ", limit);
  MF_CHECK(autoreset >= 0 && autoreset < kAutoresets, kStep, ": autoreset must be in [0, ",
           kAutoresets, "), got ", autoreset);
  return {.batch = batch,
          .action = x.action.data,
          .limit = limit,
          .autoreset = Autoreset(autoreset),
          .observation = x.observation.as<float>(),
          .reward = x.reward.as<float>(),
          .terminated = x.terminated.as<bool>(),
          .truncated = x.truncated.as<bool>(),
          .final_observation = last.as<float>()};
}

template <typename Read>
[[noreturn]] void refuse(NativeEnv env, int64_t i, const Read& action) {
  const EnvSizes sizes = sizes_of(env);
  if (sizes.actions > 0) {
    const auto got = action.template operator()<int64_t>();
    MF_CHECK(got >= 0 && got < sizes.actions, kStep, ": action must be in [0, ", sizes.actions,
             "), got ", got, " at position ", i);
  } else {
    const auto got = action.template operator()<float>();
    MF_CHECK(std::isfinite(got), kStep, ": action must be finite, got ", got, " at position ", i);
  }
  fail(kStep, ": counters must be of episodes that go on, got one that is over at position ", i,
       ". Reset it first");
}

template <typename Body>
void in_packs(int64_t envs, const Body& body) {
  const int64_t packs = (envs + kEnvsPerPack - 1) / kEnvsPerPack;
  parallel_for(packs, kEnvsPerThread / kEnvsPerPack, [&](int64_t begin, int64_t end) {
    body(begin * kEnvsPerPack, std::min(end * kEnvsPerPack, envs));
  });
}

}  // namespace

void native_envs_step_cpu(int64_t number, const EnvStepArrays& arrays, int64_t limit,
                          int64_t autoreset) {
  const NativeEnv env = native_env(kStep, number);
  const EnvStep args = checked_step(env, arrays, limit, autoreset);
  const int64_t refused = MF_CALL_ISA(refused_env(env, args));
  if (refused < args.batch.envs) {
    refuse(env, refused, [&]<typename N>() { return arrays.action.as<const N>()[refused]; });
  }
  in_packs(args.batch.envs,
           [&](int64_t begin, int64_t end) { MF_CALL_ISA(step_envs(env, args, begin, end)); });
}

namespace {

void native_envs_step_(int64_t number, const Tensor& state, const Tensor& counters,
                       const Tensor& action, int64_t limit, int64_t autoreset, bool check,
                       const Tensor& observation, const Tensor& reward, const Tensor& terminated,
                       const Tensor& truncated, const std::optional<Tensor>& final_observation) {
  Array last;
  if (final_observation) last = view(*final_observation);
  const Tensor action_kept = dense(action);
  const EnvStepArrays arrays = {.state = view(state),
                                .counters = view(counters),
                                .action = view(action_kept),
                                .observation = view(observation),
                                .reward = view(reward),
                                .terminated = view(terminated),
                                .truncated = view(truncated),
                                .final_observation = final_observation ? &last : nullptr};
  if (!arrays.state.is_cuda()) return native_envs_step_cpu(number, arrays, limit, autoreset);

  const NativeEnv env = native_env(kStep, number);
  const EnvStep args = checked_step(env, arrays, limit, autoreset);
  const int64_t one = 1;
  const Tensor status = empty(&one, 1, DType::kInt64, arrays.state);
  on_cuda(kStep, arrays.state, [&](CudaStream stream) {
    launch_step_envs(env, args, view(status).as<int64_t>(), stream);
  });
  if (!check) return;
  const int64_t refused = read_one<int64_t>(status, 0);
  if (refused < args.batch.envs) {
    refuse(env, refused, [&]<typename N>() { return read_one<N>(action_kept, refused); });
  }
}

void native_envs_reset_(int64_t number, const Tensor& state, const Tensor& counters,
                        const std::optional<Tensor>& mask, const std::optional<Tensor>& bounds,
                        const Tensor& observation) {
  const NativeEnv env = native_env(kReset, number);
  const EnvSizes sizes = sizes_of(env);
  const Array s = view(state), c = view(counters), seen = view(observation);
  EnvReset args = {
      .batch = checked_batch(kReset, sizes, s, c), .mask = nullptr, .observation = nullptr};
  const int64_t envs = args.batch.envs;
  Array which = {};
  if (mask) {
    which = view(*mask);
    check_array(kReset, "mask", which, DType::kBool, {envs}, s);
    args.mask = which.as<const bool>();
  }
  if (bounds) {
    const Array b = view(*bounds);
    check_array(kReset, "bounds", b, DType::kFloat64, {2, sizes.draws}, b);
    MF_CHECK(b.device == DeviceType::kCpu, kReset, ": bounds must be on the CPU, got ",
             device_text(b));
    for (int64_t k = 0; k < sizes.draws; ++k) {
      const double low = b.as<const double>()[k], high = b.as<const double>()[sizes.draws + k];
      MF_CHECK(low <= high && std::isfinite(high - low), kReset,
               ": bounds must be finite and ascend, got ", low, " and ", high, " at position ", k);
      args.batch.start.low[k] = low;
      args.batch.start.high[k] = high;
    }
  }
  check_array(kReset, "observation", seen, DType::kFloat32, {envs, sizes.observation}, s);
  args.observation = seen.as<float>();
  check_apart(kReset, {{"observation", seen}, {"state", s}, {"counters", c}, {"mask", which}}, 3);

  if (s.is_cuda()) {
    on_cuda(kReset, s, [&](CudaStream stream) { launch_reset_envs(env, args, stream); });
  } else {
    in_packs(envs,
             [&](int64_t begin, int64_t end) { MF_CALL_ISA(reset_envs(env, args, begin, end)); });
  }
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(machin_fast, m) {
  m.def(
      "native_envs_step_(int env, Tensor(a!) state, Tensor(b!) counters, Tensor action, "
      "int max_episode_steps, int autoreset, bool check, Tensor(c!) observation, "
      "Tensor(d!) reward, Tensor(e!) terminated, Tensor(f!) truncated, "
      "Tensor(g!)? final_observation) -> ()");
  m.def(
      "native_envs_reset_(int env, Tensor(a!) state, Tensor(b!) counters, Tensor? mask, "
      "Tensor? bounds, Tensor(c!) observation) -> ()");
}

MF_IMPLEMENT(m) {
  m.impl("native_envs_step_", TORCH_BOX(&native_envs_step_));
  m.impl("native_envs_reset_", TORCH_BOX(&native_envs_reset_));
}

}  // namespace machin_fast
