#include "core/cuda_launch.h"
#include "ops/native_envs.h"

namespace machin_fast {
namespace {

// Batches are small for a GPU: small blocks spread over more of it.
constexpr int kThreads = 64;

unsigned blocks_for(int64_t envs) {
  return unsigned((envs + kThreads - 1) / kThreads);
}

__device__ int64_t thread_number() {
  return int64_t(blockIdx.x) * kThreads + threadIdx.x;
}

__global__ void accept(int64_t* status, int64_t envs) {
  *status = envs;
}

template <typename Env>
__global__ void __launch_bounds__(kThreads) validate(EnvStep args, int64_t* status) {
  const int64_t i = thread_number();
  if (i >= args.batch.envs || step_allowed<Env>(args, i)) return;
  atomicMin(reinterpret_cast<unsigned long long*>(status), static_cast<unsigned long long>(i));
}

template <typename Env>
__global__ void __launch_bounds__(kThreads) step(EnvStep args, const int64_t* status) {
  const int64_t i = thread_number();
  if (i < args.batch.envs && *status == args.batch.envs) step_pack<Env, double>(args, i, 1);
}

template <typename Env>
__global__ void __launch_bounds__(kThreads) reset(EnvReset args) {
  const int64_t i = thread_number();
  if (i < args.batch.envs) reset_env<Env>(args, i);
}

}  // namespace

void launch_step_envs(NativeEnv env, const EnvStep& args, int64_t* status, CudaStream stream) {
  const unsigned blocks = blocks_for(args.batch.envs);
  MF_LAUNCH(accept, 1, 1, stream, status, args.batch.envs);
  dispatch_env(env, [&]<typename Env>() {
    MF_LAUNCH(validate<Env>, blocks, kThreads, stream, args, status);
    MF_LAUNCH(step<Env>, blocks, kThreads, stream, args, status);
  });
}

void launch_reset_envs(NativeEnv env, const EnvReset& args, CudaStream stream) {
  const unsigned blocks = blocks_for(args.batch.envs);
  dispatch_env(env, [&]<typename Env>() { MF_LAUNCH(reset<Env>, blocks, kThreads, stream, args); });
}

}  // namespace machin_fast
