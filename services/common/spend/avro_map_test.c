#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "schemas/embedded.h"
#include "spend/avro_map.h"

#define ROOM (32 << 10)

static const char *schema_shape(const char *name)
{
    for (size_t i = 0; i < embedded_schema_count; i++) {
        if (strcmp(embedded_schemas[i].name, name) == 0)
            return embedded_schemas[i].shape;
    }
    fail_msg("no schema is named %s", name);
    return NULL;
}

static void test_every_table_has_the_shape_of_its_schema(void **state)
{
    (void)state;
    assert_int_equal(embedded_schema_count, AVRO_RECORD_COUNT);
    for (int i = 0; i < AVRO_RECORD_COUNT; i++) {
        struct buffer shape;
        buffer_init(&shape, ROOM);
        assert_true(avro_map_shape(&avro_maps[i], &shape));
        assert_true(buffer_append_byte(&shape, '\0'));
        assert_string_equal(shape.data, schema_shape(avro_maps[i].name));
        buffer_free(&shape);
    }
}

static void test_a_shape_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    for (size_t cap = 0; cap < strlen(schema_shape("Instance")); cap++) {
        struct buffer shape;
        buffer_init(&shape, cap);
        assert_false(avro_map_shape(&avro_maps[AVRO_INSTANCE], &shape));
        buffer_free(&shape);
    }
}

static void test_two_rows_never_share_a_member(void **state)
{
    (void)state;
    for (int i = 0; i < AVRO_RECORD_COUNT; i++) {
        const struct avro_map *map = &avro_maps[i];
        for (size_t a = 0; a < map->count; a++) {
            assert_true(map->fields[a].at < map->c_size);
            for (size_t b = a + 1; b < map->count; b++)
                assert_true(map->fields[a].at != map->fields[b].at);
        }
    }
}

static void test_each_record_has_a_limit(void **state)
{
    (void)state;
    assert_int_equal(avro_maps[AVRO_SPEND_CALL].most_bytes, 64 << 10);
    assert_int_equal(avro_maps[AVRO_DEAD_LETTER].most_bytes, 96 << 10);
    assert_int_equal(avro_maps[AVRO_PRICE_BOOK].most_bytes, 8 << 20);
    for (int i = 0; i < AVRO_RECORD_COUNT; i++)
        assert_in_range(avro_maps[i].most_bytes, 1 << 10, 8 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_table_has_the_shape_of_its_schema),
        cmocka_unit_test(test_a_shape_that_does_not_fit_is_refused),
        cmocka_unit_test(test_two_rows_never_share_a_member),
        cmocka_unit_test(test_each_record_has_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
