#include "core/recurrence_cpu.h"
#include "ops/vtrace.h"

MF_RECURRENCE_CPU(Vtrace);
