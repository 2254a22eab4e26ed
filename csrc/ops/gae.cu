#include "ops/gae.h"

#include "core/recurrence_cuda.h"

MF_RECURRENCE_CUDA(Gae);
