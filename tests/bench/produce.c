/*
 * spend-bench-produce BROKERS TOPIC RECORDS_A_SECOND BYTES SECONDS: the broker's load without ingest: records
 * produced as ingest produces them (idempotent, acks=all, lz4, 40 ms), while another proxy is measured.
 * Prints how many the broker has.
 */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TURN_NS 5000000L /* records go in bursts, as many as are due */

static long delivered;

static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
    (void)rk;
    (void)opaque;
    delivered += m->err == RD_KAFKA_RESP_ERR_NO_ERROR ? 1 : 0;
}

static double now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static rd_kafka_t *producer_open(const char *brokers)
{
    const char *const set[][2] = {{"bootstrap.servers", brokers},
                                  {"enable.idempotence", "true"},
                                  {"linger.ms", "40"},
                                  {"compression.codec", "lz4"},
                                  {"partitioner", "murmur2_random"},
                                  {"queue.buffering.max.messages", "200000"}};
    char why[200];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    for (size_t i = 0; i < sizeof set / sizeof set[0]; i++)
        if (rd_kafka_conf_set(conf, set[i][0], set[i][1], why, sizeof why) != RD_KAFKA_CONF_OK)
            return NULL;
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    return rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
}

int main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    double rate = strtod(argv[3], NULL);
    size_t bytes = strtoul(argv[4], NULL, 10);
    double seconds = strtod(argv[5], NULL);
    char *value = malloc(bytes);
    rd_kafka_t *rk = producer_open(argv[1]);
    rd_kafka_topic_t *topic = rk == NULL ? NULL : rd_kafka_topic_new(rk, argv[2], NULL);
    if (value == NULL || topic == NULL)
        return 1;
    for (size_t i = 0; i < bytes; i++)
        value[i] = (char)(i * 2654435761U >> 13); /* little in it to compress, as in records */
    long sent = 0;
    for (double start = now_s(), spent = 0; spent < seconds; spent = now_s() - start) {
        for (char key[24]; sent < (long)(rate * spent); sent++) {
            int len = snprintf(key, sizeof key, "%ld", sent);
            if (rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, value, bytes, key,
                                 (size_t)len, NULL) != 0)
                break;
        }
        (void)rd_kafka_poll(rk, 0);
        (void)nanosleep(&(struct timespec){.tv_nsec = TURN_NS}, NULL);
    }
    (void)rd_kafka_flush(rk, 10000);
    printf("%ld\n", delivered);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
    free(value);
    return 0;
}
