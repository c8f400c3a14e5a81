/*
 * Guest x87/SSE/AVX state: parked in cpu->xsave for C, and until translated code uses it again (the
 * stub emitted by stubs.c brings it back).
 */
#include "engine/bt/bt.h"

#include "engine/bt/ops/xstate.h"

void bt_park_vectors(struct x86_cpu *cpu)
{
    struct vcpu *vcpu = (struct vcpu *)cpu;
    if (vcpu->vectors_parked)
        return;
    vcpu->vectors_parked = 1;
    uint32_t mxcsr = 0x1f80;
    __asm__ volatile("xsave64 %0\n\t"
                     "fninit\n\t"
                     "ldmxcsr %1\n\t"
                     "vzeroupper"
                     : "+m"(cpu->xsave)
                     : "m"(mxcsr), "a"(BT_XSTATE_CARRIED), "d"(0)
                     : "memory");
    if (cpu->xsave[XS_FSW] & FSW_ES)
        bt_hold_x87_pointers(vcpu);
}
