#include "core/recurrence_cuda.h"
#include "ops/gae.h"

MF_RECURRENCE_CUDA(Gae);
