/* What "vedette run" was asked to do. */
#ifndef VD_CLI_RUN_OPTIONS_H
#define VD_CLI_RUN_OPTIONS_H

#include <stdbool.h>

#include "vedette/vedette.h"

enum run_stats { RUN_STATS_NONE, RUN_STATS_TEXT, RUN_STATS_JSON };

struct run_options {
    struct vd_config config;
    const char *screenshot; /* written when the run ends */
    enum run_stats stats;
    double time_limit; /* seconds, 0: none */
    int log_level;     /* for vd_log_level */
};

enum run_parse { RUN_PARSE_GO, RUN_PARSE_DONE, RUN_PARSE_USAGE, RUN_PARSE_HOST };

/* RUN_PARSE_DONE: help or a list was printed. The last two: a message was. */
enum run_parse run_options_parse(struct run_options *options, int argc, char **argv);

#endif
