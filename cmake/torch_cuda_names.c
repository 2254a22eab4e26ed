/* Stands in for libtorch_cuda.so while linking, so that CUDA kernels can be built beside a torch
   without CUDA. At run time the name is resolved by the torch that is loaded. Never installed. */
int aoti_torch_get_current_cuda_stream(int device_index, void** stream) {
  (void)device_index;
  (void)stream;
  return 1;
}
