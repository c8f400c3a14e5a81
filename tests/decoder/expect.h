/*
 * Expectations about a decoded instruction as text, so that a test row reads like a line of the
 * manual: "key=value key=value ...". Only the keys that appear are checked.
 *
 *   len os as cc map opc rm reg disp dispsize imm immsize immoff sib modrm rex pfx   numbers
 *   feat= enum x86_feature without FEAT_
 *   class= identity memory control callout      kind= COPY PUSH ...      op= UD MOV_TO_SEG ...
 *   fpu= NONE X87 WAIT MMX SSE AVX FXSAVE       eff= 0 1 (66 acts as operand-size override)
 *   mand= 0 0x66 0xf2 0xf3                      enc= legacy vex evex xop 3dnow
 *   fields= letters of r(eg) m(rm) o(pcode) v(vvv) h(igh8), or -
 *   gr= gw=  registers read and written: ax,cx,dx,bx,sp,bp,si,di,r8..r15, or -
 *   fr= fw= fm=  flags read, written, maybe written: letters of C P A Z S D O, or -
 *   mem= base+index*scale, with - for none ("-", "ax", "bx+si", "-+cx*4", "rip", "no": no operand)
 *   seg= es cs ss ds fs gs    acc= r w rw -     size= bytes     vsib= 0 1     w= l= pp= v=  VEX
 */
#ifndef VD_TESTS_DECODER_EXPECT_H
#define VD_TESTS_DECODER_EXPECT_H

#include "decoder/insn.h"

/* Decodes hex text (spaces allowed) into bytes; returns how many. */
size_t expect_bytes(const char *hex, uint8_t *bytes, size_t size);
/* Returns 0, or -1 and prints what differs. */
int expect_insn(const struct insn *insn, const char *expectation);

#endif
