/* Guest x87/SSE/AVX state: in host registers while translated code runs, in cpu->xsave for C. */
#include "engine/bt/bt.h"

enum { XSTATE_CARRIED = 7 }; /* x87, SSE, AVX */

void bt_park_vectors(struct x86_cpu *cpu)
{
    struct vcpu *vcpu = (struct vcpu *)cpu;
    if (!vcpu->vectors_loaded)
        return;
    vcpu->vectors_loaded = false;
    uint32_t mxcsr = 0x1f80;
    __asm__ volatile("xsave64 %0\n\t"
                     "fninit\n\t"
                     "ldmxcsr %1\n\t"
                     "vzeroupper"
                     : "+m"(cpu->xsave)
                     : "m"(mxcsr), "a"(XSTATE_CARRIED), "d"(0)
                     : "memory");
}

void bt_load_vectors(struct vcpu *vcpu)
{
    if (vcpu->vectors_loaded)
        return;
    vcpu->vectors_loaded = true;
    __asm__ volatile("xrstor64 %0"
                     :
                     : "m"(vcpu->cpu.xsave), "a"(XSTATE_CARRIED), "d"(0)
                     : "memory");
}
