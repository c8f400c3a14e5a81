#include "chart.h"

#include <math.h>
#include <string.h>

enum { LABEL_WIDTH = 190, PLOT_WIDTH = 470, BAR = 11, GAP = 8, TOP = 62 };

void chart_add(struct chart *chart, const char *name, const double *values)
{
    if (chart->row_count == CHART_ROWS)
        return;
    snprintf(chart->name[chart->row_count], sizeof(chart->name[0]), "%s", name);
    memcpy(chart->value[chart->row_count], values, (size_t)chart->series_count * sizeof(values[0]));
    chart->row_count++;
}

/* The logarithmic scale starts at half of the reference 1, so that a bar of 1 can be seen. */
static double bar_length(const struct chart *chart, double value, double largest)
{
    double part = chart->logarithmic ? log(value / 0.5) / log(largest / 0.5) : value / largest;

    return isfinite(part) && part > 0 ? part * PLOT_WIDTH : 0;
}

void chart_write(const struct chart *chart, FILE *file)
{
    static const char *const colours[CHART_SERIES] = {"#1f6f8b", "#c9c9c9"};
    int row_height = chart->series_count * BAR + GAP;
    int height = TOP + chart->row_count * row_height + 12;
    double largest = 1;

    for (int i = 0; i < chart->row_count; i++)
        for (int s = 0; s < chart->series_count; s++)
            if (chart->value[i][s] > largest)
                largest = chart->value[i][s];
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
            "font-family=\"sans-serif\" font-size=\"11\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n"
            "<text x=\"12\" y=\"22\" font-size=\"15\">%s</text>\n",
            LABEL_WIDTH + PLOT_WIDTH + 70, height, chart->title);
    for (int s = 0; s < chart->series_count; s++)
        fprintf(file,
                "<rect x=\"%d\" y=\"34\" width=\"12\" height=\"12\" fill=\"%s\"/>"
                "<text x=\"%d\" y=\"44\">%s</text>\n",
                LABEL_WIDTH + s * 140, colours[s], LABEL_WIDTH + 18 + s * 140, chart->series[s]);
    for (int i = 0; i < chart->row_count; i++) {
        int y = TOP + i * row_height;

        fprintf(file, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", LABEL_WIDTH - 8,
                y + row_height / 2 + 1, chart->name[i]);
        for (int s = 0; s < chart->series_count; s++) {
            double length = bar_length(chart, chart->value[i][s], largest);

            fprintf(file,
                    "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>"
                    "<text x=\"%.1f\" y=\"%d\" font-size=\"9\">%.2f</text>\n",
                    LABEL_WIDTH, y + s * BAR, length, BAR - 1, colours[s], LABEL_WIDTH + length + 4,
                    y + s * BAR + 9, chart->value[i][s]);
        }
    }
    if (chart->logarithmic) {
        double one = LABEL_WIDTH + bar_length(chart, 1, largest);

        fprintf(file,
                "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"#b03030\" "
                "stroke-dasharray=\"3,3\"/>\n",
                one, TOP - 6, one, height - 8);
    }
    fprintf(file, "</svg>\n");
}
