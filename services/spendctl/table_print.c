#include "table_print.h"

#include "base/strview.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FACT_BYTES  1200
#define LABEL_WIDTH 14

/* Nothing that a terminal would obey. */
static void disarm(char *text)
{
    if (!sv_has_control(sv_of(text)))
        return;
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c >= 0x7f)
            *text = '?';
    }
}

static size_t width(const char *text)
{
    size_t n = 0;
    for (; *text != '\0'; text++)
        n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

void table_begin(struct table *t, ...)
{
    va_list heads;
    *t = (struct table){.columns = 0};
    va_start(heads, t);
    for (const char *head = va_arg(heads, const char *); head != NULL; head = va_arg(heads, const char *)) {
        assert(t->columns < TABLE_COLUMNS_MAX);
        t->head[t->columns++] = head;
    }
    va_end(heads);
}

void table_row(struct table *t, ...)
{
    va_list cells;
    if (t->row_count == t->room) {
        t->room = t->room == 0 ? 16 : 2 * t->room;
        t->cells = reallocarray(t->cells, t->room * t->columns, sizeof *t->cells);
        if (t->cells == NULL)
            abort();
    }
    va_start(cells, t);
    for (size_t i = 0; i < t->columns; i++) {
        struct strview text = sv_of(va_arg(cells, const char *));
        char *cell = t->cells[t->row_count * t->columns + i];
        if (text.len >= TABLE_CELL_MAX)
            text.len = sv_utf8_prefix((struct strview){text.ptr, TABLE_CELL_MAX - 1});
        memcpy(cell, text.ptr, text.len);
        cell[text.len] = '\0';
        disarm(cell);
    }
    va_end(cells);
    t->row_count++;
}

static void print_cell(const struct table *t, size_t column, const char *text, size_t wide)
{
    bool right = t->head[column][0] == '>';
    int pad = (int)(wide - width(text));
    if (right)
        printf("  %*s%s", pad, "", text);
    else if (column + 1 == t->columns)
        printf("  %s", text);
    else
        printf("  %s%*s", text, pad, "");
}

void table_end(struct table *t)
{
    size_t wide[TABLE_COLUMNS_MAX];
    if (t->row_count == 0) {
        puts("  (none)");
        return;
    }
    for (size_t i = 0; i < t->columns; i++) {
        wide[i] = width(t->head[i] + (t->head[i][0] == '>'));
        for (size_t row = 0; row < t->row_count; row++) {
            size_t cell = width(t->cells[row * t->columns + i]);
            wide[i] = cell > wide[i] ? cell : wide[i];
        }
    }
    for (size_t i = 0; i < t->columns; i++)
        print_cell(t, i, t->head[i] + (t->head[i][0] == '>'), wide[i]);
    for (size_t row = 0; row < t->row_count; row++) {
        putchar('\n');
        for (size_t i = 0; i < t->columns; i++)
            print_cell(t, i, t->cells[row * t->columns + i], wide[i]);
    }
    putchar('\n');
    free(t->cells);
    *t = (struct table){.columns = 0};
}

void table_fact(const char *label, const char *fmt, ...)
{
    char text[FACT_BYTES];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    disarm(text);
    printf("  %-*s %s\n", LABEL_WIDTH, label, text);
}
