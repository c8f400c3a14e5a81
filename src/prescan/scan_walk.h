/* Follows control flow through an image and counts. Private to src/prescan/. */
#ifndef VD_PRESCAN_SCAN_WALK_H
#define VD_PRESCAN_SCAN_WALK_H

#include "prescan/prescan.h"
#include "prescan/scan_image.h"

enum {                       /* scan_segment.marks */
       MARK_START = 1 << 0,  /* an instruction starts here */
       MARK_BYTE = 1 << 1,   /* belongs to an instruction */
       MARK_LEADER = 1 << 2, /* a block starts here */
};

struct scan_sensitive { /* one callout, CLI or STI */
    uint64_t address;
    uint32_t segment;
    uint16_t op;
};

struct scan_result {
    uint64_t blocks, insns, bytes;
    uint64_t classes[INSN_CALLOUT + 1];
    uint64_t ops[OP_COUNT];
    uint64_t ends[END_INVALID + 1];   /* of blocks */
    struct scan_sensitive *sensitive; /* by segment and address */
    size_t sensitive_count, sensitive_capacity;
};

/* progress: may write a line to stderr now and then. Returns 0, or -1 with err (out of memory). */
int scan_walk(struct scan_image *image, struct scan_result *result, bool progress,
              struct vd_error *err);
void scan_result_free(struct scan_result *result);

#endif
