/* Log lines to stderr (or a file). The only module with mutable file-scope state. */
#ifndef VD_BASE_LOG_H
#define VD_BASE_LOG_H

#include <stdio.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Lines above the level are dropped; the default is LOG_WARN. */
void log_set_level(enum log_level level);
/* Sends lines to stream instead of stderr; the caller keeps ownership. */
void log_set_stream(FILE *stream);
/* One line; a newline is appended. Thread-safe. */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

#endif
