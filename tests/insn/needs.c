#include "needs.h"

enum { /* of prefixes: bit 0 none, 1: 66, 2: F3, 3: F2 */
       NP = 1,
       P66 = 2,
       PF3 = 4,
       PF2 = 8,
       PALL = 15,
       MMX_OR_XMM = NP | P66,
};
enum { ANY, MEM, REG };
enum { IN_ALL, IN_64, NOT_IN_64 };
enum { L0 = 1, L1 = 2, LANY = 3 };

struct need {
    uint8_t first, last; /* opcodes */
    uint8_t mandatory, form, digits;
    uint8_t where, l; /* 0: anywhere, any */
    uint8_t feature;  /* enum x86_feature */
};

#define EACH     0xff
#define DIGIT(n) (1 << (n))
#define RM_ROW(modrm_first, modrm_last, feature_)                                                  \
    {                                                                                              \
        modrm_first, modrm_last, PALL, REG, EACH, .feature = FEAT_##feature_                       \
    }

/* First match counts in all tables; what matches no row is there since the 80386. */
static const struct need map0[] = {
    {0x9a, 0x9a, PALL, ANY, EACH, IN_64, .feature = FEAT_NEVER},
    {0xea, 0xea, PALL, ANY, EACH, IN_64, .feature = FEAT_NEVER},
    {0x8e, 0x8e, PALL, ANY, DIGIT(1) | DIGIT(6) | DIGIT(7), .feature = FEAT_NEVER},
    {0xff, 0xff, PALL, REG, DIGIT(3) | DIGIT(5), .feature = FEAT_NEVER},
    {0x9e, 0x9f, PALL, ANY, EACH, IN_64, .feature = FEAT_LAHF64},
    {0xda, 0xdb, PALL, REG, 0x0f, .feature = FEAT_CMOV}, /* FCMOVcc */
    {0xdb, 0xdb, PALL, REG, DIGIT(5) | DIGIT(6), .feature = FEAT_CMOV},
    {0xdf, 0xdf, PALL, REG, DIGIT(5) | DIGIT(6), .feature = FEAT_CMOV},
    {0xdb, 0xdb, PALL, MEM, DIGIT(1), .feature = FEAT_SSE3}, /* FISTTP */
    {0xdd, 0xdd, PALL, MEM, DIGIT(1), .feature = FEAT_SSE3},
    {0xdf, 0xdf, PALL, MEM, DIGIT(1), .feature = FEAT_SSE3},
    {0xd8, 0xdf, PALL, ANY, EACH, .feature = FEAT_FPU},
};

/* 0F 01 with a register operand, by the whole ModRM byte. */
static const struct need map1_01[] = {
    RM_ROW(0xc0, 0xc9, NEVER), /* VMX, SGX, MONITOR */
    RM_ROW(0xca, 0xcb, SMAP),
    RM_ROW(0xcc, 0xcf, NEVER),
    RM_ROW(0xd0, 0xd1, XSAVE),
    RM_ROW(0xd2, 0xdf, NEVER), /* SVM, TSX, VMFUNC */
    RM_ROW(0xe8, 0xef, NEVER), /* PKU, SERIALIZE, UINTR, CET, TSX */
    {0xf8, 0xf8, PALL, REG, EACH, NOT_IN_64, .feature = FEAT_NEVER},
    RM_ROW(0xf8, 0xf8, LM),
    RM_ROW(0xf9, 0xf9, RDTSCP),
    RM_ROW(0xfa, 0xff, NEVER), /* MONITORX, MCOMMIT, CLZERO, RDPRU, INVLPGB, SNP */
};

static const struct need map1[] = {
    {0x01, 0x01, PALL, MEM, DIGIT(5), .feature = FEAT_NEVER},
    {0x01, 0x01, PALL, MEM, DIGIT(7), .feature = FEAT_486}, /* INVLPG */
    /* Intel has them in 64-bit mode only, and so do the models. */
    {0x05, 0x05, PALL, ANY, EACH, NOT_IN_64, .feature = FEAT_NEVER},
    {0x07, 0x07, PALL, ANY, EACH, NOT_IN_64, .feature = FEAT_NEVER},
    {0x05, 0x05, PALL, ANY, EACH, .feature = FEAT_SYSCALL},
    {0x07, 0x07, PALL, ANY, EACH, .feature = FEAT_SYSCALL},
    {0x08, 0x09, PALL, ANY, EACH, .feature = FEAT_486},
    {0x0d, 0x0d, PALL, ANY, EACH, .feature = FEAT_LM},
    {0x0e, 0x0f, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* 3DNow! */
    {0x12, 0x12, PF3 | PF2, ANY, EACH, .feature = FEAT_SSE3},
    {0x16, 0x16, PF3, ANY, EACH, .feature = FEAT_SSE3},
    {0x10, 0x17, NP | PF3, ANY, EACH, .feature = FEAT_SSE},
    {0x10, 0x17, P66 | PF2, ANY, EACH, .feature = FEAT_SSE2},
    {0x18, 0x1f, PALL, ANY, EACH, .feature = FEAT_CMOV},       /* hints */
    {0x2b, 0x2b, PF3 | PF2, ANY, EACH, .feature = FEAT_NEVER}, /* SSE4A */
    {0x28, 0x2f, NP | PF3, ANY, EACH, .feature = FEAT_SSE},
    {0x28, 0x2f, P66 | PF2, ANY, EACH, .feature = FEAT_SSE2},
    {0x30, 0x30, PALL, ANY, EACH, .feature = FEAT_MSR},
    {0x31, 0x31, PALL, ANY, EACH, .feature = FEAT_TSC},
    {0x32, 0x32, PALL, ANY, EACH, .feature = FEAT_MSR},
    {0x33, 0x33, PALL, ANY, EACH, .feature = FEAT_CMOV}, /* RDPMC: the P6 */
    {0x34, 0x35, PALL, ANY, EACH, .feature = FEAT_SEP},
    {0x37, 0x37, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* GETSEC */
    {0x40, 0x4f, PALL, ANY, EACH, .feature = FEAT_CMOV},
    {0x5a, 0x5b, PALL, ANY, EACH, .feature = FEAT_SSE2},
    {0x50, 0x5f, NP | PF3, ANY, EACH, .feature = FEAT_SSE},
    {0x50, 0x5f, P66 | PF2, ANY, EACH, .feature = FEAT_SSE2},
    {0x60, 0x6f, NP, ANY, EACH, .feature = FEAT_MMX},
    {0x60, 0x6f, PALL, ANY, EACH, .feature = FEAT_SSE2},
    {0x70, 0x70, NP, ANY, EACH, .feature = FEAT_SSE}, /* PSHUFW */
    {0x71, 0x77, NP, ANY, EACH, .feature = FEAT_MMX},
    {0x70, 0x76, PALL, ANY, EACH, .feature = FEAT_SSE2},
    {0x78, 0x79, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* VMREAD, EXTRQ, ... */
    {0x7c, 0x7d, P66 | PF2, ANY, EACH, .feature = FEAT_SSE3},
    {0x7e, 0x7f, NP, ANY, EACH, .feature = FEAT_MMX},
    {0x7e, 0x7f, PALL, ANY, EACH, .feature = FEAT_SSE2},
    {0xa2, 0xa2, PALL, ANY, EACH, .feature = FEAT_486},
    {0xa6, 0xa7, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* PadLock */
    {0xaa, 0xaa, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* RSM outside SMM */
    {0xae, 0xae, NP, MEM, DIGIT(0) | DIGIT(1), .feature = FEAT_FXSR},
    {0xae, 0xae, NP, MEM, DIGIT(2) | DIGIT(3), .feature = FEAT_SSE},
    {0xae, 0xae, NP, MEM, DIGIT(4) | DIGIT(5), .feature = FEAT_XSAVE},
    {0xae, 0xae, NP, MEM, DIGIT(6), .feature = FEAT_XSAVEOPT},
    {0xae, 0xae, NP, MEM, DIGIT(7), .feature = FEAT_CLFSH},
    {0xae, 0xae, P66, MEM, DIGIT(6), .feature = FEAT_CLWB},
    {0xae, 0xae, P66, MEM, DIGIT(7), .feature = FEAT_CLFLUSHOPT},
    {0xae, 0xae, NP, REG, DIGIT(5) | DIGIT(6), .feature = FEAT_SSE2}, /* LFENCE, MFENCE */
    {0xae, 0xae, NP, REG, DIGIT(7), .feature = FEAT_SSE},             /* SFENCE */
    {0xae, 0xae, PF3, REG, 0x0f, NOT_IN_64, .feature = FEAT_NEVER},
    {0xae, 0xae, PF3, REG, 0x0f, .feature = FEAT_FSGSBASE},
    {0xae, 0xae, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* PTWRITE, CET, WAITPKG, ... */
    {0xb0, 0xb1, PALL, ANY, EACH, .feature = FEAT_486},
    {0xb2, 0xb2, PALL, REG, EACH, .feature = FEAT_NEVER}, /* LSS, LFS, LGS */
    {0xb4, 0xb5, PALL, REG, EACH, .feature = FEAT_NEVER},
    {0xb8, 0xb8, PF3, ANY, EACH, .feature = FEAT_POPCNT},
    {0xb8, 0xb9, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* JMPE, UD1 */
    {0xbc, 0xbc, PF3, ANY, EACH, .feature = FEAT_BMI1},
    {0xbd, 0xbd, PF3, ANY, EACH, .feature = FEAT_LZCNT},
    {0xc0, 0xc1, PALL, ANY, EACH, .feature = FEAT_486},
    {0xc2, 0xc2, NP | PF3, ANY, EACH, .feature = FEAT_SSE},
    {0xc2, 0xc2, P66 | PF2, ANY, EACH, .feature = FEAT_SSE2},
    {0xc3, 0xc3, PALL, ANY, EACH, .feature = FEAT_SSE2}, /* MOVNTI */
    {0xc4, 0xc6, NP, ANY, EACH, .feature = FEAT_SSE},
    {0xc4, 0xc6, PALL, ANY, EACH, .feature = FEAT_SSE2},
    {0xc7, 0xc7, PALL, MEM, DIGIT(1), .feature = FEAT_CX8}, /* with REX.W: see missing_wide() */
    {0xc7, 0xc7, PALL, MEM, DIGIT(4), .feature = FEAT_XSAVEC},
    {0xc7, 0xc7, NP | P66, REG, DIGIT(6), .feature = FEAT_RDRAND},
    {0xc7, 0xc7, NP | P66, REG, DIGIT(7), .feature = FEAT_RDSEED},
    {0xc7, 0xc7, PF3, REG, DIGIT(7), .feature = FEAT_RDPID},
    {0xc7, 0xc7, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* VMX, XSAVES, SENDUIPI */
    {0xc8, 0xcf, PALL, ANY, EACH, .feature = FEAT_486},   /* BSWAP */
    {0xd0, 0xd0, PALL, ANY, EACH, .feature = FEAT_SSE3},
    {0xf0, 0xf0, PF2, ANY, EACH, .feature = FEAT_SSE3}, /* LDDQU */
    {0xd4, 0xd4, PALL, ANY, EACH, .feature = FEAT_SSE2},
    {0xf4, 0xf4, PALL, ANY, EACH, .feature = FEAT_SSE2},
    {0xfb, 0xfb, PALL, ANY, EACH, .feature = FEAT_SSE2},
    {0xd6, 0xd6, PALL, ANY, EACH, .feature = FEAT_SSE2},
    {0xe6, 0xe6, PALL, ANY, EACH, .feature = FEAT_SSE2},
    {0xd7, 0xd7, NP, ANY, EACH, .feature = FEAT_SSE}, /* what SSE added to MMX */
    {0xda, 0xda, NP, ANY, EACH, .feature = FEAT_SSE},
    {0xde, 0xde, NP, ANY, EACH, .feature = FEAT_SSE},
    {0xe0, 0xe0, NP, ANY, EACH, .feature = FEAT_SSE},
    {0xe3, 0xe4, NP, ANY, EACH, .feature = FEAT_SSE},
    {0xe7, 0xe7, NP, ANY, EACH, .feature = FEAT_SSE},
    {0xea, 0xea, NP, ANY, EACH, .feature = FEAT_SSE},
    {0xee, 0xee, NP, ANY, EACH, .feature = FEAT_SSE},
    {0xf6, 0xf7, NP, ANY, EACH, .feature = FEAT_SSE},
    {0xff, 0xff, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* UD0 */
    {0xd1, 0xfe, NP, ANY, EACH, .feature = FEAT_MMX},
    {0xd1, 0xfe, PALL, ANY, EACH, .feature = FEAT_SSE2},
};

static const struct need map2[] = {
    {0x00, 0x0b, PALL, ANY, EACH, .feature = FEAT_SSSE3},
    {0x1c, 0x1e, PALL, ANY, EACH, .feature = FEAT_SSSE3},
    {0x37, 0x37, PALL, ANY, EACH, .feature = FEAT_SSE42},
    {0x10, 0x41, PALL, ANY, EACH, .feature = FEAT_SSE41},
    {0x80, 0x81, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* INVEPT, INVVPID */
    {0x82, 0x82, PALL, ANY, EACH, .feature = FEAT_INVPCID},
    {0xc8, 0xcd, PALL, ANY, EACH, .feature = FEAT_SHA},
    {0xcf, 0xcf, PALL, ANY, EACH, .feature = FEAT_GFNI},
    {0xdb, 0xdf, P66, ANY, EACH, .feature = FEAT_AES},
    {0xd8, 0xdf, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* Key Locker */
    {0xf0, 0xf1, PF2, ANY, EACH, .feature = FEAT_SSE42},  /* CRC32 */
    {0xf0, 0xf1, PALL, ANY, EACH, .feature = FEAT_MOVBE},
    {0xf6, 0xf6, P66 | PF3, ANY, EACH, .feature = FEAT_ADX},
    {0xf5, 0xff, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* WRUSS, MOVDIRI, ENQCMD, ... */
};

static const struct need map3[] = {
    {0x0f, 0x0f, PALL, ANY, EACH, .feature = FEAT_SSSE3},
    {0x44, 0x44, PALL, ANY, EACH, .feature = FEAT_PCLMULQDQ},
    {0x08, 0x42, PALL, ANY, EACH, .feature = FEAT_SSE41},
    {0x60, 0x63, PALL, ANY, EACH, .feature = FEAT_SSE42},
    {0xcc, 0xcc, PALL, ANY, EACH, .feature = FEAT_SHA},
    {0xce, 0xcf, PALL, ANY, EACH, .feature = FEAT_GFNI},
    {0xdf, 0xdf, PALL, ANY, EACH, .feature = FEAT_AES},
    {0xf0, 0xf0, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* HRESET */
};

static const struct need vex1[] = {
    {0x41, 0x4b, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* AVX-512 masks */
    {0x90, 0x99, PALL, ANY, EACH, .feature = FEAT_NEVER},
    {0x60, 0x6d, P66, ANY, EACH, .l = L1, .feature = FEAT_AVX2},
    {0x70, 0x76, P66 | PF3 | PF2, ANY, EACH, .l = L1, .feature = FEAT_AVX2},
    {0xd1, 0xd5, P66, ANY, EACH, .l = L1, .feature = FEAT_AVX2},
    {0xd7, 0xe5, P66, ANY, EACH, .l = L1, .feature = FEAT_AVX2},
    {0xe8, 0xfe, P66, ANY, EACH, .l = L1, .feature = FEAT_AVX2},
    {0x00, 0xff, PALL, ANY, EACH, .feature = FEAT_AVX},
};

static const struct need vex2[] = {
    {0x00, 0x0b, PALL, ANY, EACH, .l = L1, .feature = FEAT_AVX2},
    {0x1c, 0x1e, PALL, ANY, EACH, .l = L1, .feature = FEAT_AVX2},
    {0x13, 0x13, PALL, ANY, EACH, .feature = FEAT_F16C},
    {0x16, 0x16, PALL, ANY, EACH, .feature = FEAT_AVX2}, /* VPERMPS */
    {0x18, 0x19, PALL, REG, EACH, .feature = FEAT_AVX2}, /* VBROADCASTSS, SD from a register */
    {0x20, 0x2b, PALL, ANY, EACH, .l = L1, .feature = FEAT_AVX2},
    {0x30, 0x40, PALL, ANY, EACH, .l = L1, .feature = FEAT_AVX2},
    {0x36, 0x36, PALL, ANY, EACH, .feature = FEAT_AVX2},
    {0x45, 0x47, PALL, ANY, EACH, .feature = FEAT_AVX2},
    {0x49, 0x53, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* AMX, AVX-VNNI */
    {0x5b, 0x72, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* AMX, AVX-NE-CONVERT */
    {0x58, 0x5a, PALL, ANY, EACH, .feature = FEAT_AVX2},
    {0x78, 0x79, PALL, ANY, EACH, .feature = FEAT_AVX2},
    {0x8c, 0x8e, PALL, ANY, EACH, .feature = FEAT_AVX2},
    {0x90, 0x93, PALL, ANY, EACH, .feature = FEAT_AVX2},
    {0xb0, 0xb5, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* AVX-NE-CONVERT, AVX-IFMA */
    {0x96, 0xbf, PALL, ANY, EACH, .feature = FEAT_FMA},
    {0xcb, 0xcd, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* SHA512 */
    {0xcf, 0xcf, PALL, ANY, EACH, .feature = FEAT_GFNI},
    {0xd2, 0xda, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* AVX-VNNI-INT16, SM3, SM4 */
    {0xdb, 0xdf, PALL, ANY, EACH, .l = L0, .feature = FEAT_AES},
    {0xdc, 0xdf, PALL, ANY, EACH, .l = L1, .feature = FEAT_VAES},
    {0xe0, 0xef, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* CMPccXADD */
    {0xf2, 0xf3, PALL, ANY, EACH, .feature = FEAT_BMI1},
    {0xf7, 0xf7, NP, ANY, EACH, .feature = FEAT_BMI1}, /* BEXTR */
    {0xf5, 0xf7, PALL, ANY, EACH, .feature = FEAT_BMI2},
    {0x00, 0xff, PALL, ANY, EACH, .feature = FEAT_AVX},
};

static const struct need vex3[] = {
    {0x00, 0x02, PALL, ANY, EACH, .feature = FEAT_AVX2},
    {0x0e, 0x0f, PALL, ANY, EACH, .l = L1, .feature = FEAT_AVX2},
    {0x1d, 0x1d, PALL, ANY, EACH, .feature = FEAT_F16C},
    {0x30, 0x33, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* AVX-512 masks */
    {0x38, 0x39, PALL, ANY, EACH, .feature = FEAT_AVX2},
    {0x42, 0x42, PALL, ANY, EACH, .l = L1, .feature = FEAT_AVX2},
    {0x44, 0x44, PALL, ANY, EACH, .l = L0, .feature = FEAT_PCLMULQDQ},
    {0x44, 0x44, PALL, ANY, EACH, .l = L1, .feature = FEAT_VPCLMULQDQ},
    {0x46, 0x46, PALL, ANY, EACH, .feature = FEAT_AVX2},
    {0x48, 0x49, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* XOP */
    {0x4c, 0x4c, PALL, ANY, EACH, .l = L1, .feature = FEAT_AVX2},
    {0x5c, 0x5f, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* FMA4 */
    {0x68, 0x7f, PALL, ANY, EACH, .feature = FEAT_NEVER},
    {0xce, 0xcf, PALL, ANY, EACH, .feature = FEAT_GFNI},
    {0xde, 0xde, PALL, ANY, EACH, .feature = FEAT_NEVER}, /* SM3 */
    {0xdf, 0xdf, PALL, ANY, EACH, .feature = FEAT_AES},
    {0xf0, 0xf0, PALL, ANY, EACH, .feature = FEAT_BMI2},
    {0x00, 0xff, PALL, ANY, EACH, .feature = FEAT_AVX},
};

static const struct need nothing[] = {{0x00, 0xff, PALL, ANY, EACH, .feature = FEAT_NEVER}};

/* The host's system calls, and what loads from its descriptor tables. */
static const struct need guest0[] = {
    {0x07, 0x07, PALL, ANY, EACH, NOT_IN_64, .feature = FEAT_BASE},
    {0x17, 0x17, PALL, ANY, EACH, NOT_IN_64, .feature = FEAT_BASE},
    {0x1f, 0x1f, PALL, ANY, EACH, NOT_IN_64, .feature = FEAT_BASE},
    {0x8e, 0x8e, PALL, ANY, EACH, .feature = FEAT_BASE},
    {0x9a, 0x9a, PALL, ANY, EACH, .feature = FEAT_BASE},
    {0xea, 0xea, PALL, ANY, EACH, .feature = FEAT_BASE},
    {0xc4, 0xc5, PALL, MEM, EACH, .feature = FEAT_BASE},
    {0xca, 0xcb, PALL, ANY, EACH, .feature = FEAT_BASE},
    {0xcd, 0xcd, PALL, ANY, EACH, .feature = FEAT_BASE},
    {0xcf, 0xcf, PALL, ANY, EACH, .feature = FEAT_BASE},
    {0xff, 0xff, PALL, ANY, DIGIT(3) | DIGIT(5), .feature = FEAT_BASE},
};
static const struct need guest1[] = {
    {0x05, 0x05, PALL, ANY, EACH, .feature = FEAT_BASE},
    {0x07, 0x07, PALL, ANY, EACH, .feature = FEAT_BASE},
    {0x34, 0x35, PALL, ANY, EACH, .feature = FEAT_BASE},
    {0xa1, 0xa1, PALL, ANY, EACH, .feature = FEAT_BASE},
    {0xa9, 0xa9, PALL, ANY, EACH, .feature = FEAT_BASE},
    {0xb2, 0xb2, PALL, ANY, EACH, .feature = FEAT_BASE},
    {0xb4, 0xb5, PALL, ANY, EACH, .feature = FEAT_BASE},
};

#define ROWS(table) table, sizeof(table) / sizeof(table[0])

static const struct need *find(const struct encoding *e, unsigned mode, unsigned opcode,
                               const struct need *rows, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const struct need *n = &rows[i];
        if (opcode >= n->first && opcode <= n->last &&
            (n->mandatory >> encoding_mandatory(e) & 1) &&
            (n->form == ANY || (n->form == MEM) == e->memory) && (n->digits >> e->reg & 1) &&
            (n->where == IN_ALL || (n->where == IN_64) == (mode == 64)) &&
            (!n->l || (n->l >> (e->l & 1) & 1)))
            return n;
    }
    return NULL;
}

static const struct need *row_of(const struct encoding *e, unsigned mode)
{
    if (e->space == SPACE_VEX) {
        switch (e->map) {
        case 1:
            return find(e, mode, e->opcode, ROWS(vex1));
        case 2:
            return find(e, mode, e->opcode, ROWS(vex2));
        case 3:
            if (e->opcode < 2 && !e->w)
                return nothing; /* VPERMQ and VPERMPD: VEX.W0 is reserved; AMD ignores it */
            return find(e, mode, e->opcode, ROWS(vex3));
        default:
            return nothing;
        }
    }
    if (e->space != SPACE_LEGACY)
        return nothing;
    switch (e->map) {
    case 0:
        return find(e, mode, e->opcode, ROWS(map0));
    case 1:
        if ((e->prefixes & BEFORE_LOCK) && (e->opcode & 0xfd) == 0x20)
            return nothing; /* AMD's way to CR8 outside 64-bit mode */
        if ((e->prefixes & BEFORE_LOCK) && e->opcode == 0x00 && e->reg == 5)
            return nothing; /* LOCK VERW: AMD ignores LOCK, the manuals do not */
        if (e->opcode == 0x01 && !e->memory)
            return find(e, mode, 0xc0u | (unsigned)e->reg << 3 | e->rm, ROWS(map1_01));
        return find(e, mode, e->opcode, ROWS(map1));
    case 2:
        return find(e, mode, e->opcode, ROWS(map2));
    default:
        return find(e, mode, e->opcode, ROWS(map3));
    }
}

/* CMPXCHG16B. */
static bool is_wide_exchange(const struct encoding *e)
{
    return e->space == SPACE_LEGACY && e->map == 1 && e->opcode == 0xc7 && e->memory &&
           e->reg == 1 && (e->prefixes & BEFORE_REX_W);
}

enum x86_feature needs_of(const struct encoding *e, unsigned mode)
{
    const struct need *n = row_of(e, mode);
    if (is_wide_exchange(e))
        return FEAT_CX16;
    return n ? (enum x86_feature)n->feature : FEAT_BASE;
}

bool needs_guest(const struct encoding *e, unsigned mode)
{
    if (e->space != SPACE_LEGACY)
        return false;
    return e->map == 0   ? find(e, mode, e->opcode, ROWS(guest0)) != NULL
           : e->map == 1 ? find(e, mode, e->opcode, ROWS(guest1)) != NULL
                         : false;
}
