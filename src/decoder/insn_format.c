#include <Zydis/Zydis.h>
#include <capstone/capstone.h>

#include <stdio.h>

#include "decoder/insn.h"
#include "decoder/insn_table.h"

const char *insn_format(char *text, size_t size, const uint8_t *bytes, size_t len, uint64_t pc,
                        unsigned bits)
{
    csh handle;
    cs_insn *insn = NULL;
    cs_mode mode = bits == 64 ? CS_MODE_64 : bits == 32 ? CS_MODE_32 : CS_MODE_16;

    if (size == 0)
        return text;
    snprintf(text, size, "(bad)");
    if (cs_open(CS_ARCH_X86, mode, &handle) != CS_ERR_OK)
        return text;
    if (cs_disasm(handle, bytes, len, pc, 1, &insn) == 1) {
        snprintf(text, size, "%s%s%s", insn->mnemonic, insn->op_str[0] ? " " : "", insn->op_str);
        cs_free(insn, 1);
    }
    cs_close(&handle);
    return text;
}

const char *insn_mnemonic_name(const struct insn *insn)
{
    struct insn_key key = {
        .mnemonic = insn->mnemonic,
        .map = insn->map,
        .opcode = insn->opcode,
        .digit = (insn->modrm >> 3) & 7,
        .bits = insn->mode,
    };
    const struct insn_row *row = insn_row_find(&key);
    const char *name;

    if (row)
        return row->text;
    name = ZydisMnemonicGetString((ZydisMnemonic)insn->mnemonic);
    return name ? name : "(undefined)";
}

const char *insn_class_name(enum insn_class class)
{
    switch (class) {
    case INSN_IDENTITY:
        return "identity";
    case INSN_MEMORY:
        return "memory";
    case INSN_CONTROL:
        return "control";
    case INSN_CALLOUT:
        return "callout";
    }
    return "?";
}
