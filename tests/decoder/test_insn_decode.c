/* Hand-written decodes, from the SDM's opcode tables and instruction pages, in all code sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "cpu/cpuid.h"
#include "decoder/insn.h"
#include "expect.h"

struct row {
    unsigned bits;
    const char *hex;
    const char *expect;
};

/* clang-format off */
static const struct row layout_rows[] = {
    /* ModRM forms, 64-bit */
    {64, "01 d8", "len=2 class=identity kind=COPY os=4 as=8 map=0 opc=1 modrm=0xd8 reg=3 rm=0 eff=1 mand=0 fields=rm mem=no gr=ax,bx gw=ax fr=- fw=CPAZSO fm=-"},
    {64, "48 01 44 8b 10", "len=5 class=memory os=8 rex=0x48 sib=0x8b reg=0 rm=4 dispsize=1 fields=r mem=bx+cx*4 disp=16 seg=ds acc=rw size=8 gr=ax,cx,bx gw=- fw=CPAZSO"},
    {64, "4f 01 44 8b 10", "len=5 os=8 reg=8 rm=12 mem=r11+r9*4 gr=r8,r9,r11"},
    {64, "66 01 d8", "len=3 os=2 eff=1 mand=0 gr=ax,bx gw=ax"},
    {64, "00 e0", "len=2 os=1 eff=0 fields=rmh gr=ax gw=ax reg=4 rm=0"},
    {64, "40 00 e0", "len=3 os=1 rex=0x40 fields=rm gr=ax,sp gw=ax"},
    {64, "48 40 00 e0", "len=4 rex=0x40 pfx=0x40"},
    {64, "48 66 01 d8", "len=4 os=2 rex=0 pfx=8"},               /* REX before 66 does not count */
    {64, "8b 05 78 56 34 12", "len=6 mem=rip disp=0x12345678 dispsize=4 seg=ds acc=r size=4 gr=- gw=ax"},
    {64, "67 8b 05 fe ff ff ff", "len=7 as=4 mem=rip disp=-2"},
    {64, "8b 04 25 00 00 00 80", "len=7 mem=- disp=-2147483648 seg=ds sib=0x25"},
    {64, "8b 04 65 00 00 00 00", "len=7 mem=- sib=0x65"},        /* index 100: none, whatever the scale */
    {64, "42 8b 04 65 00 00 00 00", "len=8 mem=-+r12*2 gr=r12"}, /* REX.X makes it r12 */
    {64, "41 8b 04 25 78 56 34 12", "len=8 mem=- disp=0x12345678 gr=-"}, /* REX.B makes no base */
    {64, "67 41 8b 04 25 78 56 34 12", "len=9 as=4 mem=- disp=0x12345678 seg=ds gr=-"},
    {64, "67 41 8b 04 0d 78 56 34 12", "len=9 as=4 mem=-+cx disp=0x12345678 gr=cx"},
    {64, "67 c4 c1 78 10 04 25 fe ff ff ff", "len=11 as=4 mem=- disp=-2 gr=-"},
    {64, "41 8b 45 00", "mem=r13 disp=0 seg=ds dispsize=1"},
    {64, "41 8b 04 24", "mem=r12 seg=ds"},
    {64, "8b 45 f8", "mem=bp disp=-8 seg=ss"},
    {64, "8b 44 24 08", "mem=sp disp=8 seg=ss"},
    {64, "8b 04 2b", "mem=bx+bp seg=ds"},                        /* EBP as index: DS */
    {64, "3e 8b 45 00", "mem=bp seg=ss pfx=0x20"},               /* DS override is a null prefix */
    {64, "26 8b 00", "mem=ax seg=ds"},
    {64, "64 8b 45 00", "mem=bp seg=fs"},
    {64, "64 2e 8b 00", "mem=ax seg=fs"},                        /* a null prefix behind FS */
    {64, "65 64 8b 00", "mem=ax seg=fs"},
    {64, "67 8b 00", "as=4 mem=ax"},
    {64, "a1 08 07 06 05 04 03 02 81", "len=9 kind=COPY class=memory mem=- disp=-9150748177064392952 dispsize=8 size=4 acc=r gr=- gw=ax"},
    {64, "67 a3 ff ff ff ff", "len=6 mem=- disp=0xffffffff dispsize=4 acc=w size=4 gr=ax gw=-"},
    {64, "48 b8 88 77 66 55 44 33 22 11", "len=10 immsize=8 immoff=2 imm=0x1122334455667788 fields=o gw=ax gr=-"},
    {64, "41 b0 ff", "fields=o gr=r8 gw=r8 immsize=1 os=1"},
    {64, "b4 01", "fields=oh gr=ax gw=ax"},
    {64, "48 c7 c0 ff ff ff ff", "imm=-1 immsize=4"},
    {64, "83 c0 ff", "imm=-1 immsize=1 immoff=2 os=4"},
    {64, "c1 e0 ff", "imm=255"},
    {64, "49 0f c8", "fields=o gr=r8 gw=r8 map=1 opc=0xc8 feat=486 fw=-"},
    {64, "48 63 c8", "kind=COPY gr=ax gw=cx fields=rm eff=1"},
    {64, "0f b6 c4", "fields=rmh os=4 gw=ax gr=ax"},
    {64, "0f be 08", "os=4 size=1 acc=r gw=cx gr=ax"},
    /* 32-bit */
    {32, "8b 44 8d 00", "mem=bp+cx*4 seg=ss as=4"},
    {32, "3e 8b 45 00", "mem=bp seg=ds"},
    {32, "8b 05 44 33 22 11", "mem=- disp=0x11223344 seg=ds"},
    {32, "2e a1 ef be ad de", "mem=- disp=0xdeadbeef seg=cs dispsize=4"},
    {32, "67 8b 42 80", "as=2 mem=bp+si disp=-128 seg=ss gr=bp,si"},
    {32, "67 8b 06 34 12", "as=2 mem=- disp=0x1234 dispsize=2"},
    {32, "67 a0 ff ff", "mem=- disp=0xffff dispsize=2 os=1 gw=ax gr=ax"},
    {32, "66 b8 34 12", "os=2 immsize=2 imm=0x1234 gr=ax gw=ax"},
    {32, "40", "kind=COPY fields=o gr=ax gw=ax fw=PAZSO fr=-"},    /* INC leaves CF alone */
    {32, "88 e5", "fields=rmh reg=4 rm=5 gr=ax,cx gw=cx"},
    /* 16-bit */
    {16, "8b 07", "os=2 as=2 mem=bx seg=ds gw=ax gr=ax,bx"},
    {16, "8b 46 01", "mem=bp seg=ss disp=1"},
    {16, "8b 40 7f", "mem=bx+si disp=127"},
    {16, "8b 43 00", "mem=bp+di seg=ss"},
    {16, "8b 06 00 80", "len=4 mem=- disp=-32768 dispsize=2"},
    {16, "66 8b 07", "os=4 as=2 eff=1 gw=ax gr=bx"},
    {16, "67 66 8b 04 24", "os=4 as=4 mem=sp seg=ss"},
    {16, "a1 00 80", "mem=- disp=0x8000 dispsize=2"},
    {16, "2e 8b 07", "seg=cs"},
    {16, "66 b8 78 56 34 12", "imm=0x12345678 immsize=4"},
    {16, "c8 10 00 01", "kind=CALLOUT op=ENTER imm=16 immsize=3 immoff=1"},
};

static const struct row mandatory_rows[] = {
    {64, "0f 10 c1", "mand=0 eff=0 fpu=SSE feat=SSE"},
    {64, "66 0f 10 c1", "mand=0x66 eff=0 fpu=SSE feat=SSE2 pfx=8"},
    {64, "f3 0f 10 c1", "mand=0xf3 eff=0 feat=SSE"},
    {64, "f2 0f 10 00", "mand=0xf2 class=memory size=8 acc=r feat=SSE2"},
    {64, "f3 f2 0f 10 c1", "mand=0xf2"},                          /* the last of F2/F3 counts */
    {64, "66 f3 0f 10 c1", "mand=0xf3"},
    {64, "f3 0f b8 c1", "mand=0xf3 eff=1 os=4 fpu=NONE feat=POPCNT fw=CPAZSO gr=cx gw=ax"},
    {64, "66 f3 0f b8 c1", "mand=0xf3 eff=1 os=2 gr=ax,cx"},
    {64, "f3 0f bd c1", "mand=0xf3 eff=1 feat=LZCNT gr=cx gw=ax"},
    {64, "f3 0f bc c1", "mand=0xf3 eff=1 feat=BMI1"},
    {64, "0f bc c1", "mand=0 eff=1 feat=BASE gr=ax,cx gw=ax"},         /* dest kept for a zero source */
    {64, "f2 0f 38 f1 c1", "mand=0xf2 eff=1 map=2 feat=SSE42 fpu=NONE gr=ax,cx gw=ax fw=-"},
    {64, "66 f2 0f 38 f1 c1", "mand=0xf2 os=2"},
    {64, "66 0f 38 f1 00", "mand=0 eff=1 os=2 feat=MOVBE acc=w size=2"},
    {64, "66 0f 38 f6 c1", "mand=0x66 eff=0 feat=ADX fr=C fw=C gr=ax,cx gw=ax"},
    {64, "f3 0f 38 f6 c1", "mand=0xf3 feat=ADX fr=O fw=O"},
    {64, "0f c3 08", "mand=0 eff=0 kind=COPY fpu=NONE feat=SSE2 acc=w size=4 gr=ax,cx"},
    {64, "f3 90", "kind=COPY mand=0xf3"},
    {64, "90", "kind=NOP mand=0 feat=BASE"},
    {64, "48 90", "kind=NOP"},
    {64, "41 90", "kind=COPY os=4 fields=o gr=ax,r8 gw=ax,r8"},
    {64, "f3 49 90", "kind=COPY os=8 fields=o gr=ax,r8 gw=ax,r8 mand=0"}, /* not PAUSE */
    {64, "f3 a4", "mand=0 kind=STRING pfx=4"},
    {64, "66 0f 6f 08", "mand=0x66 eff=0 fields=- acc=r size=16 gr=ax"},
    {64, "66 48 0f 7e c0", "mand=0x66 fields=m gw=ax gr=- os=8"},
    {64, "0f 7e c0", "mand=0 fields=m fpu=MMX feat=MMX gw=ax"},
    {64, "f2 48 0f 2c c1", "fields=r gw=ax gr=- os=8"},
    {64, "f3 0f 2a c1", "fields=m gr=cx gw=-"},
    /* operand size: fixed-size opcodes do not follow 66 */
    {64, "66 0f 94 c0", "eff=0 os=1 cc=4 gr=ax gw=ax fr=Z"},
    {64, "0f 44 c1", "eff=1 cc=4 gr=ax,cx gw=ax fr=Z fw=- feat=CMOV"},
    {64, "74 fe", "kind=JCC cc=4 imm=-2 fr=Z eff=0 os=8"},
    {64, "0f 8f 00 01 00 00", "kind=JCC cc=15 imm=256 fr=ZSO immoff=2 immsize=4"},
    {64, "66 0f 85 00 01 00 00", "len=7 kind=JCC os=8 eff=0 imm=256"},
    {32, "66 74 fe", "kind=JCC os=2 eff=1"},
    {32, "66 0f 85 00 01", "len=5 kind=JCC os=2 imm=256"},
    {64, "66 a5", "eff=1 os=2 kind=STRING"},
    {64, "a4", "eff=0 os=1"},
    {64, "0f c7 f0", "eff=1 feat=RDRAND kind=COPY fw=CPAZSO gw=ax gr=- fields=m"},
    {64, "0f c7 0e", "eff=0 feat=CX8 acc=rw size=8 gr=ax,cx,dx,bx,si gw=ax,dx fw=Z"},
    {64, "48 0f c7 0e", "feat=CX16 acc=rw size=16"},
};

static const struct row vex_rows[] = {
    {64, "c5 f8 77", "enc=vex map=1 opc=0x77 l=0 pp=0 v=0 fpu=AVX feat=AVX kind=COPY"},
    {64, "c5 fc 77", "l=1 v=0"},
    {64, "c4 e3 6d 4a c1 d0", "enc=vex map=3 opc=0x4a l=1 pp=1 v=2 immsize=1 fpu=AVX"},
    {64, "c4 e2 f8 f2 c1", "enc=vex map=2 w=1 v=0 fields=rmv fpu=NONE feat=BMI1 gr=ax,cx gw=ax fw=CPAZSO mand=0"},
    {64, "c4 42 a0 f2 d1", "fields=rmv v=11 reg=10 rm=9 gr=r9,r11 gw=r10 w=1"},
    {64, "c4 e2 79 f7 c1", "fields=rmv pp=1 feat=BMI2 fw=- gr=ax,cx gw=ax"},
    {64, "c4 e2 78 f7 c1", "feat=BMI1 fw=CPAZSO"},
    {64, "c4 e3 7b f0 c1 05", "feat=BMI2 fields=rm fw=- gr=cx gw=ax imm=5 pp=3"},
    {64, "c5 fd 6f 00", "class=memory size=32 acc=r pp=1 l=1 gr=ax"},
    {64, "c4 41 7d 6f 00", "mem=r8 reg=8 rm=8"},
    {64, "c4 e2 71 92 44 60 ff", "kind=CALLOUT op=GATHER vsib=1 mem=ax disp=-1 feat=AVX2"},
    {64, "c4 e2 75 8c 00", "kind=CALLOUT op=VMASKMOV feat=AVX2"},
    {64, "c4 e2 75 2e 00", "kind=CALLOUT op=VMASKMOV feat=AVX"},
    {64, "c5 f9 f7 c1", "kind=CALLOUT op=MASKMOV fpu=AVX"},
    {64, "c4 e2 71 dc c2", "feat=AES fpu=AVX"},
    {64, "c4 e2 75 dc c2", "feat=VAES fpu=AVX"},
    {64, "c4 e3 71 44 c2 00", "feat=PCLMULQDQ fpu=AVX"},
    {64, "c4 e3 75 44 c2 00", "feat=VPCLMULQDQ fpu=AVX"},
    {64, "c4 e2 71 b8 c2", "feat=FMA fpu=AVX"},
    {64, "c4 e2 79 13 c1", "feat=F16C fpu=AVX"},
    {32, "c5 f8 77", "enc=vex len=3"},
    {32, "c5 70 11", "enc=legacy kind=CALLOUT op=LOAD_FAR_POINTER mem=ax disp=0x11 size=6"},
    {16, "c4 07", "op=LOAD_FAR_POINTER size=4 mem=bx"},
    {64, "62 f1 7c 48 10 c1", "len=6 enc=evex kind=CALLOUT op=UD class=callout"},
    {64, "8f e9 78 12 c0", "len=5 enc=xop op=UD"},
    {64, "0f 0f c8 bf", "len=4 enc=3dnow op=UD"},
};

static const struct row stack_rows[] = {
    {64, "55", "kind=PUSH class=memory os=8 fields=o gr=sp,bp gw=sp mem=no"},
    {64, "66 55", "kind=PUSH os=2 eff=1"},
    {64, "41 57", "kind=PUSH gr=sp,r15 fields=o"},
    {64, "ff 30", "kind=PUSH os=8 mem=ax size=8 acc=r gr=ax,sp gw=sp"},
    {64, "6a ff", "kind=PUSH os=8 imm=-1 immsize=1"},
    {64, "68 00 00 00 80", "kind=PUSH imm=-2147483648 immsize=4"},
    {64, "8f 00", "kind=POP os=8 mem=ax acc=w gr=ax,sp gw=sp"},
    {64, "5c", "kind=POP gr=sp gw=sp fields=o"},
    {64, "c9", "kind=LEAVE os=8 gr=sp,bp gw=sp,bp"},
    {64, "0f a0", "kind=CALLOUT op=PUSH_SEG os=8"},
    {64, "0f a9", "op=POP_SEG"},
    {64, "9c", "op=PUSHF os=8"},
    {64, "66 9d", "op=POPF os=2"},
    {32, "50", "os=4 kind=PUSH"},
    {32, "66 50", "os=2 kind=PUSH gr=ax,sp"},
    {32, "06", "op=PUSH_SEG os=4"},
    {32, "0e", "op=PUSH_SEG"},
    {32, "16", "op=PUSH_SEG"},
    {32, "1f", "op=POP_SEG"},
    {32, "60", "op=PUSHA os=4"},
    {32, "66 61", "op=POPA os=2"},
    {16, "60", "op=PUSHA os=2"},
    {16, "66 60", "op=PUSHA os=4"},
    {16, "50", "os=2 kind=PUSH"},
    {16, "66 68 78 56 34 12", "kind=PUSH os=4 imm=0x12345678"},
    {16, "66 6a 80", "kind=PUSH os=4 imm=-128"},
};

static const struct row control_rows[] = {
    {64, "e8 fb ff ff ff", "class=control kind=CALL_REL imm=-5 os=8 gr=sp gw=sp eff=0"},
    {64, "66 e8 fb ff ff ff", "len=6 kind=CALL_REL imm=-5 os=8"},
    {64, "ff d0", "kind=CALL_IND os=8 fields=m gr=ax,sp gw=sp"},
    {64, "ff 10", "kind=CALL_IND mem=ax size=8 acc=r"},
    {64, "41 ff e3", "kind=JMP_IND gr=r11"},
    {64, "3e ff e0", "kind=JMP_IND"},
    {64, "ff 25 00 00 00 00", "kind=JMP_IND mem=rip size=8"},
    {64, "eb fe", "kind=JMP_REL imm=-2"},
    {64, "e9 00 00 00 80", "kind=JMP_REL imm=-2147483648"},
    {64, "c3", "kind=RET os=8"},
    {64, "f3 c3", "kind=RET len=2"},
    {64, "c2 08 80", "kind=RET imm=0x8008 immsize=2"},
    {64, "e2 fe", "kind=LOOP as=8 gr=cx gw=cx fr=-"},
    {64, "67 e2 fe", "kind=LOOP as=4"},
    {64, "e1 fe", "kind=LOOP fr=Z"},
    {64, "e3 fe", "kind=LOOP as=8 gr=cx gw=- fr=-"},
    {64, "ff 18", "kind=CALLOUT op=CALL_FAR"},
    {64, "48 ff 28", "op=JMP_FAR os=8"},
    {64, "cb", "op=RET_FAR"},
    {64, "48 cf", "op=IRET os=8"},
    {64, "cf", "op=IRET os=4"},
    {64, "cd 80", "op=INT_N imm=128"},
    {64, "cc", "op=INT3"},
    {64, "f1", "op=INT1"},
    {64, "0f 05", "op=SYSCALL feat=SYSCALL"},
    {64, "48 0f 07", "op=SYSRET os=8"},
    {64, "0f 34", "op=SYSENTER feat=SEP"},
    {64, "0f 0b", "op=UD len=2"},
    {64, "0f b9 c0", "op=UD len=3"},
    {32, "e8 00 00 00 00", "kind=CALL_REL os=4"},
    {32, "66 e8 00 80", "kind=CALL_REL os=2 imm=-32768 len=4 eff=1"},
    {32, "9a 78 56 34 12 cd ab", "op=CALL_FAR imm=0x12345678 immsize=6 immoff=1"},
    {32, "66 ea 34 12 cd ab", "op=JMP_FAR imm=0x1234 immsize=4 os=2"},
    {32, "ce", "op=INTO"},
    {32, "ff 20", "kind=JMP_IND os=4 size=4"},
    {32, "66 ff 20", "kind=JMP_IND os=2 size=2"},
    {32, "67 e3 10", "kind=LOOP as=2 os=4"},
    {16, "e9 00 80", "kind=JMP_REL os=2 imm=-32768"},
    {16, "66 e9 00 00 00 80", "kind=JMP_REL os=4"},
    {16, "66 cf", "op=IRET os=4"},
    {16, "66 c3", "kind=RET os=4"},
    {16, "ca 04 00", "op=RET_FAR imm=4 os=2"},
};

static const struct row system_rows[] = {
    {64, "8e d8", "kind=CALLOUT op=MOV_TO_SEG reg=3 rm=0"},
    {64, "8c d8", "op=MOV_FROM_SEG reg=3 rm=0"},
    {32, "8c 18", "op=MOV_FROM_SEG size=2 acc=w"},
    {64, "0f 22 d8", "op=MOV_TO_CR reg=3 rm=0 os=8 fields=m"},
    {64, "44 0f 20 c0", "op=MOV_FROM_CR reg=8"},
    {32, "0f 20 00", "op=MOV_FROM_CR len=3 mem=no"},               /* mod is ignored */
    {64, "0f 23 f8", "op=MOV_TO_DR reg=7"},
    {64, "0f 21 f8", "op=MOV_FROM_DR"},
    {64, "fa", "kind=CLI op=CLI class=callout"},
    {64, "fb", "kind=STI op=STI class=callout"},
    {64, "f4", "op=HLT"},
    {64, "ec", "op=IN os=1"},
    {64, "66 ed", "op=IN os=2"},
    {64, "48 ed", "op=IN os=4"},
    {64, "e7 ff", "op=OUT os=4 imm=255"},
    {64, "f3 48 6d", "op=INS os=4 gr=cx,dx,di gw=cx,di fr=D"},
    {64, "6f", "op=OUTS os=4 seg=ds"},
    {32, "64 6e", "op=OUTS os=1 seg=fs"},
    {64, "0f 01 10", "op=LGDT"},
    {64, "0f 01 18", "op=LIDT"},
    {64, "0f 01 00", "op=SGDT"},
    {64, "0f 01 08", "op=SIDT"},
    {64, "0f 00 d0", "op=LLDT"},
    {64, "0f 00 d8", "op=LTR"},
    {64, "0f 00 c0", "op=SLDT"},
    {64, "0f 00 c8", "op=STR"},
    {64, "0f 00 e0", "op=VERR"},
    {64, "0f 00 e8", "op=VERW"},
    {64, "0f 02 c0", "op=LAR"},
    {64, "0f 03 c0", "op=LSL"},
    {32, "63 c0", "op=ARPL"},
    {64, "0f 01 e0", "op=SMSW"},
    {64, "0f 01 f0", "op=LMSW"},
    {64, "0f 06", "op=CLTS"},
    {64, "0f 01 38", "op=INVLPG acc=- size=0 mem=ax feat=486"},
    {64, "66 0f 38 82 00", "op=INVPCID feat=INVPCID"},
    {64, "0f 08", "op=WBINVD"},
    {64, "0f 09", "op=WBINVD"},
    {64, "f3 0f 09", "op=WBINVD len=3"},
    {64, "0f 30", "op=WRMSR feat=MSR"},
    {64, "0f 32", "op=RDMSR feat=MSR"},
    {64, "0f 31", "op=RDTSC feat=TSC"},
    {64, "0f 01 f9", "op=RDTSCP feat=RDTSCP"},
    {64, "0f 33", "op=RDPMC"},
    {64, "f3 0f c7 f8", "op=RDPID feat=RDPID"},
    {64, "0f a2", "op=CPUID feat=486"},
    {64, "0f 01 d0", "op=XGETBV feat=XSAVE"},
    {64, "0f 01 d1", "op=XSETBV"},
    {64, "f3 48 0f ae c0", "op=RDFSGSBASE feat=FSGSBASE"},
    {64, "f3 48 0f ae d8", "op=WRFSGSBASE"},
    {64, "0f 01 f8", "op=SWAPGS"},
    {64, "0f 01 ca", "op=CLAC_STAC feat=SMAP"},
    {64, "0f 01 c8", "op=MONITOR"},
    {64, "0f 01 c9", "op=MWAIT"},
    {64, "0f aa", "op=RSM"},
    {64, "0f 01 c1", "op=VMCALL"},
    {64, "0f 01 d9", "op=VMCALL"},
    {32, "62 00", "op=BOUND size=8"},
    {32, "37", "op=AAA"},
    {32, "3f", "op=AAS"},
    {32, "d4 0a", "op=AAM imm=10"},
    {32, "d5 0a", "op=AAD"},
    {32, "27", "op=DAA"},
    {32, "2f", "op=DAS"},
    {32, "d6", "op=SALC"},
    {32, "0f b2 20", "op=LOAD_FAR_POINTER reg=4"},
    {64, "48 0f b4 00", "op=LOAD_FAR_POINTER size=10 os=8"},
};

static const struct row string_rows[] = {
    {64, "a4", "kind=STRING op=MOVS os=1 gr=si,di gw=si,di fr=D mem=no seg=ds class=memory"},
    {64, "f3 48 a5", "op=MOVS os=8 gr=cx,si,di gw=cx,si,di"},
    {64, "f3 64 67 a5", "op=MOVS os=4 as=4 seg=fs"},
    {32, "26 a5", "op=MOVS seg=es"},
    {64, "f3 aa", "op=STOS gr=ax,cx,di gw=cx,di fr=D fw=-"},
    {64, "48 ad", "op=LODS gr=si gw=ax,si os=8"},
    {64, "ac", "op=LODS gr=ax,si gw=ax,si os=1"},
    {64, "ae", "op=SCAS gr=ax,di gw=di fw=CPAZSO fm=- fr=D"},
    {64, "f2 ae", "op=SCAS gr=ax,cx,di gw=cx,di fw=- fm=CPAZSO"},
    {64, "f3 a6", "op=CMPS gr=cx,si,di gw=cx,si,di fw=- fm=CPAZSO"},
    {64, "48 a7", "op=CMPS gr=si,di gw=si,di os=8 fw=CPAZSO"},
    {64, "d7", "kind=XLAT gr=ax,bx gw=ax os=1 seg=ds"},
    {64, "65 d7", "kind=XLAT seg=gs"},
    {16, "2e d7", "kind=XLAT seg=cs as=2"},
};

static const struct row flag_rows[] = {
    {64, "d3 e0", "fw=- fm=CPAZSO fr=- gr=ax,cx gw=ax"},
    {64, "d1 e0", "fw=CPAZSO fm=-"},
    {64, "c1 e0 05", "fw=CPAZSO fm=-"},
    {64, "c1 e0 00", "fw=- fm=-"},
    {64, "c1 e0 20", "fw=- fm=-"},                     /* masked to 5 bits: 0 */
    {64, "48 c1 e0 20", "fw=CPAZSO"},                  /* masked to 6 bits: 32 */
    {64, "48 c1 e0 40", "fw=- fm=-"},
    {64, "c1 c0 05", "fw=CO fm=-"},
    {64, "d3 c0", "fw=- fm=CO"},
    {64, "c1 d0 05", "fr=C fw=CO"},
    {64, "c1 d0 20", "fr=- fw=- fm=-"},
    {64, "c0 d0 09", "fr=C fw=- fm=CO"},
    {64, "66 c1 d0 11", "fr=C fw=- fm=CO"},
    {64, "d3 d0", "fr=C fw=- fm=CO"},
    {64, "0f a5 c1", "fw=- fm=CPAZSO"},
    {64, "0f a4 c1 20", "fw=- fm=-"},
    {64, "0f a4 c1 01", "fw=CPAZSO"},
    {64, "ff c0", "fw=PAZSO fr=-"},
    {64, "f7 d0", "fw=- fr=-"},
    {64, "f7 d8", "fw=CPAZSO"},
    {64, "11 c0", "fr=C fw=CPAZSO"},
    {64, "19 c0", "fr=C fw=CPAZSO"},
    {64, "85 c0", "fw=CPAZSO gw=-"},
    {64, "31 c0", "fw=CPAZSO gw=ax"},
    {64, "f7 e1", "fw=CO fm=PAZS gr=ax,cx gw=ax,dx"},
    {64, "f7 f1", "fw=- fm=CPAZSO gr=ax,cx,dx gw=ax,dx"},
    {64, "f6 f1", "gr=ax,cx gw=ax"},
    {64, "0f af c1", "fw=CO fm=PAZS gr=ax,cx gw=ax"},
    {64, "0f a3 c8", "fw=C fm=PASO gr=ax,cx gw=-"},       /* BT leaves ZF alone */
    {64, "0f ba e0 05", "fw=C fm=PASO gr=ax"},
    {64, "f5", "fr=C fw=C"},
    {64, "f8", "fr=- fw=C"},
    {64, "fc", "fw=D"},
    {64, "fd", "fw=D"},
    {64, "9f", "fr=CPAZS fw=- gw=ax gr=ax feat=LAHF64"},
    {64, "9e", "fr=- fw=CPAZS gr=ax gw=- feat=LAHF64"},
    {32, "9f", "feat=BASE"},
    {64, "0f 92 c0", "fr=C cc=2"},
    {64, "0f 97 c0", "fr=CZ cc=7"},
    {64, "0f 9f c0", "fr=ZSO cc=15"},
    {64, "0f 9a c0", "fr=P cc=10"},
    {64, "f0 0f b1 0a", "fw=CPAZSO gr=ax,cx,dx gw=ax acc=rw pfx=1 feat=486"},
    {64, "0f c1 c8", "gr=ax,cx gw=ax,cx fw=CPAZSO"},
    {64, "87 c8", "gr=ax,cx gw=ax,cx fw=-"},
    {64, "0f 2e c1", "fw=CPAZSO fpu=SSE"},
    {64, "66 0f 38 17 c1", "fw=CPAZSO feat=SSE41"},
    {64, "da c1", "fr=C fpu=X87 feat=CMOV"},
    {64, "db f1", "fpu=X87 feat=CMOV"},
    {64, "98", "gr=ax gw=ax fw=-"},
    {64, "48 99", "gr=ax gw=dx"},
};

static const struct row fpu_rows[] = {
    {64, "d9 e8", "kind=COPY class=identity fpu=X87 feat=FPU eff=0"},
    {64, "dd 00", "class=memory fpu=X87 size=8 acc=r gr=ax"},
    {64, "db 28", "size=10 acc=r"},
    {64, "df e0", "kind=COPY fpu=X87 gw=ax"},
    {64, "d9 38", "kind=COPY fpu=X87 acc=w size=2"},
    {64, "dd 38", "kind=COPY acc=w size=2"},
    {64, "d9 28", "kind=COPY acc=r size=2"},
    {64, "9b", "kind=COPY fpu=WAIT"},
    {64, "db e3", "kind=COPY fpu=X87"},
    {64, "dd 30", "op=FNSAVE fpu=X87 eff=1"},
    {64, "dd 20", "op=FRSTOR"},
    {64, "d9 30", "op=FNSTENV size=28"},
    {32, "66 d9 30", "op=FNSTENV size=14 os=2"},
    {64, "d9 20", "op=FLDENV"},
    {64, "dd 08", "kind=COPY feat=SSE3 fpu=X87 acc=w size=8"},
    {64, "0f ae 00", "op=FXSAVE fpu=FXSAVE feat=FXSR"},
    {64, "48 0f ae 08", "op=FXRSTOR fpu=FXSAVE"},
    {64, "0f ae 20", "op=XSAVE fpu=NONE feat=XSAVE"},
    {64, "0f ae 28", "op=XRSTOR"},
    {64, "0f ae 30", "op=XSAVE feat=XSAVEOPT"},
    {64, "0f c7 20", "op=XSAVE feat=XSAVEC"},
    {64, "0f ae 10", "kind=COPY fpu=SSE feat=SSE acc=r size=4"},
    {64, "0f ae 18", "kind=COPY acc=w size=4"},
    {64, "0f ae e8", "kind=COPY fpu=NONE feat=SSE2 class=identity"},
    {64, "0f ae f8", "kind=COPY fpu=NONE feat=SSE"},
    {64, "0f ae 38", "kind=COPY class=memory size=1 acc=r feat=CLFSH fpu=NONE"},
    {64, "66 0f ae 38", "kind=COPY size=1 acc=r feat=CLFLUSHOPT mand=0x66 eff=0"},
    {64, "66 0f ae 30", "kind=COPY size=1 acc=r feat=CLWB"},
    {64, "0f 77", "fpu=MMX feat=MMX kind=COPY"},
    {64, "0f fc c1", "fpu=MMX feat=MMX"},
    {64, "66 0f fc c1", "fpu=SSE feat=SSE2"},
    {64, "0f d4 c1", "fpu=MMX feat=SSE2"},
    {64, "0f e0 c1", "fpu=MMX feat=SSE"},
    {64, "66 0f e0 c1", "fpu=SSE feat=SSE2"},
    {64, "0f 70 c1 00", "fpu=MMX feat=SSE"},
    {64, "0f d7 c1", "fpu=MMX feat=SSE gw=ax fields=r"},
    {64, "66 0f d7 c1", "fpu=SSE feat=SSE2"},
    {64, "0f 38 00 c1", "fpu=MMX feat=SSSE3"},
    {64, "66 0f 38 00 c1", "fpu=SSE feat=SSSE3"},
    {64, "0f 2a 00", "fpu=SSE feat=SSE"},
    {64, "0f 2d 00", "fpu=SSE feat=SSE"},               /* MMX destination, but OSFXSR counts */
    {64, "0f f7 c1", "op=MASKMOV fpu=MMX feat=SSE seg=ds"},
    {64, "66 0f f7 c1", "op=MASKMOV fpu=SSE feat=SSE2"},
    {64, "66 0f 38 dc c1", "feat=AES fpu=SSE"},
    {64, "66 0f 3a 44 c1 00", "feat=PCLMULQDQ fpu=SSE"},
    {64, "0f 38 cb c1", "feat=SHA fpu=SSE"},
    {64, "66 0f 38 cf c1", "feat=GFNI fpu=SSE"},
    {64, "66 0f 38 37 c1", "feat=SSE42 fpu=SSE"},
    {64, "0f c7 f8", "feat=RDSEED kind=COPY"},
};

static const struct row hint_rows[] = {
    {64, "0f 1f 44 00 00", "kind=NOP class=identity mem=ax+ax acc=- size=0 gr=- gw=- len=5"},
    {64, "66 2e 0f 1f 84 00 00 00 00 00", "kind=NOP len=10"},
    {64, "66 66 2e 0f 1f 84 00 00 00 00 00", "kind=NOP len=11"},
    {64, "0f 18 08", "kind=NOP acc=- feat=CMOV"},
    {32, "0f 18 38", "kind=NOP acc=- feat=CMOV"}, /* hint NOPs came with the P6 */
    {32, "0f 1f 00", "kind=NOP acc=- feat=CMOV"},
    {32, "0f 33", "feat=CMOV"}, /* RDPMC, too */
    {32, "f3 90", "feat=BASE"},
    {64, "0f 0d 08", "kind=NOP acc=- feat=LM"},
    {64, "f3 0f 1e fa", "kind=NOP feat=CMOV"},
    {32, "f3 0f 1e fb", "kind=NOP"},
    {64, "f3 48 0f 1e c8", "kind=NOP gw=- gr=-"},      /* RDSSPQ without CET */
    {64, "0f 1c 00", "kind=NOP acc=-"},
    {64, "0f 1a c0", "kind=NOP"},                      /* BND* without MPX */
    {64, "f3 0f 1b 00", "kind=NOP"},
    {64, "f2 e8 00 00 00 00", "kind=CALL_REL len=6"},  /* BND prefix without MPX */
    {64, "8d 44 24 08", "kind=COPY class=identity mem=sp disp=8 acc=- gr=sp gw=ax"},
};

static const struct row never_rows[] = {
    {64, "c7 f8 00 00 00 00", "op=UD kind=CALLOUT"},   /* XBEGIN */
    {64, "0f 01 d5", "op=UD"},                         /* XEND */
    {64, "0f 01 ee", "op=UD"},                         /* RDPKRU */
    {64, "0f 01 fc", "op=UD"},                         /* CLZERO */
    {64, "0f 01 d8", "op=UD"},                         /* VMRUN */
    {64, "0f 78 c0", "op=UD"},                         /* VMREAD */
    {64, "0f c7 28", "op=UD"},                         /* XSAVES is /5 */
    {64, "0f 37", "op=UD"},                            /* GETSEC */
    {64, "f3 0f 01 e8", "op=UD"},                      /* SETSSBSY */
    {64, "0f 38 f6 00", "op=UD"},                      /* WRSS */
    {64, "f3 0f ae f0", "op=UD"},                      /* UMONITOR */
    {64, "0f 38 f9 08", "op=UD"},                      /* MOVDIRI */
    {64, "c5 f8 92 c0", "op=UD"},                      /* KMOV */
};
/* clang-format on */

static void run_rows(const struct row *rows, size_t count)
{
    int failures = 0;

    for (size_t i = 0; i < count; i++) {
        uint8_t bytes[32];
        size_t size = expect_bytes(rows[i].hex, bytes, sizeof(bytes));
        struct insn insn;
        enum insn_status status = insn_decode(&insn, bytes, size, rows[i].bits);
        int bad = status != INSN_OK || insn.len != size || memcmp(insn.bytes, bytes, size) != 0;
        if (expect_insn(&insn, rows[i].expect) != 0 || bad) {
            fprintf(stderr, "%u-bit %s: status %d, len %u of %zu\n", rows[i].bits, rows[i].hex,
                    status, insn.len, size);
            failures++;
        }
    }
    assert_int_equal(failures, 0);
}

#define ROWS_TEST(name)                                                                            \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        run_rows(name##_rows, sizeof(name##_rows) / sizeof(name##_rows[0]));                       \
    }
ROWS_TEST(layout)
ROWS_TEST(mandatory)
ROWS_TEST(vex)
ROWS_TEST(stack)
ROWS_TEST(control)
ROWS_TEST(system)
ROWS_TEST(string)
ROWS_TEST(flag)
ROWS_TEST(fpu)
ROWS_TEST(hint)

static void test_never(void **state)
{
    (void)state;
    run_rows(never_rows, sizeof(never_rows) / sizeof(never_rows[0]));
    for (size_t i = 0; i < sizeof(never_rows) / sizeof(never_rows[0]); i++) {
        uint8_t bytes[16];
        struct insn insn;
        size_t size = expect_bytes(never_rows[i].hex, bytes, sizeof(bytes));
        insn_decode(&insn, bytes, size, 64);
        assert_int_equal(insn.feature, FEAT_NEVER);
    }
}

struct status_row {
    unsigned bits;
    const char *hex;
    enum insn_status status;
    unsigned len;
};

static const struct status_row status_rows[] = {
    {64, "", INSN_NEED_MORE, 0},
    {64, "48", INSN_NEED_MORE, 0},
    {64, "66 66", INSN_NEED_MORE, 0},
    {64, "e8 00 00 00", INSN_NEED_MORE, 0},
    {64, "0f", INSN_NEED_MORE, 0},
    {64, "8b 44", INSN_NEED_MORE, 0},
    {16, "c8 00 00", INSN_NEED_MORE, 0},
    /* 14 prefixes and a one-byte opcode fit, one more does not */
    {64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", INSN_OK, 15},
    {64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", INSN_TOO_LONG, 15},
    {64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66", INSN_TOO_LONG, 15},
    {64, "2e 2e 2e 2e 2e 2e 2e 2e 2e 2e e8 00 00 00 00 00", INSN_OK, 15},
    {64, "2e 2e 2e 2e 2e 2e 2e 2e 2e 2e 2e e8 00 00 00 00", INSN_TOO_LONG, 15},
    /* 64-bit mode dropped these */
    {64, "06", INSN_INVALID, 1},
    {64, "60", INSN_INVALID, 1},
    {64, "27", INSN_INVALID, 1},
    {64, "9a 00 00 00 00 00 00", INSN_INVALID, 1},
    {64, "d6", INSN_INVALID, 1},
    {64, "ce", INSN_INVALID, 1},
    /* LOCK: only read-modify-write with a memory destination (SDM vol. 2, LOCK) */
    {64, "f0 01 00", INSN_OK, 3},
    {64, "f0 01 c0", INSN_INVALID, 2},
    {64, "f0 8b 00", INSN_INVALID, 2},
    {64, "f0 39 00", INSN_INVALID, 2},
    {64, "f0 90", INSN_INVALID, 2},
    {64, "f0 0f 0b", INSN_INVALID, 3},
    {64, "f0 0f c7 08", INSN_OK, 4},
    {64, "f0 0f ba 28 00", INSN_OK, 5},
    {64, "f0 0f ba 20 00", INSN_INVALID, 3},
    /* no such register */
    {64, "8e c8", INSN_INVALID, 1}, /* MOV CS */
    {64, "8e f0", INSN_INVALID, 1},
    {64, "8c f0", INSN_INVALID, 1},
    {64, "0f 22 c8", INSN_INVALID, 2}, /* CR1 */
    {64, "0f 20 f8", INSN_INVALID, 2}, /* CR7 */
    {64, "0f 24 c0", INSN_INVALID, 2}, /* TR */
    /* register form where only memory exists, and the other way round */
    {64, "8d c0", INSN_INVALID, 1},
    {64, "0f 00 f0", INSN_INVALID, 2},
    {64, "0f c7 c8", INSN_INVALID, 2},
    {32, "c4 c0 00 00 00", INSN_INVALID, 1},
    /* prefixes that VEX forbids */
    {64, "66 c5 f8 77", INSN_INVALID, 2},
    {64, "48 c5 f8 77", INSN_INVALID, 2},
    {64, "f0 c5 f8 77", INSN_INVALID, 2},
    {64, "0f 04", INSN_INVALID, 2},
    {64, "0f 38 0f c0", INSN_INVALID, 3},
    {64, "66 0f c3 00", INSN_INVALID, 3},
    {64, "ff f8", INSN_INVALID, 1},
    {64, "fe d0", INSN_INVALID, 1},
};

static void test_status(void **state)
{
    int failures = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(status_rows) / sizeof(status_rows[0]); i++) {
        const struct status_row *row = &status_rows[i];
        uint8_t bytes[32];
        struct insn insn;
        size_t size = expect_bytes(row->hex, bytes, sizeof(bytes));
        enum insn_status status = insn_decode(&insn, bytes, size, row->bits);
        int bad = status != row->status || insn.len != row->len;
        if (row->status == INSN_INVALID || row->status == INSN_TOO_LONG)
            bad |= insn.kind != KIND_CALLOUT || insn.op != OP_UD || insn.class != INSN_CALLOUT;
        if (bad) {
            fprintf(stderr, "%u-bit %s: status %d (expected %d), len %u (expected %u)\n", row->bits,
                    row->hex, status, row->status, insn.len, row->len);
            failures++;
        }
    }
    assert_int_equal(failures, 0);
}

static void test_format(void **state)
{
    const uint8_t add[] = {0x48, 0x01, 0x44, 0x8b, 0x10};
    const uint8_t jump[] = {0xeb, 0xfe};
    const uint8_t bad[] = {0x06};
    char text[64], tiny[4];
    struct insn insn;

    (void)state;
    assert_string_equal(insn_format(text, sizeof(text), add, sizeof(add), 0, 64),
                        "add qword ptr [rbx + rcx*4 + 0x10], rax");
    assert_string_equal(insn_format(text, sizeof(text), jump, sizeof(jump), 0x7c00, 16),
                        "jmp 0x7c00");
    assert_string_equal(insn_format(text, sizeof(text), bad, sizeof(bad), 0, 64), "(bad)");
    assert_string_equal(insn_format(tiny, sizeof(tiny), add, sizeof(add), 0, 64), "add");
    insn_decode(&insn, (const uint8_t[]){0x0f, 0x22, 0xd8}, 3, 64);
    assert_string_equal(insn_mnemonic_name(&insn), "MOV CRn, r");
    insn_decode(&insn, (const uint8_t[]){0x01, 0xd8}, 2, 64);
    assert_string_equal(insn_mnemonic_name(&insn), "add");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),  cmocka_unit_test(test_mandatory),
        cmocka_unit_test(test_vex),     cmocka_unit_test(test_stack),
        cmocka_unit_test(test_control), cmocka_unit_test(test_system),
        cmocka_unit_test(test_string),  cmocka_unit_test(test_flag),
        cmocka_unit_test(test_fpu),     cmocka_unit_test(test_hint),
        cmocka_unit_test(test_never),   cmocka_unit_test(test_status),
        cmocka_unit_test(test_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
