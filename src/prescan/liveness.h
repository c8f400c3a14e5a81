/* Flag liveness over a finished region. Private to src/prescan/. */
#ifndef VD_PRESCAN_LIVENESS_H
#define VD_PRESCAN_LIVENESS_H

#include "prescan/prescan.h"

enum {
    PRESCAN_ARITH_FLAGS = 0x8d5, /* CF PF AF ZF SF OF */
    PRESCAN_MAX_BLOCKS = 512,    /* per region: the passes keep their state on the stack */
};

/* Fills flags_live_in, flags_live_out and the peek range of every block from taken, fall and end.
 */
void liveness_run(struct prescan_region *region);

#endif
