/*
 * table_print: tables for people on stdout: columns as wide as their widest cell, numbers to the right.
 * Owns copies of the cells. Control characters never reach the terminal.
 */
#ifndef SPENDCTL_TABLE_PRINT_H
#define SPENDCTL_TABLE_PRINT_H

#include <stddef.h>

#define TABLE_COLUMNS_MAX 10
#define TABLE_CELL_MAX    160

struct table {
    size_t columns;
    const char *head[TABLE_COLUMNS_MAX]; /* a head that begins with '>' is a column to the right */
    size_t row_count;
    size_t room;
    char (*cells)[TABLE_CELL_MAX]; /* row by row */
};

/* Heads until NULL. */
void table_begin(struct table *t, ...) __attribute__((sentinel));
/* One text a column; longer ones are cut. Aborts out of memory. */
void table_row(struct table *t, ...);
/* Prints, indented by two, and forgets. Nothing at all without rows but "  (none)". */
void table_end(struct table *t);

/* "  label      text" of a story, control characters replaced. */
void table_fact(const char *label, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
