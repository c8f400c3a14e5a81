/*
 * The callouts: every instruction (group) that has C semantics. One row each; the engine's dispatch
 * table, statistics and traces expand from the same list. X(NAME, "SDM notation").
 */
#ifndef VD_DECODER_INSN_OP_H
#define VD_DECODER_INSN_OP_H

#define INSN_OPS(X)                                                                                \
    X(NONE, "")                                                                                    \
    X(UD, "UD0/UD1/UD2 and undefined opcodes")                                                     \
    /* segment registers and far transfers */                                                      \
    X(MOV_TO_SEG, "MOV Sreg, r/m16")                                                               \
    X(MOV_FROM_SEG, "MOV r/m, Sreg")                                                               \
    X(PUSH_SEG, "PUSH Sreg")                                                                       \
    X(POP_SEG, "POP Sreg")                                                                         \
    X(LOAD_FAR_POINTER, "LDS/LES/LFS/LGS/LSS r, m16:16/32/64")                                     \
    X(JMP_FAR, "JMP ptr16:16/32, m16:16/32/64")                                                    \
    X(CALL_FAR, "CALL ptr16:16/32, m16:16/32/64")                                                  \
    X(RET_FAR, "RETF, RETF imm16")                                                                 \
    X(INT_N, "INT n")                                                                              \
    X(INT3, "INT3")                                                                                \
    X(INT1, "INT1")                                                                                \
    X(INTO, "INTO")                                                                                \
    X(IRET, "IRET/IRETD/IRETQ")                                                                    \
    X(SYSCALL, "SYSCALL")                                                                          \
    X(SYSRET, "SYSRET")                                                                            \
    X(SYSENTER, "SYSENTER")                                                                        \
    X(SYSEXIT, "SYSEXIT")                                                                          \
    X(SWAPGS, "SWAPGS")                                                                            \
    X(LAR, "LAR")                                                                                  \
    X(LSL, "LSL")                                                                                  \
    X(VERR, "VERR")                                                                                \
    X(VERW, "VERW")                                                                                \
    X(ARPL, "ARPL")                                                                                \
    X(LGDT, "LGDT")                                                                                \
    X(LIDT, "LIDT")                                                                                \
    X(SGDT, "SGDT")                                                                                \
    X(SIDT, "SIDT")                                                                                \
    X(LLDT, "LLDT")                                                                                \
    X(LTR, "LTR")                                                                                  \
    X(SLDT, "SLDT")                                                                                \
    X(STR, "STR")                                                                                  \
    /* control, debug and model-specific registers */                                              \
    X(LMSW, "LMSW")                                                                                \
    X(SMSW, "SMSW")                                                                                \
    X(CLTS, "CLTS")                                                                                \
    X(MOV_FROM_CR, "MOV r, CRn")                                                                   \
    X(MOV_TO_CR, "MOV CRn, r")                                                                     \
    X(MOV_FROM_DR, "MOV r, DRn")                                                                   \
    X(MOV_TO_DR, "MOV DRn, r")                                                                     \
    X(INVLPG, "INVLPG")                                                                            \
    X(INVPCID, "INVPCID")                                                                          \
    X(WBINVD, "INVD/WBINVD/WBNOINVD")                                                              \
    X(RDMSR, "RDMSR")                                                                              \
    X(WRMSR, "WRMSR")                                                                              \
    X(RDTSC, "RDTSC")                                                                              \
    X(RDTSCP, "RDTSCP")                                                                            \
    X(RDPMC, "RDPMC")                                                                              \
    X(RDPID, "RDPID")                                                                              \
    X(CPUID, "CPUID")                                                                              \
    X(XGETBV, "XGETBV")                                                                            \
    X(XSETBV, "XSETBV")                                                                            \
    X(RDFSGSBASE, "RDFSBASE/RDGSBASE")                                                             \
    X(WRFSGSBASE, "WRFSBASE/WRGSBASE")                                                             \
    X(CLAC_STAC, "CLAC/STAC")                                                                      \
    X(MONITOR, "MONITOR")                                                                          \
    X(MWAIT, "MWAIT")                                                                              \
    X(RSM, "RSM")                                                                                  \
    X(VMCALL, "VMCALL/VMMCALL")                                                                    \
    /* flags, halt, I/O */                                                                         \
    X(HLT, "HLT")                                                                                  \
    X(CLI, "CLI")                                                                                  \
    X(STI, "STI")                                                                                  \
    X(PUSHF, "PUSHF/PUSHFD/PUSHFQ")                                                                \
    X(POPF, "POPF/POPFD/POPFQ")                                                                    \
    X(IN, "IN")                                                                                    \
    X(OUT, "OUT")                                                                                  \
    X(INS, "INS")                                                                                  \
    X(OUTS, "OUTS")                                                                                \
    /* dropped by 64-bit mode or awkward there */                                                  \
    X(PUSHA, "PUSHA/PUSHAD")                                                                       \
    X(POPA, "POPA/POPAD")                                                                          \
    X(ENTER, "ENTER")                                                                              \
    X(BOUND, "BOUND")                                                                              \
    X(AAA, "AAA")                                                                                  \
    X(AAS, "AAS")                                                                                  \
    X(AAM, "AAM")                                                                                  \
    X(AAD, "AAD")                                                                                  \
    X(DAA, "DAA")                                                                                  \
    X(DAS, "DAS")                                                                                  \
    X(SALC, "SALC")                                                                                \
    /* strings: the C slow path, one chunk or element at a time */                                 \
    X(MOVS, "MOVS")                                                                                \
    X(STOS, "STOS")                                                                                \
    X(LODS, "LODS")                                                                                \
    X(SCAS, "SCAS")                                                                                \
    X(CMPS, "CMPS")                                                                                \
    /* vector and x87 state, masked and scattered memory */                                        \
    X(FPU_UNAVAILABLE, "x87/MMX/SSE/AVX while CR0/CR4/XCR0 forbid it")                             \
    X(FXSAVE, "FXSAVE/FXSAVE64")                                                                   \
    X(FXRSTOR, "FXRSTOR/FXRSTOR64")                                                                \
    X(XSAVE, "XSAVE/XSAVEOPT/XSAVEC")                                                              \
    X(XRSTOR, "XRSTOR")                                                                            \
    X(FNSAVE, "FNSAVE")                                                                            \
    X(FRSTOR, "FRSTOR")                                                                            \
    X(FNSTENV, "FNSTENV")                                                                          \
    X(FLDENV, "FLDENV")                                                                            \
    X(MASKMOV, "MASKMOVQ/MASKMOVDQU")                                                              \
    X(VMASKMOV, "VMASKMOVPS/PD, VPMASKMOVD/Q")                                                     \
    X(GATHER, "VGATHER*/VPGATHER*")

#define INSN_OP_ENUM(name, text) OP_##name,
enum insn_op { INSN_OPS(INSN_OP_ENUM) OP_COUNT };
#undef INSN_OP_ENUM

#endif
