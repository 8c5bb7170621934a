/*
 * spend-ingest: stands in front of an LLM proxy and records each call with the caller's own tags.
 */
#include "base/log.h"
#include "ingest/service.h"
#include "ingest/workers.h"
#include "run/lifecycle.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
    struct ingest_options options = {0};
    struct arena memory;
    struct options_rest rest;
    struct err err = {0};
    enum log_level level = LOG_LEVEL_INFO;
    size_t workers = 1;
    int exit_code = EXIT_FAILURE;
    arena_init(&memory, 1 << 20);
    if (!options_start(&ingest_options_spec, argc, argv, &options, &memory, &rest, &exit_code))
        goto done;
    (void)log_level_parse(sv_of(options.log_level), &level);
    log_open("ingest", level);
    workers = workers_count(&options);
    if (lifecycle_start(&err) &&
        (workers == 1 ? service_run(&options, false, &err) : workers_run(&options, workers, &err)))
        exit_code = EXIT_SUCCESS;
    else
        log_error("failed", LOG_ERR(&err), LOG_END);
done:
    arena_free(&memory);
    return exit_code;
}
