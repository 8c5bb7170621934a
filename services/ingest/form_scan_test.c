/*
 * form_scan: forms as clients send them, and bytes that are none.
 */
#include "ingest/form_scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define TYPE  "multipart/form-data; boundary=XX"
#define FIELD "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n"
#define FILE_PART                                                                                            \
    "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\nContent-Type: "            \
    "audio/mpeg\r\n"                                                                                         \
    "\r\nID3\r\n--X\r\n\r\nname=\"model\"\r\n"
#define END "--XX--\r\n"

/* The fields as "name=value;", or "failed". */
static const char *read_form(const char *type, struct strview body)
{
    static char out[512];
    struct form_scan s;
    struct form_field field;
    size_t at = 0;
    out[0] = '\0';
    if (!form_scan_init(&s, sv_of(type), body))
        return "no form";
    while (form_scan_next(&s, &field))
        at += (size_t)snprintf(out + at, sizeof out - at, SV_FMT "=" SV_FMT ";", SV_ARG(field.name),
                               SV_ARG(field.value));
    if (s.failed)
        return "failed";
    assert_true(s.ended);
    return out;
}

static void test_fields_are_read_and_files_passed_over(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        const char *body;
        const char *found;
    } rows[] = {
        {TYPE, FIELD END, "model=whisper-1;"},
        {TYPE, FILE_PART FIELD END, "model=whisper-1;"},
        {TYPE, FIELD FILE_PART END, "model=whisper-1;"},
        {TYPE, FIELD END "epilogue", "model=whisper-1;"},
        {"Multipart/Form-Data; charset=UTF-8; Boundary=\"X X\"; a=b",
         "--X X\r\nCONTENT-DISPOSITION:form-data;name=a\r\n\r\n1\r\n--X X\r\ncontent-disposition: form-data; "
         "name=\"b[]\" ; x=y\r\n\r\n\r\n2\r\n\r\n--X X--",
         "a=1;b[]=\r\n2\r\n;"},
        {TYPE, "--XX\r\nX: y\r\nContent-Disposition: form-data; name=\"e\"\r\n\r\n\r\n" END, "e=;"},
        {TYPE, END, ""},
        /* what starlette, or another, would read otherwise */
        {TYPE, "preamble\r\n" FIELD END, "failed"},
        {TYPE, "--XX \r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n" END, "failed"},
        {TYPE, FIELD "--XX \r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ncheap\r\n" END,
         "failed"},
        {TYPE, "--XX\r\nContent-Disposition: form-data; name*=utf-8''model\r\n\r\nx\r\n" END, "failed"},
        {TYPE, "--XX\r\nContent-Disposition: form-data; name=\"f\"; filename*=UTF-8''a\r\n\r\nx\r\n" END,
         "failed"},
        {TYPE,
         "--XX\r\nContent-Disposition: form-data; name=\"x\"; filename=\"f\"\r\nContent-Disposition: "
         "form-data; "
         "name=\"model\"\r\n\r\nx\r\n" END,
         "failed"},
        {TYPE, "--XX\r\nContent-Disposition: form-data; name=\"x\"; name=\"model\"\r\n\r\nx\r\n" END,
         "failed"},
        {TYPE, "--XX\r\nContent-Disposition: form-data; name=\"mod\\\"el\"\r\n\r\nx\r\n" END, "failed"},
        {TYPE, "--XX\r\nContent-Disposition: form-data; name=\"mo+AGQ-el\"\r\n\r\nx\r\n" END, "failed"},
        {TYPE, "--XX\r\nContent-Disposition: form-data; name=\"a\" junk\r\n\r\nx\r\n" END, "failed"},
        {TYPE, "--XX\r\nContent-Disposition: form-data; name=\"a\r\n\r\nx\r\n" END, "failed"},
        {TYPE, "--XX\r\nContent-Disposition: form-data;\r\n name=\"a\"\r\n\r\nx\r\n" END, "failed"},
        {TYPE, "--XX\r\nContent-Disposition : form-data; name=\"a\"\r\n\r\nx\r\n" END, "failed"},
        {TYPE, "--XX\r\nX: y\r\n\r\nno name\r\n" END, "failed"},
        {TYPE,
         "--XX\r\nContent-Disposition: form-data; a=b\"; name=user; c=\"; name=model; "
         "d=\";e=f\r\n\r\nx\r\n" END,
         "failed"},
        {TYPE, "--XX\r\nContent-Disposition: form-data; name=user; \x0bname=model\r\n\r\nx\r\n" END,
         "failed"},
        {TYPE, "--XX\r\nContent-Disposition: form-data; name=user; \xa0name=model\r\n\r\nx\r\n" END,
         "failed"},
        {TYPE,
         "--XX\r\nContent-Disposition: form-data\"; name=user; z=\"; name=model; y=\";q=r\r\n\r\nx\r\n" END,
         "failed"},
        {TYPE, "--XX\r\nContent-Disposition: form-data; name=user; x=\"\x01\"\r\n\r\nx\r\n" END, "failed"},
        {"multipart/form-data; a=b\"; boundary=XX; c=\"; boundary=YY; d=\";e=f", FIELD END, "failed"},
        {"multipart/form-data; boundary=XX; charset=utf-7", FIELD END, "failed"},
        {"multipart/form-data; boundary=YY; boundary=XX", FIELD END, "failed"},
        {"multipart/form-data; boundary=\"X\\X\"", FIELD END, "failed"},
        {TYPE, "--XX\r\nA: b\r\n" FIELD END, "failed"},
        {TYPE, FIELD, "failed"},
        {TYPE, FIELD "--XX", "failed"},
        {TYPE, FIELD "--XXY\r\n" END, "failed"},
        {TYPE, "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\nwhisper\r\n" END, "failed"},
        {TYPE, "--XX\nContent-Disposition: form-data; name=\"a\"\n\nx\n--XX--", "failed"},
        {TYPE, "", "failed"},
        {TYPE, "{}", "failed"},
        {"multipart/form-data", FIELD END, "failed"},
        {"multipart/form-data; boundary=", FIELD END, "failed"},
        {"multipart/form-data; "
         "boundary=01234567890123456789012345678901234567890123456789012345678901234567890",
         END, "failed"},
        {"multipart/mixed; boundary=XX", FIELD END, "no form"},
        {"application/json", FIELD END, "no form"},
        {NULL, FIELD END, "no form"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *found = read_form(rows[i].type, sv_of(rows[i].body));
        if (strcmp(found, rows[i].found) != 0)
            fail_msg("row %zu: %s", i, found);
    }
}

/* Cut anywhere it fails, and never reads past its end (the sanitizers watch). */
static void test_a_form_cut_anywhere_is_no_form(void **state)
{
    (void)state;
    const char whole[] = FILE_PART FIELD END;
    for (size_t len = 0; len < sizeof whole - 1 - sizeof "\r\n"; len++) {
        char copy[sizeof whole];
        memcpy(copy, whole, len);
        assert_string_equal(read_form(TYPE, (struct strview){copy, len}), "failed");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields_are_read_and_files_passed_over),
        cmocka_unit_test(test_a_form_cut_anywhere_is_no_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
