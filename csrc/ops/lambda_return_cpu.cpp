#include "core/recurrence_cpu.h"
#include "ops/lambda_return.h"

MF_RECURRENCE_CPU(LambdaReturn);
MF_RECURRENCE_CPU(LambdaReturnBackward);
