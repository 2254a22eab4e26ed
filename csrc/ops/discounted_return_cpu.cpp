#include "core/recurrence_cpu.h"
#include "ops/discounted_return.h"

MF_RECURRENCE_CPU(DiscountedReturn);
