/* Offsets in struct native_context, for the assembler; native.c checks them. */
#ifndef VD_TESTS_INSN_NATIVE_LAYOUT_H
#define VD_TESTS_INSN_NATIVE_LAYOUT_H

#define NC_XSAVE      0
#define NC_GPR        832
#define NC_RFLAGS     968
#define NC_FS_BASE    976
#define NC_GS_BASE    984
#define NC_TARGET     1024
#define NC_TAIL       1040
#define NC_HOST_RSP   1048
#define NC_HOST_FS    1056
#define NC_HOST_SS    1064
#define NC_HOST_MXCSR 1068
#define NC_MODE       1072
#define NC_SEL_ES     1076
#define NC_SEL_SS     1080
#define NC_SEL_DS     1082
#define NC_SEL_FS     1084
#define NC_SEL_GS     1086
#define NC_STACK      1088
#define NC_STACK_END  1216

#endif
