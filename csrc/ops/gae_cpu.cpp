#include "core/recurrence_cpu.h"
#include "ops/gae.h"

MF_RECURRENCE_CPU(Gae);
