/*
 * Architectural state of one x86 logical processor (Intel SDM vol. 1 ch. 3, vol. 3 ch. 2).
 *
 * While translated code runs, general registers, arithmetic flags, DF and x87/SSE/AVX state live in
 * host registers; they are in this structure whenever C code that interprets guest state runs (the
 * vector state only after the engine "parked" it, see engine/bt/). The translator addresses fields
 * by offset: keep the first block compact and never reorder on a whim.
 */
#ifndef VD_CPU_CPU_H
#define VD_CPU_CPU_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu/cpuid.h"

struct mmu;
struct insn;

enum x86_gpr {
    X86_RAX,
    X86_RCX,
    X86_RDX,
    X86_RBX,
    X86_RSP,
    X86_RBP,
    X86_RSI,
    X86_RDI,
    X86_R8,
    X86_R9,
    X86_R10,
    X86_R11,
    X86_R12,
    X86_R13,
    X86_R14,
    X86_R15,
};

/* Segment registers in the order of the instruction encoding; LDTR and TR behind them. */
enum x86_segreg { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS, X86_LDTR, X86_TR, X86_SEG_COUNT };

/* Access rights: bits 8..23 of a descriptor's high dword, shifted down by 8 (the VMX layout). */
enum {
    X86_AR_TYPE = 0xf, /* type field; for S=1: bit 3 code, bit 2 E/C, bit 1 W/R, bit 0 A */
    X86_AR_A = 1 << 0,
    X86_AR_WR = 1 << 1, /* data: writable, code: readable */
    X86_AR_EC = 1 << 2, /* data: expand-down, code: conforming */
    X86_AR_CODE = 1 << 3,
    X86_AR_S = 1 << 4, /* 1: code or data, 0: system */
    X86_AR_DPL_SHIFT = 5,
    X86_AR_DPL = 3 << 5,
    X86_AR_P = 1 << 7,
    X86_AR_AVL = 1 << 12,
    X86_AR_L = 1 << 13,
    X86_AR_DB = 1 << 14,
    X86_AR_G = 1 << 15,
    X86_AR_UNUSABLE = 1 << 16, /* loaded with a null selector */
};

struct x86_segment {
    uint64_t base;
    /*
     * Exclusive bounds of offsets that may be read / written without a closer look; an access of n
     * bytes at offset o is fine if o + n <= end (64-bit arithmetic). 0: always take the slow path
     * (unusable, expand-down, execute-only, read-only). Kept by segment_update_bounds().
     */
    uint64_t read_end, write_end;
    uint32_t limit; /* in bytes, inclusive, granularity applied */
    uint32_t attr;  /* X86_AR_* */
    uint16_t selector;
};

struct x86_table { /* GDTR, IDTR */
    uint64_t base;
    uint16_t limit;
};

enum x86_vector {
    X86_DE = 0,
    X86_DB = 1,
    X86_NMI = 2,
    X86_BP = 3,
    X86_OF = 4,
    X86_BR = 5,
    X86_UD = 6,
    X86_NM = 7,
    X86_DF = 8,
    X86_TS = 10,
    X86_NP = 11,
    X86_SS_FAULT = 12,
    X86_GP = 13,
    X86_PF = 14,
    X86_MF = 16,
    X86_AC = 17,
    X86_MC = 18,
    X86_XM = 19,
};

/* A guest exception that was recognised but not delivered yet. Data, never a C control transfer. */
struct x86_fault {
    uint8_t vector;
    bool has_error;
    uint32_t error;
    uint64_t cr2;   /* #PF only: becomes CR2 at delivery */
    uint64_t dr6;   /* #DB only: bits to set in DR6 at delivery */
    bool trap;      /* the saved pc is already the next instruction's (traps: #DB, #BP, #OF) */
    bool delivered; /* the event that led here is delivered: this one is not of its delivery */
};

enum { /* RFLAGS */
       X86_CF = 1 << 0,
       X86_PF_FLAG = 1 << 2,
       X86_AF = 1 << 4,
       X86_ZF = 1 << 6,
       X86_SF = 1 << 7,
       X86_TF = 1 << 8,
       X86_IF = 1 << 9,
       X86_DF_FLAG = 1 << 10,
       X86_OF_FLAG = 1 << 11,
       X86_IOPL_SHIFT = 12,
       X86_IOPL = 3 << 12,
       X86_NT = 1 << 14,
       X86_RF = 1 << 16,
       X86_VM = 1 << 17,
       X86_AC_FLAG = 1 << 18,
       X86_VIF = 1 << 19,
       X86_VIP = 1 << 20,
       X86_ID = 1 << 21,
       /* what lives in host RFLAGS while translated code runs: CF PF AF ZF SF OF, and DF */
       X86_ARITH_FLAGS = 0x8d5,
       X86_NATIVE_FLAGS = X86_ARITH_FLAGS | X86_DF_FLAG,
};

enum { /* CR0 */
       X86_CR0_PE = 1 << 0,
       X86_CR0_MP = 1 << 1,
       X86_CR0_EM = 1 << 2,
       X86_CR0_TS = 1 << 3,
       X86_CR0_ET = 1 << 4,
       X86_CR0_NE = 1 << 5,
       X86_CR0_WP = 1 << 16,
       X86_CR0_AM = 1 << 18,
       X86_CR0_NW = 1 << 29,
       X86_CR0_CD = 1 << 30,
};
#define X86_CR0_PG (1u << 31)

enum { /* CR4 */
       X86_CR4_VME = 1 << 0,
       X86_CR4_PVI = 1 << 1,
       X86_CR4_TSD = 1 << 2,
       X86_CR4_DE = 1 << 3,
       X86_CR4_PSE = 1 << 4,
       X86_CR4_PAE = 1 << 5,
       X86_CR4_MCE = 1 << 6,
       X86_CR4_PGE = 1 << 7,
       X86_CR4_PCE = 1 << 8,
       X86_CR4_OSFXSR = 1 << 9,
       X86_CR4_OSXMMEXCPT = 1 << 10,
       X86_CR4_UMIP = 1 << 11,
       X86_CR4_FSGSBASE = 1 << 16,
       X86_CR4_PCIDE = 1 << 17,
       X86_CR4_OSXSAVE = 1 << 18,
       X86_CR4_SMEP = 1 << 20,
       X86_CR4_SMAP = 1 << 21,
};

enum { /* EFER */
       X86_EFER_SCE = 1 << 0,
       X86_EFER_LME = 1 << 8,
       X86_EFER_LMA = 1 << 10,
       X86_EFER_NXE = 1 << 11,
};

/*
 * What the processor needs from the board. Every function is called on the vCPU's thread with guest
 * registers in struct x86_cpu and vector state parked.
 */
struct x86_platform {
    void *ctx;
    uint64_t (*pio_read)(void *ctx, uint16_t port, unsigned size);
    void (*pio_write)(void *ctx, uint16_t port, uint64_t value, unsigned size);
    bool (*intr_pending)(void *ctx);       /* INTR is asserted (PIC or local APIC) */
    int (*intr_ack)(void *ctx);            /* INTA cycle: vector 0..255, -1: none after all */
    uint64_t (*apic_base_read)(void *ctx); /* IA32_APIC_BASE (SDM vol. 4, 1BH) */
    int (*apic_base_write)(void *ctx, uint64_t value); /* 0, or -1: #GP */
    uint64_t (*tpr_read)(void *ctx);                   /* CR8, 0..15 */
    void (*tpr_write)(void *ctx, uint64_t value);
    /*
     * The virtual time stamp counter, before offset. Read often: must not touch vector registers,
     * which may still be the guest's.
     */
    uint64_t (*tsc_read)(void *ctx);
    int (*tsc_deadline)(void *ctx, bool write, uint64_t *value); /* IA32_TSC_DEADLINE; -1: #GP */
    void (*ferr_set)(void *ctx, bool level);                     /* FERR# towards IRQ 13 */
    bool (*ignne)(void *ctx); /* IGNNE#, which the board asserts only while FERR# is; may be NULL */
};

enum { X86_XSAVE_SIZE = 1088 }; /* legacy 512 + header 64 + AVX 256, rounded up */

/* Why the engine must leave straight-line execution; set by whoever changes the state. */
enum x86_dirty {
    X86_DIRTY_MODE =
        1 << 0, /* CPL, CS/SS/DS/ES attributes, CR0, CR4, EFER, TF, VM, AC, FPU availability */
    X86_DIRTY_ADDRESS = 1 << 1, /* some linear-to-physical translation changed (CR3, INVLPG, ...) */
};

enum { X86_DR6_BS = 1 << 14 }; /* single step */

/* What the instruction before inhibits until this one is done (SDM vol. 3, 6.8.3). */
enum x86_shadow {
    X86_SHADOW_NONE,
    X86_SHADOW_STI,    /* interrupts */
    X86_SHADOW_MOV_SS, /* and NMI, debug traps, instruction breakpoints */
};

/*
 * IGNNE# is asserted: instructions do not wait for unmasked x87 exceptions any more. Until these
 * are cleared, which negates FERR# and with it IGNNE#, the engine executes one instruction at a
 * time.
 */
enum x86_ignne {
    X86_IGNNE_OFF,
    X86_IGNNE_ON,
    X86_IGNNE_MET, /* and the current instruction would have waited */
};

/*
 * What the x87 keeps of its last instruction that was no control instruction (SDM vol. 1, 8.1.8):
 * address, address of the last memory operand, and the 11 bits of the opcode.
 */
struct x87_pointers {
    uint64_t fip, fdp; /* offsets in their segments */
    uint16_t fcs, fds, fop;
};

struct x86_cpu {
    /* --- read and written by translated code --- */
    /*
     * Non-zero: leave translated code at the next block boundary. Two independent bytes so that an
     * interrupt-window store never erases an asynchronous request.
     */
    union {
        volatile uint32_t exit_request;
        struct {
            volatile uint8_t exit_async; /* timer, kick, INTR line; set from any thread or signal */
            volatile uint8_t exit_window; /* IF went 1 while intr_wanted */
            volatile uint8_t exit_spare[2];
        };
    };
    volatile uint8_t intr_wanted; /* INTR was asserted while IF = 0 */
    uint8_t iflag;                /* RFLAGS.IF, 0 or 1 */
    uint8_t cpl;                  /* current privilege level 0..3 (3 in virtual-8086 mode) */
    uint8_t shadow;               /* enum x86_shadow */
    uint32_t aflags;              /* X86_NATIVE_FLAGS part of RFLAGS */
    uint32_t sflags; /* the other RFLAGS bits but IF (TF IOPL NT RF VM AC VIF VIP ID) */
    uint64_t gpr[16];
    uint64_t rip; /* offset in CS of the current instruction */
    struct x86_segment seg[X86_SEG_COUNT];

    /* --- C only --- */
    struct x86_table gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4, efer;
    uint64_t pdpte[4]; /* PAE: loaded at MOV CR3 (SDM vol. 3, 4.4.1) */
    uint64_t dr[8];    /* DR0-3, 6, 7 */
    uint64_t star, lstar, cstar, fmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat, misc_enable, tsc_offset, tsc_adjust, tsc_aux, spec_ctrl;
    uint64_t mtrr_def_type, mtrr_fix[11], mtrr_var[16];
    uint64_t mcg_status, mc_ctl[16], mc_addr[16], mc_misc[16];
    uint64_t xcr0;
    uint8_t halted; /* in HLT, waiting for an interrupt */
    uint8_t nmi_pending, nmi_blocked;
    uint8_t ferr;           /* FERR# was asserted */
    uint8_t ignne;          /* enum x86_ignne */
    uint8_t shutdown;       /* triple fault */
    uint8_t reset_request;  /* INIT/reset seen by the CPU */
    uint32_t dirty;         /* enum x86_dirty bits; the engine clears them */
    struct x86_fault fault; /* valid after a function returned "fault" */
    struct x86_platform platform;
    struct mmu *mmu;
    struct cpuid_model cpuid; /* what CPUID answers, and which instructions exist */

    /* Instead of those in xsave, which are the host's; valid while xsave says so (XS_HELD). */
    struct x87_pointers x87_pointers;
    uint8_t xsave[X86_XSAVE_SIZE] __attribute__((aligned(64))); /* x87, SSE, AVX in XSAVE format */
};

static inline uint64_t x86_get_rflags(const struct x86_cpu *cpu)
{
    return (uint64_t)cpu->aflags | cpu->sflags | (cpu->iflag ? (uint64_t)X86_IF : 0) | 2;
}

/* Sets IF; if that opens the window for an interrupt that waits (intr_wanted), asks for an exit. */
void x86_set_iflag(struct x86_cpu *cpu, bool on);
/* Sets every bit, privilege rules aside. Marks the mode dirty if TF, VM or AC changes. */
void x86_set_rflags(struct x86_cpu *cpu, uint64_t rflags);

/* State after RESET (SDM vol. 3, table 10-1); keeps platform, mmu and cpuid. */
void x86_reset(struct x86_cpu *cpu);
/* State after INIT: x87, SSE and AVX state, MSRs but EFER, CR0.CD and CR0.NW stay as they are. */
void x86_init(struct x86_cpu *cpu);

/* Recomputes read_end and write_end after base, limit or attr changed. */
void segment_update_bounds(struct x86_segment *seg);
/* Loads CS, DS, ... as real and vm86 mode do: base = selector << 4 (limit/attr as given). */
void segment_load_real(struct x86_segment *seg, uint16_t selector);

/* Records a fault for delivery; always returns -1 so that callers write "return x86_raise(...)". */
int x86_raise(struct x86_cpu *cpu, enum x86_vector vector);
int x86_raise_error(struct x86_cpu *cpu, enum x86_vector vector, uint32_t error);
int x86_raise_page_fault(struct x86_cpu *cpu, uint64_t linear, uint32_t error);

static inline bool x86_real_mode(const struct x86_cpu *cpu)
{
    return !(cpu->cr0 & X86_CR0_PE);
}
static inline bool x86_vm86(const struct x86_cpu *cpu)
{
    return (cpu->sflags & X86_VM) != 0;
}
static inline bool x86_protected_mode(const struct x86_cpu *cpu) /* and not virtual-8086 */
{
    return !x86_real_mode(cpu) && !x86_vm86(cpu);
}
/* Alignment checks are on (SDM vol. 3, 6.15, "Interrupt 17"). */
static inline bool x86_checks_alignment(const struct x86_cpu *cpu)
{
    return (cpu->sflags & X86_AC_FLAG) && (cpu->cr0 & X86_CR0_AM) && cpu->cpl == 3;
}
static inline bool x86_long_mode(const struct x86_cpu *cpu) /* EFER.LMA, incl. compatibility mode */
{
    return (cpu->efer & X86_EFER_LMA) != 0;
}
static inline bool x86_code64(const struct x86_cpu *cpu) /* 64-bit mode proper */
{
    return x86_long_mode(cpu) && (cpu->seg[X86_CS].attr & X86_AR_L);
}
/* Code size in bits: 16, 32 or 64. */
static inline unsigned x86_code_bits(const struct x86_cpu *cpu)
{
    return x86_code64(cpu) ? 64 : (cpu->seg[X86_CS].attr & X86_AR_DB) ? 32 : 16;
}
/* Stack address size in bits: 16, 32 or 64 (SDM vol. 1, 6.2.3). */
static inline unsigned x86_stack_bits(const struct x86_cpu *cpu)
{
    return x86_code64(cpu) ? 64 : (cpu->seg[X86_SS].attr & X86_AR_DB) ? 32 : 16;
}

#endif
