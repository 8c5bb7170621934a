/*
 * clock: clock_gettime, and RFC 3339 both ways without the C library's time zones.
 */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

#define SECONDS_PER_DAY 86400LL
#define DAYS_PER_CYCLE  146097LL /* 400 years */

static int64_t read_us(clockid_t id)
{
    struct timespec t;
    (void)clock_gettime(id, &t); /* these clocks cannot fail */
    return (int64_t)t.tv_sec * US_PER_SECOND + t.tv_nsec / 1000;
}

int64_t clock_now_us(void)
{
    return read_us(CLOCK_REALTIME);
}

int64_t clock_mono_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

int64_t clock_boot_us(void)
{
    return read_us(CLOCK_BOOTTIME);
}

int64_t clock_coarse_us(void)
{
    return read_us(CLOCK_MONOTONIC_COARSE);
}

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int64_t year_length(int64_t year)
{
    return is_leap(year) ? 366 : 365;
}

static int64_t month_length(int64_t year, int64_t month)
{
    static const int8_t length[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return month == 2 && is_leap(year) ? 29 : length[month - 1];
}

/* Days before 1 January of a year >= 0, counted from 1 January 0. */
static int64_t days_before_year(int64_t year)
{
    if (year == 0)
        return 0;
    int64_t last = year - 1;
    return year * 365 + last / 4 - last / 100 + last / 400 + 1; /* year 0 is a leap year */
}

static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    int64_t days = days_before_year(year) + day - 1;
    for (int64_t m = 1; m < month; m++)
        days += month_length(year, m);
    return days - days_before_year(1970);
}

struct date {
    int64_t year;
    int64_t month;
    int64_t day;
};

static struct date date_of(int64_t days)
{
    days += days_before_year(1970);
    int64_t cycle = days >= 0 ? days / DAYS_PER_CYCLE : (days + 1) / DAYS_PER_CYCLE - 1;
    int64_t left = days - cycle * DAYS_PER_CYCLE;
    int64_t year = left / 366; /* never late, at most one year early in a cycle */
    while (days_before_year(year) + year_length(year) <= left)
        year++;
    left -= days_before_year(year);
    struct date d = {.year = cycle * 400 + year, .month = 1};
    while (left >= month_length(year, d.month)) {
        left -= month_length(year, d.month);
        d.month++;
    }
    d.day = left + 1;
    return d;
}

/* The last `count` digits of n and what follows them. */
static char *put_digits(char *at, int64_t n, size_t count, char next)
{
    for (size_t i = count; i > 0; i--, n /= 10)
        at[i - 1] = (char)('0' + n % 10);
    at[count] = next;
    return at + count + 1;
}

size_t clock_format(int64_t utc_us, char out[CLOCK_TEXT_MAX])
{
    const int64_t us_per_day = SECONDS_PER_DAY * US_PER_SECOND;
    int64_t days = utc_us / us_per_day - (utc_us % us_per_day < 0);
    int64_t us = (utc_us % us_per_day + us_per_day) % us_per_day; /* days x us_per_day may not fit */
    struct date d = date_of(days);
    int64_t second = us / US_PER_SECOND;
    if (d.year < 0 || d.year > 9999) { /* no time of ours, and wider */
        int len =
            snprintf(out, CLOCK_TEXT_MAX, "%04lld-%02lld-%02lldT%02lld:%02lld:%02lld.%06lldZ",
                     (long long)d.year, (long long)d.month, (long long)d.day, (long long)(second / 3600),
                     (long long)(second / 60 % 60), (long long)(second % 60), us % US_PER_SECOND);
        return len < 0 ? 0 : (size_t)len;
    }
    char *at = put_digits(out, d.year, 4, '-');
    at = put_digits(at, d.month, 2, '-');
    at = put_digits(at, d.day, 2, 'T');
    at = put_digits(at, second / 3600, 2, ':');
    at = put_digits(at, second / 60 % 60, 2, ':');
    at = put_digits(at, second % 60, 2, '.');
    at = put_digits(at, us % US_PER_SECOND, 6, 'Z');
    *at = '\0';
    return (size_t)(at - out);
}

/* `count` digits at *at. */
static bool take_number(struct strview text, size_t *at, size_t count, int64_t *out)
{
    if (text.len - *at < count)
        return false;
    *out = 0;
    for (size_t i = 0; i < count; i++) {
        char c = text.ptr[(*at)++];
        if (c < '0' || c > '9')
            return false;
        *out = *out * 10 + (c - '0');
    }
    return true;
}

/* One byte out of `allowed`. */
static bool take_one(struct strview text, size_t *at, const char *allowed, char *out)
{
    if (*at == text.len || sv_find(sv_of(allowed), text.ptr[*at]) == sv_of(allowed).len)
        return false;
    *out = text.ptr[(*at)++];
    return true;
}

static bool take_date(struct strview text, size_t *at, int64_t *days)
{
    struct date d;
    char c = 0;
    if (!take_number(text, at, 4, &d.year) || !take_one(text, at, "-", &c) ||
        !take_number(text, at, 2, &d.month) || !take_one(text, at, "-", &c) ||
        !take_number(text, at, 2, &d.day))
        return false;
    if (d.month < 1 || d.month > 12 || d.day < 1 || d.day > month_length(d.year, d.month))
        return false;
    *days = days_of(d.year, d.month, d.day);
    return true;
}

static bool take_time(struct strview text, size_t *at, int64_t *seconds)
{
    int64_t hour = 0;
    int64_t minute = 0;
    int64_t second = 0;
    char c = 0;
    if (!take_number(text, at, 2, &hour) || !take_one(text, at, ":", &c) ||
        !take_number(text, at, 2, &minute) || !take_one(text, at, ":", &c) ||
        !take_number(text, at, 2, &second))
        return false;
    /* RFC 3339 has leap seconds, our clock has not: second 60 is the next minute's first. */
    if (hour > 23 || minute > 59 || second > 60 || (second == 60 && minute != 59))
        return false;
    *seconds = hour * 3600 + minute * 60 + second;
    return true;
}

static bool take_fraction(struct strview text, size_t *at, int64_t *us)
{
    *us = 0;
    if (*at == text.len || text.ptr[*at] != '.')
        return true;
    size_t start = ++*at;
    int64_t unit = US_PER_SECOND / 10;
    int64_t digit = 0;
    while (*at < text.len && text.ptr[*at] >= '0' && text.ptr[*at] <= '9') {
        (void)take_number(text, at, 1, &digit);
        *us += digit * unit;
        unit /= 10;
    }
    return *at > start && *at - start <= 9;
}

static bool take_offset(struct strview text, size_t *at, int64_t *seconds)
{
    char sign = 0;
    char c = 0;
    int64_t hour = 0;
    int64_t minute = 0;
    if (!take_one(text, at, "Zz+-", &sign))
        return false;
    if (sign == '+' || sign == '-') {
        if (!take_number(text, at, 2, &hour) || !take_one(text, at, ":", &c) ||
            !take_number(text, at, 2, &minute) || hour > 23 || minute > 59)
            return false;
    }
    *seconds = (hour * 3600 + minute * 60) * (sign == '-' ? -1 : 1);
    return true;
}

bool clock_parse(struct strview text, int64_t *utc_us)
{
    size_t at = 0;
    int64_t days = 0;
    int64_t seconds = 0;
    int64_t us = 0;
    int64_t offset = 0;
    char c = 0;
    if (!take_date(text, &at, &days) || !take_one(text, &at, "Tt", &c) || !take_time(text, &at, &seconds) ||
        !take_fraction(text, &at, &us) || !take_offset(text, &at, &offset) || at != text.len)
        return false;
    *utc_us = (days * SECONDS_PER_DAY + seconds - offset) * US_PER_SECOND + us;
    return true;
}
