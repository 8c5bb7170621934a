/*
 * spendctl: Spendline's command-line tool. What it can do is the table in command.c.
 */
#include "command.h"

#include <signal.h>

int main(int argc, char **argv)
{
    /* a reader that leaves early (| head) is no failure to report by signal */
    (void)signal(SIGPIPE, SIG_IGN);
    return command_run(argc - 1, argv + 1);
}
