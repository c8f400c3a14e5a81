#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>

static _Atomic(FILE *) log_stream;
static atomic_int log_level = LOG_WARN;

void log_set_level(enum log_level level)
{
    atomic_store(&log_level, (int)level);
}

void log_set_stream(FILE *stream)
{
    atomic_store(&log_stream, stream);
}

void log_line(enum log_level level, const char *format, ...)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    if ((int)level > atomic_load(&log_level))
        return;
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    FILE *stream = atomic_load(&log_stream);
    fprintf(stream ? stream : stderr, "vedette: %s: %s\n", names[level], line);
}
