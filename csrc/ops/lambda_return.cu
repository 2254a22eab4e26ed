#include "core/recurrence_cuda.h"
#include "ops/lambda_return.h"

MF_RECURRENCE_CUDA(LambdaReturn);
MF_RECURRENCE_CUDA(LambdaReturnBackward);
