/*
 * progress: one line on a terminal about work that takes a while. Silent when stderr is no terminal.
 */
#ifndef SPENDCTL_PROGRESS_H
#define SPENDCTL_PROGRESS_H

void progress_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Takes the line away. */
void progress_end(void);

#endif
