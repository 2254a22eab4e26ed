#include "core/recurrence_cuda.h"
#include "ops/discounted_return.h"

MF_RECURRENCE_CUDA(DiscountedReturn);
