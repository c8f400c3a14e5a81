#include "prescan/scan_walk.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/*
 * One block per prescan run: marks then tell exactly what is known already, and no byte is decoded
 * more than a few times however much the code overlaps.
 */
enum { BLOCK_INSNS = 32, PROGRESS_BLOCKS = 8192 };

struct place {
    uint64_t address;
    unsigned bits;
};

struct walk {
    struct scan_image *image;
    struct scan_result *result;
    const struct scan_segment *segment; /* of the current block */
    struct prescan_region region;
    struct place *stack;
    size_t depth, capacity;
    uint64_t total; /* bytes of all segments */
    /* progress */
    bool progress, shown;
    uint64_t steps;
    struct timespec start;
};

static size_t fetch(void *ctx, uint64_t ip, uint8_t *buffer, size_t size)
{
    struct walk *walk = ctx;
    const struct scan_segment *segment = walk->segment;
    uint64_t offset = ip - segment->address;

    if (offset >= segment->size) { /* the instruction goes on in the next segment, perhaps */
        int index = scan_image_find(walk->image, ip, segment->bits);
        if (index < 0)
            return 0;
        segment = &walk->image->segments[index];
        offset = ip - segment->address;
    }
    if (size > segment->size - offset)
        size = (size_t)(segment->size - offset);
    memcpy(buffer, segment->bytes + offset, size);
    return size;
}

/* --- progress --- */

static void show_progress(struct walk *walk)
{
    struct timespec now;

    if (!walk->progress || ++walk->steps % PROGRESS_BLOCKS)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec - walk->start.tv_sec < 1 + (now.tv_nsec < walk->start.tv_nsec))
        return;
    fprintf(stderr, "\r%s: %llu instructions, %llu %% of the code", walk->image->path,
            (unsigned long long)walk->result->insns,
            (unsigned long long)(walk->total ? walk->result->bytes * 100 / walk->total : 0));
    fflush(stderr);
    walk->shown = true;
}

static void clear_progress(const struct walk *walk)
{
    if (walk->shown)
        fprintf(stderr, "\r\033[K");
}

/* --- work --- */

static int push(struct walk *walk, uint64_t address, unsigned bits)
{
    int index = scan_image_find(walk->image, address, bits);

    if (index < 0)
        return 0;
    struct scan_segment *segment = &walk->image->segments[index];
    uint8_t *mark = &segment->marks[address - segment->address];
    if (*mark & MARK_LEADER)
        return 0;
    *mark |= MARK_LEADER;
    if (*mark & MARK_START) { /* in the middle of a known block: cuts it in two */
        walk->result->blocks++;
        walk->result->ends[END_LIMIT]++;
        return 0;
    }
    if (walk->depth == walk->capacity) {
        size_t capacity = walk->capacity ? walk->capacity * 2 : 1024;
        struct place *stack = realloc(walk->stack, capacity * sizeof(*walk->stack));
        if (!stack)
            return -1;
        walk->stack = stack;
        walk->capacity = capacity;
    }
    walk->stack[walk->depth].address = address;
    walk->stack[walk->depth++].bits = bits;
    return 0;
}

static int note_sensitive(struct walk *walk, const struct insn *insn, uint64_t address,
                          unsigned segment)
{
    struct scan_result *result = walk->result;

    result->ops[insn->op]++;
    if (result->sensitive_count == result->sensitive_capacity) {
        size_t capacity = result->sensitive_capacity ? result->sensitive_capacity * 2 : 256;
        struct scan_sensitive *list =
            realloc(result->sensitive, capacity * sizeof(*result->sensitive));
        if (!list)
            return -1;
        result->sensitive = list;
        result->sensitive_capacity = capacity;
    }
    struct scan_sensitive *item = &result->sensitive[result->sensitive_count++];
    item->address = address;
    item->segment = segment;
    item->op = insn->op;
    return 0;
}

/* Marks the bytes of an instruction; they may lie in the following segment in part. */
static void mark_bytes(struct walk *walk, struct scan_segment *segment, uint64_t address,
                       unsigned length)
{
    uint64_t offset = address - segment->address;

    segment->marks[offset] |= MARK_START;
    for (unsigned i = 0; i < length && offset + i < segment->size; i++) {
        if (!(segment->marks[offset + i] & MARK_BYTE))
            walk->result->bytes++;
        segment->marks[offset + i] |= MARK_BYTE;
    }
}

/* Counts the new instructions of the block. Returns how many, or -1 when memory is short. */
static int count_block(struct walk *walk, const struct prescan_block *block, unsigned index)
{
    struct scan_segment *segment = &walk->image->segments[index];
    uint64_t address = block->ip;
    unsigned i;

    for (i = 0; i < block->count; i++) {
        const struct insn *insn = &walk->region.insns[block->first + i];
        if (address - segment->address >= segment->size ||
            (segment->marks[address - segment->address] & MARK_START))
            break;
        mark_bytes(walk, segment, address, insn->len);
        walk->result->insns++;
        walk->result->classes[insn->class]++;
        if (insn->class == INSN_CALLOUT && note_sensitive(walk, insn, address, index) != 0)
            return -1;
        address += insn->len;
    }
    return (int)i;
}

static int follow(struct walk *walk, const struct prescan_block *block, unsigned bits)
{
    if (block->has_target && push(walk, block->target, bits) != 0)
        return -1;
    if (block->end == END_BRANCH || block->end == END_CALL || block->end == END_LIMIT)
        return push(walk, block->ip + block->bytes, bits);
    /* Most callouts come back to the next instruction. */
    if (block->end == END_CALLOUT) {
        const struct insn *last = &walk->region.insns[block->first + block->count - 1];
        switch ((enum insn_op)last->op) {
        case OP_RET_FAR: /* "PUSH CS; PUSH imm; RETF" is a jump that also sets CS */
            if (block->count > 1 && last[-1].kind == KIND_PUSH && last[-1].imm_size)
                return push(walk, (uint64_t)last[-1].imm & (bits == 16 ? 0xffff : UINT64_MAX),
                            bits);
            return 0;
        case OP_JMP_FAR:
        case OP_IRET:
        case OP_SYSRET:
        case OP_SYSEXIT:
        case OP_RSM:
            return 0;
        default:
            return push(walk, block->ip + block->bytes, bits);
        }
    }
    return 0;
}

static int step(struct walk *walk, struct place place)
{
    int index = scan_image_find(walk->image, place.address, place.bits);
    struct scan_segment *segment = &walk->image->segments[index];
    struct prescan_params params = {
        .fetch = fetch,
        .fetch_ctx = walk,
        .bits = place.bits,
        .entry = place.address,
        .low = segment->address,
        .high = segment->address + (segment->size - 1),
        .max_blocks = 1,
        .max_block_insns = BLOCK_INSNS,
        .max_insns = BLOCK_INSNS + 1,
    };

    if (segment->marks[place.address - segment->address] & MARK_START) {
        /* reached from the front in the meantime: a block of its own all the same */
        walk->result->blocks++;
        walk->result->ends[END_LIMIT]++;
        return 0;
    }
    walk->segment = segment;
    if (prescan_run(&walk->region, &params) != 0)
        return -1;
    const struct prescan_block *block = &walk->region.blocks[0];
    int counted = count_block(walk, block, (unsigned)index);
    if (counted < 0)
        return -1;
    walk->result->blocks++;
    if ((unsigned)counted < block->count) { /* runs into known code */
        walk->result->ends[END_LIMIT]++;
        uint64_t known = block->ip;
        for (int i = 0; i < counted; i++)
            known += walk->region.insns[block->first + (unsigned)i].len;
        return push(walk, known, place.bits);
    }
    walk->result->ends[block->end]++;
    return follow(walk, block, place.bits);
}

static int compare_sensitive(const void *left, const void *right)
{
    const struct scan_sensitive *a = left, *b = right;

    if (a->segment != b->segment)
        return a->segment < b->segment ? -1 : 1;
    return a->address < b->address ? -1 : a->address > b->address;
}

int scan_walk(struct scan_image *image, struct scan_result *result, bool progress,
              struct vd_error *err)
{
    struct walk walk = {.image = image, .result = result};
    int status = 0;

    memset(result, 0, sizeof(*result));
    walk.progress = progress && isatty(STDERR_FILENO);
    clock_gettime(CLOCK_MONOTONIC, &walk.start);
    for (size_t i = 0; i < image->segment_count; i++)
        walk.total += image->segments[i].size;
    for (size_t i = 0; i < image->seed_count && status == 0; i++) {
        status = push(&walk, image->seeds[i].address, image->seeds[i].bits);
        while (status == 0 && walk.depth > 0) {
            status = step(&walk, walk.stack[--walk.depth]);
            show_progress(&walk);
        }
    }
    clear_progress(&walk);
    free(walk.stack);
    prescan_region_free(&walk.region);
    if (status != 0) {
        scan_result_free(result);
        return error_set(err, "%s: out of memory", image->path);
    }
    if (result->sensitive_count)
        qsort(result->sensitive, result->sensitive_count, sizeof(*result->sensitive),
              compare_sensitive);
    return 0;
}

void scan_result_free(struct scan_result *result)
{
    free(result->sensitive);
    memset(result, 0, sizeof(*result));
}
