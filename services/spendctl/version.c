#include "command.h"

#include <stdio.h>

int version(const struct invocation *in)
{
    printf(in->json ? "{\"version\": \"%s\"}\n" : "spendctl %s\n", SPEND_VERSION);
    return EXIT_FINE;
}
