/* A horizontal bar chart as SVG text. */
#ifndef VD_BENCH_CHART_H
#define VD_BENCH_CHART_H

#include <stdbool.h>
#include <stdio.h>

enum { CHART_ROWS = 128, CHART_SERIES = 2 };

struct chart {
    const char *title;
    const char *series[CHART_SERIES]; /* names, in drawing order */
    int series_count;
    bool logarithmic;
    int row_count;
    char name[CHART_ROWS][64];
    double value[CHART_ROWS][CHART_SERIES];
};

/* values: one per series; a row beyond CHART_ROWS is dropped. */
void chart_add(struct chart *chart, const char *name, const double *values);
void chart_write(const struct chart *chart, FILE *file);

#endif
