/*
 * Shows the text screen on a terminal with ANSI control sequences (ECMA-48): only cells that
 * changed are sent. If the descriptor is not a terminal, the last screen is written as plain text
 * when the sink is destroyed, so that output can be captured in a file.
 */
#ifndef VD_DISPLAY_TEXT_SINK_H
#define VD_DISPLAY_TEXT_SINK_H

#include "base/error.h"
#include "display/display.h"

/* fd stays the caller's. */
int text_sink_create(struct display_sink *sink, int fd, struct vd_error *err);

#endif
