#include "core/recurrence_cuda.h"
#include "ops/retrace.h"

MF_RECURRENCE_CUDA(Retrace);
