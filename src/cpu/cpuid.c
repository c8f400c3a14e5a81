#include "cpu/cpuid.h"
#include "cpu/cpu.h"

uint32_t cpuid_signature(const struct cpuid_model *model)
{
    uint32_t family = model->family < 0xf ? model->family : 0xf;
    uint32_t extended = model->family - family;

    return (model->stepping & 0xf) | (model->model & 0xf) << 4 | family << 8 |
           (model->model >> 4 & 0xf) << 16 | (extended & 0xff) << 20;
}
