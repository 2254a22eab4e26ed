#include "core/recurrence_cuda.h"
#include "ops/vtrace.h"

MF_RECURRENCE_CUDA(Vtrace);
