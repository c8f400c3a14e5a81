/* Regions: discovery, splitting, ends, limits, unreadable and wrapping code. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "prescan/prescan.h"

enum { ARITH = 0x8d5, CF = 1, ZF = 0x40 };

/* Code at base; everything else is unreadable. */
struct image {
    uint64_t base;
    uint8_t bytes[0x3000];
    size_t size;
    uint64_t highest; /* highest byte that was asked for */
};

static size_t fetch(void *ctx, uint64_t ip, uint8_t *buffer, size_t size)
{
    struct image *image = ctx;
    uint64_t offset = ip - image->base;

    assert_true(size > 0);
    if (ip + size - 1 > image->highest)
        image->highest = ip + size - 1;
    if (offset >= image->size)
        return 0;
    if (size > image->size - offset)
        size = image->size - (size_t)offset;
    memcpy(buffer, image->bytes + offset, size);
    return size;
}

static void put(struct image *image, uint64_t ip, const char *hex)
{
    size_t at = (size_t)(ip - image->base);

    for (; *hex; hex++) {
        if (*hex == ' ')
            continue;
        char digits[3] = {hex[0], hex[1], 0};
        image->bytes[at++] = (uint8_t)strtoul(digits, NULL, 16);
        hex++;
    }
    if (at > image->size)
        image->size = at;
}

static struct prescan_params params_for(struct image *image, unsigned bits)
{
    return (struct prescan_params){
        .fetch = fetch,
        .fetch_ctx = image,
        .bits = bits,
        .entry = image->base,
        .low = 0,
        .high = UINT64_MAX,
        .max_blocks = 32,
        .max_block_insns = 64,
        .max_insns = 256,
    };
}

static void run(struct prescan_region *region, const struct prescan_params *params)
{
    memset(region, 0, sizeof(*region));
    assert_int_equal(prescan_run(region, params), 0);
    assert_true(region->block_count >= 1);
    assert_int_equal(region->blocks[0].ip, params->entry);
}

static const struct prescan_block *block_at(const struct prescan_region *region, uint64_t ip)
{
    for (unsigned i = 0; i < region->block_count; i++)
        if (region->blocks[i].ip == ip)
            return &region->blocks[i];
    fail_msg("no block at %#llx", (unsigned long long)ip);
    return NULL;
}

static int32_t index_at(const struct prescan_region *region, uint64_t ip)
{
    return (int32_t)(block_at(region, ip) - region->blocks);
}

static void test_diamond(void **state)
{
    struct image image = {.base = 0x1000};
    struct prescan_params params = params_for(&image, 32);
    struct prescan_region region;

    (void)state;
    /* cmp eax,ebx; jz 100b; mov eax,1; jmp 1010 | 100b: mov eax,2 | 1010: ret */
    put(&image, 0x1000, "39 d8 74 07 b8 01 00 00 00 eb 05 b8 02 00 00 00 c3");
    run(&region, &params);
    assert_int_equal(region.block_count, 4);
    const struct prescan_block *head = block_at(&region, 0x1000);
    assert_int_equal(head->end, END_BRANCH);
    assert_int_equal(head->count, 2);
    assert_int_equal(head->bytes, 4);
    assert_int_equal(head->target, 0x100b);
    assert_int_equal(head->taken, index_at(&region, 0x100b));
    assert_int_equal(head->fall, index_at(&region, 0x1004));
    assert_int_equal(block_at(&region, 0x1004)->end, END_JUMP);
    assert_int_equal(block_at(&region, 0x1004)->taken, index_at(&region, 0x1010));
    assert_int_equal(block_at(&region, 0x1004)->fall, -1);
    /* the jump target was decoded first or last: either way one block ends where it starts */
    assert_int_equal(block_at(&region, 0x100b)->end, END_LIMIT);
    assert_int_equal(block_at(&region, 0x100b)->count, 1);
    assert_int_equal(block_at(&region, 0x100b)->fall, index_at(&region, 0x1010));
    assert_int_equal(block_at(&region, 0x1010)->end, END_RETURN);
    for (unsigned i = 0; i < 4; i++)
        assert_false(region.blocks[i].is_loop_head);
    /* RET: nobody knows who reads the flags */
    assert_int_equal(block_at(&region, 0x1010)->flags_live_in, ARITH);
    prescan_region_free(&region);
    assert_null(region.blocks);
}

static void test_loop_splits_block(void **state)
{
    struct image image = {.base = 0x1000};
    struct prescan_params params = params_for(&image, 64);
    struct prescan_region region;

    (void)state;
    /* xor eax,eax; mov ecx,10 | 1007: add eax,ecx; dec ecx; jnz 1007 | ret */
    put(&image, 0x1000, "31 c0 b9 0a 00 00 00 01 c8 ff c9 75 fa c3");
    run(&region, &params);
    assert_int_equal(region.block_count, 3);
    assert_int_equal(region.insn_count, 6); /* split, not decoded twice */
    const struct prescan_block *head = block_at(&region, 0x1000), *loop = block_at(&region, 0x1007);
    assert_int_equal(head->end, END_LIMIT);
    assert_int_equal(head->count, 2);
    assert_int_equal(head->bytes, 7);
    assert_false(head->has_target);
    assert_int_equal(head->fall, index_at(&region, 0x1007));
    assert_true(loop->is_loop_head);
    assert_int_equal(loop->count, 3);
    assert_int_equal(loop->bytes, 6);
    assert_int_equal(loop->end, END_BRANCH);
    assert_int_equal(loop->taken, index_at(&region, 0x1007));
    assert_int_equal(loop->fall, index_at(&region, 0x100d));
    assert_int_equal(region.insns[loop->first].bytes[0], 0x01);
    /* ADD writes all, so nothing is live at the top; DEC keeps CF, which RET exposes */
    assert_int_equal(loop->flags_live_in, 0);
    assert_int_equal(head->flags_live_out, 0);
    assert_int_equal(prescan_flags_live(&region, loop, 0), 0);
    assert_int_equal(prescan_flags_live(&region, loop, 1), CF);
    assert_int_equal(prescan_flags_live(&region, loop, 2), ARITH);
    assert_int_equal(prescan_flags_live(&region, loop, 3), loop->flags_live_out);
    prescan_region_free(&region);
}

static void test_jump_into_instruction(void **state)
{
    struct image image = {.base = 0x1000};
    struct prescan_params params = params_for(&image, 32);
    struct prescan_region region;

    (void)state;
    /* mov eax, 0x90c390 ; jmp 1001: the immediate is code, too */
    put(&image, 0x1000, "b8 90 c3 90 90 eb fa");
    run(&region, &params);
    const struct prescan_block *inner = block_at(&region, 0x1001);
    assert_int_equal(inner->count, 2);
    assert_int_equal(inner->end, END_RETURN);
    assert_int_equal(region.blocks[0].taken, index_at(&region, 0x1001));
    assert_int_equal(region.blocks[0].count, 2);
    prescan_region_free(&region);
}

static void test_calls(void **state)
{
    struct image image = {.base = 0x1000};
    struct prescan_params params = params_for(&image, 32);
    struct prescan_region region;

    (void)state;
    put(&image, 0x1000, "e8 fb 0f 00 00 ff d0 ff e0");
    put(&image, 0x2000, "c3");
    run(&region, &params);
    const struct prescan_block *call = block_at(&region, 0x1000);
    assert_int_equal(call->end, END_CALL);
    assert_true(call->has_target);
    assert_int_equal(call->target, 0x2000);
    assert_int_equal(call->taken, -1); /* a function is another region */
    assert_int_equal(call->fall, index_at(&region, 0x1005));
    assert_int_equal(call->flags_live_out, ARITH);
    const struct prescan_block *indirect = block_at(&region, 0x1005);
    assert_int_equal(indirect->end, END_CALL);
    assert_false(indirect->has_target);
    assert_int_equal(block_at(&region, 0x1007)->end, END_INDIRECT);
    assert_int_equal(region.block_count, 3);
    prescan_region_free(&region);
}

static void test_bounds(void **state)
{
    struct image image = {.base = 0x1000};
    struct prescan_params params = params_for(&image, 32);
    struct prescan_region region;

    (void)state;
    put(&image, 0x1000, "74 7e 75 80 90 90 c3");
    params.low = 0x1000;
    params.high = 0x1005;
    run(&region, &params);
    assert_int_equal(block_at(&region, 0x1000)->taken, -1);
    assert_int_equal(block_at(&region, 0x1000)->target, 0x1080);
    assert_int_equal(block_at(&region, 0x1002)->taken, -1);
    const struct prescan_block *last = block_at(&region, 0x1004);
    assert_int_equal(last->count, 1); /* 1005 is beyond the bounds */
    assert_int_equal(last->end, END_LIMIT);
    assert_int_equal(last->fall, -1);
    assert_int_equal(last->flags_live_out, ARITH);
    assert_int_equal(region.block_count, 3);
    prescan_region_free(&region);
}

static void test_limits(void **state)
{
    struct image image = {.base = 0x1000};
    struct prescan_params params = params_for(&image, 32);
    struct prescan_region region;

    (void)state;
    put(&image, 0x1000, "90 90 90 90 90 90 74 f8 90 c3");
    params.max_block_insns = 3;
    run(&region, &params);
    assert_int_equal(block_at(&region, 0x1000)->count, 3);
    assert_int_equal(block_at(&region, 0x1000)->end, END_LIMIT);
    assert_int_equal(block_at(&region, 0x1000)->fall, index_at(&region, 0x1003));
    prescan_region_free(&region);

    params.max_block_insns = 64;
    params.max_blocks = 1;
    run(&region, &params);
    assert_int_equal(region.block_count, 1);
    assert_int_equal(region.blocks[0].count, 7);
    assert_int_equal(region.blocks[0].taken, 0); /* 1000 again: itself */
    assert_int_equal(region.blocks[0].fall, -1);
    prescan_region_free(&region);

    params.max_blocks = 32;
    params.max_insns = 4;
    run(&region, &params);
    assert_int_equal(region.insn_count, 4);
    assert_int_equal(region.block_count, 1); /* nothing empty is left over */
    assert_int_equal(region.blocks[0].end, END_LIMIT);
    prescan_region_free(&region);

    params.max_insns = 1;
    run(&region, &params);
    assert_int_equal(region.insn_count, 1);
    assert_int_equal(region.block_count, 1);
    prescan_region_free(&region);
}

static void test_reuse_keeps_arrays(void **state)
{
    struct image image = {.base = 0x1000};
    struct prescan_params params = params_for(&image, 32);
    struct prescan_region region;

    (void)state;
    put(&image, 0x1000, "90 c3");
    run(&region, &params);
    const struct insn *insns = region.insns;
    assert_int_equal(prescan_run(&region, &params), 0);
    assert_ptr_equal(region.insns, insns);
    assert_int_equal(region.block_count, 1);
    assert_int_equal(region.insn_count, 2);
    prescan_region_free(&region);
}

static void test_interrupt_shadow(void **state)
{
    static const char *const shadowing[] = {"fb", "8e d0", "17", "66 8e d1"};
    struct image image = {.base = 0x1000};
    struct prescan_params params = params_for(&image, 32);
    struct prescan_region region;

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        image.size = 0;
        memset(image.bytes, 0x90, 64);
        put(&image, 0x1000, shadowing[i]);
        image.size = 64;
        run(&region, &params);
        assert_int_equal(region.blocks[0].count, 2); /* and exactly one more */
        assert_int_equal(region.blocks[0].end, END_LIMIT);
        assert_true(region.blocks[0].fall > 0);
        prescan_region_free(&region);
    }
    /* ... whatever the limits, but for single instructions */
    image.size = 0;
    put(&image, 0x1000, "90 fb 90 90 c3");
    params.max_block_insns = 2;
    run(&region, &params);
    assert_int_equal(region.blocks[0].count, 3);
    prescan_region_free(&region);
    params.max_insns = 2;
    run(&region, &params);
    assert_int_equal(region.blocks[0].count, 3);
    prescan_region_free(&region);
    params.max_insns = 1;
    params.entry = 0x1001;
    run(&region, &params);
    assert_int_equal(region.blocks[0].count, 1);
    prescan_region_free(&region);
    /* a branch target behind STI does not cut the pair apart: jz 1003; sti; 1003: nop; nop; jmp
     * 1003 */
    image.size = 0;
    params = params_for(&image, 32);
    put(&image, 0x1000, "74 01 fb 90 90 eb fc");
    run(&region, &params);
    assert_int_equal(block_at(&region, 0x1002)->count, 2);
    assert_int_equal(block_at(&region, 0x1003)->count, 1);
    assert_int_equal(block_at(&region, 0x1004)->end, END_JUMP);
    prescan_region_free(&region);
    /* an endless row of STI is cut */
    memset(image.bytes, 0xfb, sizeof(image.bytes));
    image.size = sizeof(image.bytes);
    run(&region, &params);
    assert_true(region.insn_count <= params.max_insns + 1);
    for (unsigned i = 0; i < region.block_count; i++)
        assert_true(region.blocks[i].count <= 2);
    prescan_region_free(&region);
    /* STI and a jump: the jump ends it */
    image.size = 0;
    put(&image, 0x1000, "fb eb fe");
    run(&region, &params);
    assert_int_equal(region.blocks[0].end, END_JUMP);
    prescan_region_free(&region);
}

static void test_unreadable(void **state)
{
    struct image image = {.base = 0x1000};
    struct prescan_params params = params_for(&image, 32);
    struct prescan_region region;

    (void)state;
    put(&image, 0x1000, "90 74 10 b8 00"); /* MOV cut off, the branch leads into the void */
    run(&region, &params);
    assert_int_equal(block_at(&region, 0x1000)->end, END_BRANCH);
    assert_int_equal(block_at(&region, 0x1000)->taken, -1);
    assert_int_equal(block_at(&region, 0x1000)->fall, -1);
    assert_int_equal(region.block_count, 1); /* an empty block is of no use but as entry */
    prescan_region_free(&region);

    params.entry = 0x1003;
    run(&region, &params);
    assert_int_equal(region.blocks[0].end, END_UNREADABLE);
    assert_int_equal(region.blocks[0].count, 0);
    assert_int_equal(region.blocks[0].flags_live_in, ARITH);
    prescan_region_free(&region);

    image.size = 2;
    image.bytes[1] = 0x90;
    params.entry = 0x1000;
    run(&region, &params);
    assert_int_equal(region.blocks[0].end, END_UNREADABLE);
    assert_int_equal(region.blocks[0].count, 2);
    assert_int_equal(region.blocks[0].bytes, 2);
    prescan_region_free(&region);
}

static void test_pages(void **state)
{
    struct image image = {.base = 0x1000};
    struct prescan_params params = params_for(&image, 32);
    struct prescan_region region;

    (void)state;
    memset(image.bytes, 0x90, sizeof(image.bytes));
    image.size = sizeof(image.bytes);
    /* ends exactly at the page end: the next page is not looked at */
    put(&image, 0x1fff, "c3");
    image.size = sizeof(image.bytes);
    params.entry = 0x1ff0;
    run(&region, &params);
    assert_int_equal(region.blocks[0].count, 16);
    assert_int_equal(image.highest, 0x1fff);
    prescan_region_free(&region);
    /* an instruction that crosses */
    put(&image, 0x1ffd, "b8 78 56 34 12 c3");
    image.size = sizeof(image.bytes);
    params.entry = 0x1ff8;
    run(&region, &params);
    assert_int_equal(region.blocks[0].end, END_RETURN);
    assert_int_equal(region.blocks[0].count, 7);
    assert_int_equal(region.insns[5].imm, 0x12345678);
    prescan_region_free(&region);
    /* the bounds end inside it: it still belongs to the block */
    params.low = 0x1000;
    params.high = 0x2000;
    run(&region, &params);
    assert_int_equal(region.blocks[0].end, END_LIMIT);
    assert_int_equal(region.blocks[0].bytes, 10);
    prescan_region_free(&region);
    /* the second page is not there */
    image.size = 0x1000;
    run(&region, &params);
    assert_int_equal(region.blocks[0].end, END_UNREADABLE);
    assert_int_equal(region.blocks[0].bytes, 5);
    prescan_region_free(&region);
}

static void test_invalid(void **state)
{
    static const struct {
        unsigned bits;
        const char *hex;
        unsigned len;
    } rows[] = {
        {32, "0f 0b", 2}, {64, "06", 1}, {32, "f0 90", 2}, {64, "0f 01 d5", 3}, {32, "0f ff c0", 3},
    };
    struct image image = {.base = 0x1000};
    struct prescan_region region;

    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct prescan_params params = params_for(&image, rows[i].bits);
        image.size = 0;
        memset(image.bytes, 0, 32);
        put(&image, 0x1000, "90");
        put(&image, 0x1001, rows[i].hex);
        image.size = 32;
        run(&region, &params);
        assert_int_equal(region.block_count, 1);
        assert_int_equal(region.blocks[0].end, END_INVALID);
        assert_int_equal(region.blocks[0].count, 2);
        assert_int_equal(region.blocks[0].bytes, 1 + rows[i].len);
        assert_int_equal(region.insns[1].op, OP_UD);
        prescan_region_free(&region);
    }
    struct prescan_params params = params_for(&image, 32);
    memset(image.bytes, 0x66, 32);
    run(&region, &params);
    assert_int_equal(region.blocks[0].end, END_INVALID);
    assert_int_equal(region.blocks[0].bytes, 15);
    prescan_region_free(&region);
}

static void test_wrap(void **state)
{
    struct image image = {.base = 0xfff0};
    struct prescan_params params = params_for(&image, 16);
    struct prescan_region region;

    (void)state;
    params.entry = 0xfff0;
    put(&image, 0xfff0, "e9 1d 00"); /* fff3 + 1d = 10010: 0010 */
    run(&region, &params);
    assert_int_equal(region.blocks[0].target, 0x0010);
    prescan_region_free(&region);

    put(&image, 0xfff0, "66 e9 1d 00 00 00"); /* with operand size 32 the offset is not cut */
    run(&region, &params);
    assert_int_equal(region.blocks[0].target, 0x10013);
    prescan_region_free(&region);

    params.entry = 0xfffe;
    put(&image, 0xfffe, "90 90 90"); /* without a branch the offset is not cut either */
    run(&region, &params);
    assert_int_equal(region.blocks[0].bytes, 3);
    prescan_region_free(&region);

    image.base = 0xfffffff0;
    params = params_for(&image, 32);
    put(&image, 0xfffffff0, "e9 1b 00 00 00");
    run(&region, &params);
    assert_int_equal(region.blocks[0].target, 0x10);
    prescan_region_free(&region);
    put(&image, 0xfffffff0, "66 e9 0c 00"); /* fffffff4 + c = 0, IP is 16 bits */
    run(&region, &params);
    assert_int_equal(region.blocks[0].target, 0);
    prescan_region_free(&region);

    image.base = 0xffffffffffffffef;
    params = params_for(&image, 64);
    params.low = 0;
    params.high = UINT64_MAX;
    put(&image, image.base, "90 eb 0f");
    run(&region, &params);
    assert_int_equal(region.blocks[0].target, 1);
    prescan_region_free(&region);
}

struct end_row {
    unsigned bits;
    uint8_t bytes[6];
    int ends;
    const char *text;
};

static void test_ends_block(void **state)
{
    static const struct end_row rows[] = {
        {32, {0xf4}, 1, "HLT"},
        {32, {0xcf}, 1, "IRET"},
        {32, {0xcd, 0x80}, 1, "INT"},
        {32, {0xcc}, 1, "INT3"},
        {32, {0xce}, 1, "INTO"},
        {64, {0x0f, 0x05}, 1, "SYSCALL"},
        {64, {0x0f, 0x07}, 1, "SYSRET"},
        {64, {0x0f, 0x34}, 1, "SYSENTER"},
        {64, {0x0f, 0x35}, 1, "SYSEXIT"},
        {32, {0xea, 0, 0, 0, 0, 0}, 1, "JMP far (truncated)"},
        {32, {0xcb}, 1, "RETF"},
        {32, {0xff, 0x18}, 1, "CALL m16:32"},
        {32, {0x0f, 0x22, 0xc0}, 1, "MOV CR0"},
        {64, {0x44, 0x0f, 0x22, 0xc0}, 1, "MOV CR8"},
        {32, {0x0f, 0x20, 0xc0}, 0, "MOV from CR0"},
        {32, {0x0f, 0x23, 0xf8}, 1, "MOV DR7"},
        {32, {0x0f, 0x21, 0xf8}, 0, "MOV from DR7"},
        {32, {0x0f, 0x01, 0xf0}, 1, "LMSW"},
        {32, {0x0f, 0x06}, 1, "CLTS"},
        {32, {0x0f, 0x01, 0x38}, 1, "INVLPG"},
        {64, {0x66, 0x0f, 0x38, 0x82, 0x00}, 1, "INVPCID"},
        {32, {0x0f, 0x30}, 1, "WRMSR"},
        {32, {0x0f, 0x32}, 0, "RDMSR"},
        {32, {0x0f, 0x01, 0xd1}, 1, "XSETBV"},
        {32, {0x9d}, 1, "POPF"},
        {32, {0x9c}, 0, "PUSHF"},
        {32, {0x8e, 0xd8}, 1, "MOV DS"},
        {32, {0x8e, 0xe0}, 1, "MOV FS"},
        {32, {0x1f}, 1, "POP DS"},
        {32, {0x0f, 0xb2, 0x20}, 1, "LSS"},
        {32, {0xc5, 0x00}, 1, "LDS"},
        {32, {0x8e, 0xd0}, 0, "MOV SS"},
        {32, {0x17}, 0, "POP SS"},
        {32, {0xfb}, 0, "STI"},
        {32, {0xfa}, 0, "CLI"},
        {64, {0x0f, 0x01, 0xf8}, 0, "SWAPGS"},
        {32, {0x0f, 0x01, 0x10}, 0, "LGDT"},
        {32, {0x0f, 0xa2}, 0, "CPUID"},
        {32, {0x0f, 0x31}, 0, "RDTSC"},
        {32, {0xec}, 0, "IN"},
        {32, {0xee}, 0, "OUT"},
        {32, {0xf3, 0x6c}, 0, "REP INS"},
        {32, {0xf3, 0xa4}, 0, "REP MOVS"},
        {32, {0x0f, 0x01, 0xc9}, 1, "MWAIT"},
        {32, {0x0f, 0x01, 0xc8}, 0, "MONITOR"},
        {32, {0x0f, 0x0b}, 1, "UD2"},
        {32, {0xe2, 0}, 1, "LOOP"},
        {32, {0x74, 0}, 1, "JZ"},
        {32, {0xc3}, 1, "RET"},
        {32, {0xff, 0xe0}, 1, "JMP EAX"},
        {32, {0xc9}, 0, "LEAVE"},
        {32, {0x60}, 0, "PUSHA"},
        {64, {0x0f, 0xae, 0x00}, 0, "FXSAVE"},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct insn insn;
        uint8_t bytes[15] = {0};
        memcpy(bytes, rows[i].bytes, sizeof(rows[i].bytes));
        assert_int_equal(insn_decode(&insn, bytes, sizeof(bytes), rows[i].bits), INSN_OK);
        if (prescan_ends_block(&insn) != rows[i].ends)
            fail_msg("%s: %d", rows[i].text, !rows[i].ends);
    }
}

/* --- liveness by hand --- */

static void test_flags_across_blocks(void **state)
{
    struct image image = {.base = 0x1000};
    struct prescan_params params = params_for(&image, 32);
    struct prescan_region region;

    (void)state;
    /* test eax,eax; jz 1009; 1004: cmp eax,ebx; jmp 100b; 1008: nop;
     * 1009: cmp ecx,edx; 100b: setc al; add eax,1; ret */
    put(&image, 0x1000, "85 c0 74 05 39 d8 eb 03 90 39 d1 0f 92 c0 83 c0 01 c3");
    run(&region, &params);
    const struct prescan_block *head = block_at(&region, 0x1000);
    assert_int_equal(prescan_flags_live(&region, head, 0), 0); /* TEST writes all */
    assert_int_equal(prescan_flags_live(&region, head, 1), ZF);
    assert_int_equal(head->flags_live_out, 0); /* both sides compare again */
    /* ... which 1004..1006 and 1009..100b prove */
    assert_int_equal(head->peek_low, 0x1004);
    assert_int_equal(head->peek_high, 0x100b);
    const struct prescan_block *left = block_at(&region, 0x1004);
    assert_int_equal(left->flags_live_out, CF); /* SETC reads CF, ADD replaces the rest */
    assert_int_equal(left->peek_low, 0x100b);
    assert_int_equal(left->peek_high, 0x1011); /* up to the end of ADD */
    assert_int_equal(block_at(&region, 0x100b)->flags_live_in, CF);
    assert_int_equal(block_at(&region, 0x100b)->peek_low, block_at(&region, 0x100b)->peek_high);
    prescan_region_free(&region);
}

static void test_flags_and_callouts(void **state)
{
    struct image image = {.base = 0x1000};
    struct prescan_params params = params_for(&image, 32);
    struct prescan_region region;

    (void)state;
    put(&image, 0x1000, "90 9c 01 c0 fa fb 31 c0 c3"); /* nop; pushf; add; cli; sti; xor; ret */
    run(&region, &params);
    assert_int_equal(prescan_flags_live(&region, &region.blocks[0], 0), ARITH); /* PUSHF reads */
    assert_int_equal(prescan_flags_live(&region, &region.blocks[0], 2), 0);
    assert_int_equal(prescan_flags_live(&region, &region.blocks[0], 3), 0); /* CLI, STI do not */
    prescan_region_free(&region);
    /* shift by CL may leave everything: what follows it decides */
    image.size = 0;
    put(&image, 0x1000, "01 c0 d3 e0 72 00 31 c0 c3"); /* add; shl eax,cl; jc +0; xor; ret */
    run(&region, &params);
    assert_int_equal(prescan_flags_live(&region, &region.blocks[0], 1), CF);
    assert_int_equal(prescan_flags_live(&region, &region.blocks[0], 2), CF);
    prescan_region_free(&region);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_diamond),
        cmocka_unit_test(test_loop_splits_block),
        cmocka_unit_test(test_jump_into_instruction),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_reuse_keeps_arrays),
        cmocka_unit_test(test_interrupt_shadow),
        cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_invalid),
        cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_ends_block),
        cmocka_unit_test(test_flags_across_blocks),
        cmocka_unit_test(test_flags_and_callouts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
