#include "core/recurrence_cpu.h"
#include "ops/retrace.h"

MF_RECURRENCE_CPU(Retrace);
