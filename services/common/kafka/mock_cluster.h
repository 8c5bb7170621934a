/*
 * mock_cluster: librdkafka's own in-process brokers, for tests that need a broker to answer an error on
 * command. Tests only.
 */
#ifndef SPEND_KAFKA_MOCK_CLUSTER_H
#define SPEND_KAFKA_MOCK_CLUSTER_H

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdlib.h>

#include "kafka/client.h"

/* The protocol's numbers of the requests that the tests let fail. */
enum mock_request {
    MOCK_PRODUCE = 0,
    MOCK_INIT_PRODUCER_ID = 22,
    MOCK_ADD_PARTITIONS = 24,
    MOCK_END_TXN = 26
};

struct mock_cluster {
    rd_kafka_t *rk; /* its timers and log */
    rd_kafka_mock_cluster_t *cluster;
};

static inline bool mock_cluster_start(struct mock_cluster *m)
{
    char why[200];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    (void)rd_kafka_conf_set(conf, "log_level", "0", why, sizeof why);
    m->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    m->cluster = m->rk == NULL ? NULL : rd_kafka_mock_cluster_new(m->rk, 1);
    return m->cluster != NULL &&
           rd_kafka_mock_topic_create(m->cluster, "t", 2, 1) == RD_KAFKA_RESP_ERR_NO_ERROR;
}

static inline void mock_cluster_stop(struct mock_cluster *m)
{
    rd_kafka_mock_cluster_destroy(m->cluster);
    rd_kafka_destroy(m->rk);
}

static inline struct kafka_settings mock_settings(const struct mock_cluster *m)
{
    return (struct kafka_settings){.brokers = rd_kafka_mock_cluster_bootstraps(m->cluster),
                                   .client_id = "mock"};
}

#endif
