#include "progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define LINE_START "\r\033[K"

void progress_say(const char *fmt, ...)
{
    va_list args;
    if (isatty(STDERR_FILENO) == 0)
        return;
    (void)fputs(LINE_START, stderr);
    va_start(args, fmt);
    (void)vfprintf(stderr, fmt, args);
    va_end(args);
    (void)fflush(stderr);
}

void progress_end(void)
{
    if (isatty(STDERR_FILENO) != 0)
        (void)fputs(LINE_START, stderr);
}
