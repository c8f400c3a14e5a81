/*
 * Model-specific registers that system software writes and reads back (Intel SDM vol. 4; AMD APM
 * vol. 2, 9.3 for the machine-check addresses), and those that must fault.
 */
#include "board.h"

static const uint64_t non_canonical = 0x0000900000000000ull, address = 0x0000123456789abcull;

static void keeps(uint32_t index, uint64_t value)
{
    uint64_t old = rdmsr(index);
    int vector = wrmsr_faults(index, value);
    CHECK(vector == NO_FAULT, index);
    uint64_t now = rdmsr(index);
    wrmsr(index, old);
    CHECK(now == value, (uint64_t)index << 32 | (uint32_t)now);
}

static void refuses(uint32_t index, uint64_t value)
{
    uint64_t old = rdmsr(index);
    CHECK(wrmsr_faults(index, value) == GP, index);
    CHECK(rdmsr(index) == old, index);
}

static void absent(uint32_t index)
{
    CHECK(rdmsr_faults(index) == GP, index);
    CHECK(wrmsr_faults(index, 0) == GP, index);
}

static void system_calls(void)
{
    keeps(0x174, 0x1234);
    keeps(0xc0000081, UINT64_MAX);
    keeps(0xc0000084, 0xffffffff);
    for (uint32_t index = 0x175; index <= 0x176; index++) {
        keeps(index, address);
        refuses(index, non_canonical);
    }
    keeps(0xc0000080, rdmsr(0xc0000080) | 1); /* EFER.SCE */
    refuses(0xc0000080, rdmsr(0xc0000080) | 1 << 1);
    refuses(0xc0000080, rdmsr(0xc0000080) | 1ull << 40);
    static const uint32_t addresses[] = {0xc0000082, 0xc0000083, 0xc0000100, 0xc0000101,
                                         0xc0000102};
    for (unsigned i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        keeps(addresses[i], address);
        keeps(addresses[i], ~address);
        refuses(addresses[i], non_canonical);
    }
}

static void misc_enable(void)
{
    /* Fast strings, thermal monitor, SpeedStep, MONITOR, CPUID limit, xTPR, execute disable. */
    const uint64_t changeable = 0x400c50009ull, fixed = 0x1880;
    uint64_t old = rdmsr(0x1a0);
    CHECK((old & fixed) == 0x1800, old); /* no counters, no BTS, no PEBS */
    keeps(0x1a0, changeable | (old & fixed));
    keeps(0x1a0, old & fixed);
}

static void memory_types(void)
{
    keeps(0x277, 0x07070707);
    keeps(0x277, 0x0706050401000706ull);
    refuses(0x277, 0x02);
    refuses(0x277, 0x08ull << 56);
    uint64_t capabilities = rdmsr(0xfe);
    CHECK((capabilities & 0xff) >= 8 && (capabilities & 0x500) == 0x500, capabilities);
    refuses(0xfe, capabilities);
    keeps(0x200, 0x80000006);
    keeps(0x201, 0xfc0000800ull);
    keeps(0x250, 0x0606060606060606ull);
    keeps(0x2ff, 0xc06);
    refuses(0x200, 0x80000002);
    refuses(0x250, 0x0706060606060606ull);
    refuses(0x2ff, 0x1000);
}

static void machine_check(void)
{
    uint64_t banks = rdmsr(0x179) & 0xff;
    CHECK(banks >= 1 && banks < 32, banks);
    for (uint32_t bank = 0x400; bank < 0x400 + 4 * banks; bank += 4) {
        keeps(bank, 0);
        keeps(bank, UINT64_MAX);
        refuses(bank, non_canonical); /* all errors or none */
        keeps(bank + 1, 0);
        refuses(bank + 1, 1);
        for (uint32_t index = bank + 2; index <= bank + 3; index++) {
            keeps(index, 0);
            keeps(index, UINT64_MAX);
            keeps(index, non_canonical);
        }
    }
    for (uint32_t index = 0x400 + 4 * (uint32_t)banks; index < 0x480; index++)
        absent(index);
}

static void absent_registers(void)
{
    static const uint32_t absences[] = {0x49,       0x10b,      0x122,      0x480,      0x570,
                                        0x6a0,      0x6e1,      0xda0,      0x1d90,     0x4b564d00,
                                        0x4b564d01, 0x4b564d02, 0x40000000, 0x40000001, 0xc0000085,
                                        0xc0000104, 0xc0010114, 0xc0010117, 0xc001011e, 0xffffffff};
    CHECK(!(cpuid(1, 0).ecx & (1 << 5 | 1 << 21)), cpuid(1, 0).ecx); /* VMX, x2APIC */
    for (unsigned i = 0; i < sizeof(absences) / sizeof(absences[0]); i++)
        absent(absences[i]);
    for (uint32_t index = 0x800; index < 0x900; index++)
        absent(index);
}

void test_main(void)
{
    system_calls();
    misc_enable();
    memory_types();
    machine_check();
    absent_registers();
    board_end();
}
