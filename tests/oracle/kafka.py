"""Topics read from their first record to their end, as a read_committed reader sees them (or one that is not)."""

import time
from dataclasses import dataclass, field

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

BATCH = 5000
QUIET_S = 10


@dataclass(frozen=True)
class Record:
    topic: str
    partition: int
    offset: int
    at: int  # UTC micros: the broker's append time where the topic has it
    key: bytes | None
    value: bytes | None
    headers: dict = field(default_factory=dict, compare=False)

    @property
    def where(self):
        return (self.topic, self.partition, self.offset)

    @property
    def name(self):
        return f"{self.topic}/{self.partition}/{self.offset}"


class Tail:
    """Some topics' records, in order by partition. refresh() reads what has come since."""

    def __init__(self, brokers, topics, isolation="read_committed", settings=()):
        self.records = {topic: [] for topic in topics}
        self.low = {}
        self.settings = {
            "bootstrap.servers": brokers, "group.id": "spend-oracle-reader", "enable.auto.commit": False,
            "isolation.level": isolation, "enable.partition.eof": True, "auto.offset.reset": "error",
            "fetch.message.max.bytes": 9 << 20, **dict(settings)}
        self.consumer = Consumer(self.settings)
        known = self.consumer.list_topics(timeout=30).topics
        missing = [topic for topic in topics if topic not in known]
        if missing:
            raise KafkaException(f"topics are missing: {', '.join(missing)}")
        self.next = {(topic, number): OFFSET_BEGINNING for topic in topics for number in known[topic].partitions}
        for topic, number in self.next:
            self.low[topic, number] = self._low(TopicPartition(topic, number))

    def _low(self, partition, timeout_s=30):
        """Its first offset; a leader that is just being chosen is waited for."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                return self.consumer.get_watermark_offsets(partition, timeout=timeout_s)[0]
            except KafkaException as failed:
                if time.monotonic() >= end:
                    raise failed
                time.sleep(0.2)

    def _go_on(self):
        self.consumer.assign([TopicPartition(t, n, at) for (t, n), at in self.next.items()])

    def refresh(self, timeout_s=60.0):
        """Reads on to the present end of each partition; how many records came."""
        self._go_on()
        waiting, count, quiet_s = set(self.next), 0, 0
        while waiting:
            messages = self.consumer.consume(BATCH, timeout=1.0)
            quiet_s += 0 if messages else 1
            if quiet_s >= timeout_s:
                raise TimeoutError(f"no end of {sorted(waiting)}")
            if not messages and quiet_s % QUIET_S == 0:  # librdkafka's may not find its way back to a broker that was restarted
                self.consumer.close()
                self.consumer = Consumer(self.settings)
                self._go_on()
            for message in messages:
                where = (message.topic(), message.partition())
                if message.error():
                    if message.error().code() != KafkaError._PARTITION_EOF:
                        raise KafkaException(message.error())
                    self.next[where] = message.offset()
                    waiting.discard(where)
                    continue
                count += 1
                self.next[where] = message.offset() + 1
                self.records[message.topic()].append(Record(
                    *where, message.offset(), message.timestamp()[1] * 1000, message.key(), message.value(),
                    dict(message.headers() or ())))
        self.consumer.unassign()
        return count

    def close(self):
        self.consumer.close()
