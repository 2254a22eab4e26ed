#include "ops/tensor.h"

#ifdef MF_WITH_CUDA
#include <cuda_runtime_api.h>
#endif

namespace machin_fast {

namespace {

DType dtype_of(ScalarType type) {
  switch (type) {
    case ScalarType::Bool:
      return DType::kBool;
    case ScalarType::Byte:
      return DType::kUInt8;
    case ScalarType::Int:
      return DType::kInt32;
    case ScalarType::Long:
      return DType::kInt64;
    case ScalarType::Float:
      return DType::kFloat32;
    case ScalarType::Double:
      return DType::kFloat64;
    default:
      return DType::kOther;
  }
}

ScalarType scalar_type_of(DType dtype) {
  switch (dtype) {
    case DType::kBool:
      return ScalarType::Bool;
    case DType::kUInt8:
      return ScalarType::Byte;
    case DType::kInt32:
      return ScalarType::Int;
    case DType::kInt64:
      return ScalarType::Long;
    case DType::kFloat32:
      return ScalarType::Float;
    default:
      return ScalarType::Double;
  }
}

}  // namespace

Array view(const Tensor& x) {
  const auto shape = x.sizes();
  const auto stride = x.strides();
  int32_t device = 0;
  MF_CHECK(aoti_torch_get_device_type(x.get(), &device) == 0,
           "machin_fast: a tensor must have a device, got an error from torch");
  return {.data = x.data_ptr(),
          .shape = shape.data(),
          .stride = stride.data(),
          .dim = int64_t(shape.size()),
          .numel = x.numel(),
          .dtype = dtype_of(x.scalar_type()),
          .itemsize = int32_t(x.element_size()),
          .device = device == aoti_torch_device_type_cpu()    ? DeviceType::kCpu
                    : device == aoti_torch_device_type_cuda() ? DeviceType::kCuda
                                                              : DeviceType::kOther,
          .device_index = x.get_device_index()};
}

Tensor empty(const int64_t* shape, int64_t dim, DType dtype, const Array& like) {
  constexpr int64_t kMaxDim = 64;
  MF_CHECK(dim <= kMaxDim, "machin_fast: a tensor must have at most 64 dimensions, got ", dim);
  int64_t stride[kMaxDim];
  int64_t numel = 1;
  for (int64_t d = dim - 1; d >= 0; --d) {
    stride[d] = numel;
    numel *= shape[d] > 0 ? shape[d] : 1;
  }
  const int32_t device =
      like.is_cuda() ? aoti_torch_device_type_cuda() : aoti_torch_device_type_cpu();
  AtenTensorHandle handle = nullptr;
  MF_CHECK(aoti_torch_empty_strided(dim, shape, stride, int32_t(scalar_type_of(dtype)), device,
                                    like.is_cuda() ? like.device_index : 0, &handle) == 0,
           "machin_fast: out of memory for a tensor of shape ", to_text(shape, dim));
  return Tensor(handle);
}

Tensor read_back(Tensor x, int64_t first, int64_t count) {
  return torch::stable::to(torch::stable::narrow(x, 0, first, count),
                           torch::stable::Device(torch::stable::DeviceType::CPU));
}

#ifdef MF_WITH_CUDA
void check_launch(const char* op) {
  const cudaError_t error = cudaGetLastError();
  MF_CHECK(error == cudaSuccess, op,
           ": the CUDA kernel did not launch: ", cudaGetErrorString(error));
}
#endif

}  // namespace machin_fast
