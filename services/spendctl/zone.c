#include "zone.h"

#include "base/clock.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ZONE_FOLDER "/usr/share/zoneinfo"
#define PATH_BYTES  512

static bool is_zone_file(const char *path)
{
    char magic[4] = "";
    FILE *file = fopen(path, "rbe");
    if (file == NULL)
        return false;
    bool is = fread(magic, 1, sizeof magic, file) == sizeof magic && memcmp(magic, "TZif", 4) == 0;
    (void)fclose(file);
    return is;
}

/* What the C library opens for a name. */
static bool has_file(const char *name)
{
    char path[PATH_BYTES];
    const char *folder = getenv("TZDIR");
    int len =
        snprintf(path, sizeof path, "%s/%s", folder == NULL || *folder == '\0' ? ZONE_FOLDER : folder, name);
    return len > 0 && (size_t)len < sizeof path && strstr(name, "..") == NULL && is_zone_file(path);
}

bool zone_is_known(const char *name)
{
    /* what begins otherwise in the folder is no zone: posixrules, right/, localtime */
    return strcmp(name, "UTC") == 0 || (isupper((unsigned char)name[0]) && has_file(name));
}

/* "CET-1CEST,..", "<-03>3": a name of three letters at least and an offset. */
static bool is_rule(const char *tz)
{
    size_t len = 0;
    if (*tz == '<')
        len = strcspn(tz, ">") + (strchr(tz, '>') != NULL);
    else
        while (isalpha((unsigned char)tz[len]))
            len++;
    if (len < 3)
        return false;
    tz += len;
    tz += *tz == '+' || *tz == '-';
    return isdigit((unsigned char)*tz);
}

bool zone_is_setting(const char *tz)
{
    tz += *tz == ':';
    return *tz == '\0' || strcmp(tz, "UTC") == 0 || is_rule(tz) ||
           (*tz == '/' ? is_zone_file(tz) : has_file(tz));
}

bool zone_use(const char *name)
{
    const char *own = getenv("TZ");
    const char *wrong = name == NULL ? (own == NULL || zone_is_setting(own) ? NULL : own)
                                     : (zone_is_known(name) ? NULL : name);
    if (wrong != NULL) {
        (void)fprintf(stderr,
                      "spendctl: there is no time zone \"%s\" on this machine%s\n  %s an IANA zone like "
                      "Europe/Berlin, or UTC; zones come with the package tzdata\n",
                      wrong, name == NULL ? ": TZ is set to it" : "",
                      name == NULL ? "unset TZ, or set it to" : "give --tz");
        return false;
    }
    if (name != NULL && setenv("TZ", strcmp(name, "UTC") == 0 ? "UTC0" : name, 1) != 0) {
        (void)fputs("spendctl: out of memory\n", stderr);
        return false;
    }
    tzset();
    return true;
}

const char *zone_time(const char *rfc3339, char out[ZONE_TIME_MAX])
{
    int64_t us = 0;
    struct tm tm;
    (void)snprintf(out, ZONE_TIME_MAX, "-");
    if (rfc3339 == NULL || !clock_parse(sv_of(rfc3339), &us))
        return out;
    time_t seconds = (time_t)(us / US_PER_SECOND - (us % US_PER_SECOND < 0));
    if (localtime_r(&seconds, &tm) == NULL)
        return out;
    size_t len = tm.tm_sec == 0 ? strftime(out, ZONE_TIME_MAX, "%Y-%m-%d %H:%M %Z", &tm)
                                : strftime(out, ZONE_TIME_MAX, "%Y-%m-%d %H:%M:%S %Z", &tm);
    if (len == 0)
        (void)snprintf(out, ZONE_TIME_MAX, "-");
    return out;
}
