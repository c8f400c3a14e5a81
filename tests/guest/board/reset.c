/* MODES 32
 * Resets of the processor alone, each of which must come back through the firmware's shutdown
 * code 0Ah at the address in 40h:67h, with memory and the rest of the board as they were:
 * port 92h, both ways of the keyboard controller, the reset control register of the PIIX3, INIT
 * from the local APIC.
 */
#include "board.h"

enum { MSR_SYSENTER_EIP = 0x176, RESUME = 0x1000, ICR_INIT_SELF = 5 << 8 | 1 << 14 };

extern const uint8_t resume_code[], resume_code_end[];
bool across_reset(void (*how)(void));

static void use_sse(void)
{
    uint32_t cr4;
    __asm__ volatile("movl %%cr4, %0; orl $0x600, %0; movl %0, %%cr4" : "=&r"(cr4));
}

static void keyboard_command(uint8_t command)
{
    while (in8(0x64) & 2)
        ;
    out8(0x64, command);
    while (in8(0x64) & 2)
        ;
}

static void by_port92(void)
{
    out8(0x92, in8(0x92) & ~1);
    out8(0x92, in8(0x92) | 1);
}

static void by_pulse(void)
{
    keyboard_command(0xfe);
}

static void by_output_port(void)
{
    keyboard_command(0xd0);
    uint8_t value = in8(0x60);
    keyboard_command(0xd1);
    out8(0x60, value & ~1);
}

static void by_reset_control(void)
{
    out8(0xcf9, 0);
    out8(0xcf9, 4);
}

static void by_init(void)
{
    apic_write(APIC_ICR_HIGH, 0);
    apic_write(APIC_ICR, ICR_INIT_SELF);
}

static void reset(void (*how)(void), uint64_t line)
{
    volatile uint16_t *vector = (volatile uint16_t *)(uintptr_t)0x467;
    __asm__("" : "+r"(vector)); /* not an array at a constant address */
    uint32_t marker = 0x12345678 + (uint32_t)line;
    vector[0] = RESUME;
    vector[1] = 0;
    out8(0x70, 0x0f);
    out8(0x71, 0x0a);
    for (uint32_t i = 0; i < (uint32_t)(resume_code_end - resume_code); i++)
        ((volatile uint8_t *)RESUME)[i] = resume_code[i];
    write32(0x2000000, marker);
    out32(0xe0, marker); /* a hard reset would clear the test device's register */
    __asm__ volatile("movl %0, %%cr2" : : "r"(marker));
    __asm__ volatile("fninit; movd %0, %%xmm5; fldpi" : : "r"(marker));
    wrmsr(MSR_SYSENTER_EIP, marker);
    uint64_t tsc = rdtsc() + (1ull << 40);
    wrmsr(MSR_TSC, tsc);
    CHECK(across_reset(how), line);
    use_sse();
    uint32_t cr2;
    __asm__ volatile("movl %%cr2, %0" : "=r"(cr2));
    CHECK(cr2 == 0, cr2);
    uint32_t xmm5;
    uint16_t status;
    __asm__ volatile("movd %%xmm5, %0; fnstsw %1" : "=r"(xmm5), "=a"(status));
    CHECK(xmm5 == marker && (status & 0x3800) == 0x3800, xmm5); /* TOP is 7 */
    CHECK(rdmsr(MSR_SYSENTER_EIP) == marker && rdtsc() >= tsc, rdmsr(MSR_SYSENTER_EIP));
    CHECK(read32(0x2000000) == marker, read32(0x2000000));
    CHECK(in32(0xe0) == marker, in32(0xe0));
    CHECK(apic_read(APIC_SVR) == 0xff, apic_read(APIC_SVR));
    CHECK(in8(0x92) & 2, in8(0x92));
    out8(0x70, 0x0f);
    out8(0x71, 0);
}

void test_main(void)
{
    board_use_apic();
    use_sse();
    reset(by_port92, __LINE__);
    CHECK(in8(0x92) & 1, in8(0x92)); /* the bit that did it stays */
    reset(by_pulse, __LINE__);
    reset(by_output_port, __LINE__);
    reset(by_reset_control, __LINE__);
    reset(by_init, __LINE__);
    CHECK(rdmsr(MSR_APIC_BASE) & 1 << 8, rdmsr(MSR_APIC_BASE));
    board_end();
}
