"""SpendCall records made by hand, as a producer other than ingest may make them: what the replay and poison tests feed in."""

import hashlib
import time
import uuid

from confluent_kafka import Producer

from oracle import avro

CLASSES = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning", "audio_in", "audio_out",
           "image_in", "image_out", "images", "characters", "seconds_milli", "requests")


def now_us():
    return time.time_ns() // 1000


def uuid7(at_us=None):
    """A UUIDv7 of this time, as 16 bytes."""
    millis = (at_us or now_us()) // 1000
    raw = bytearray(millis.to_bytes(6, "big") + uuid.uuid4().bytes[6:])
    raw[6] = 0x70 | raw[6] & 0x0F
    raw[8] = 0x80 | raw[8] & 0x3F
    return bytes(raw)


def tag(raw, origins=("header",)):
    key, found, value = raw.partition("=")
    return {"raw": raw, "key": key if found else None, "value": value if found else None, "origins": list(origins)}


def call(tags=(), usage=None, at_us=None, **fields):
    """A complete SpendCall of a gateway; fields replace what stands here."""
    at = at_us or now_us()
    made = {
        "call_id": uuid7(at), "source": "gateway", "source_id": None, "instance": None, "boot": None, "seq": None,
        "admitted_at": at, "received_at": at, "finished_at": at + 1000, "operation": "chat",
        "path": "/v1/chat/completions", "upstream": "127.0.0.1:1", "model_requested": "gpt-4o", "model_replied": "gpt-4o",
        "provider": None, "service_tier": None, "stream": False, "tags": [tag(raw) for raw in tags],
        "tags_truncated": False, "body_unparsed": False, "key_hash": hashlib.sha256(b"sk-by-hand").hexdigest(),
        "user_agent": "by-hand", "gate": "off", "upstream_call_id": None, "upstream_status": 200,
        "upstream_retries": None, "upstream_fallbacks": None, "outcome": "completed",
        "usage": {**dict.fromkeys(CLASSES), **(usage or {"input": 100, "cache_read": 20, "output": 35, "reasoning": 10})},
        "provider_usage": None, "quality": "final", "reported_cost_nanos": None, "ttfb_us": 900, "duration_us": 1000,
        "request_bytes": 100, "reply_bytes": 300, "dispute": None, "variant": None,
    }
    assert set(fields) <= set(made), set(fields) - set(made)
    made.update(fields)
    return made


def key_of(record):
    return str(uuid.UUID(bytes=record["call_id"])).encode()


def produce(brokers, items):
    """Produces (key, value) pairs to spend.calls and waits for every acknowledgement."""
    failed = []
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "linger.ms": 5})
    for key, value in items:
        while True:
            try:
                producer.produce("spend.calls", value, key, on_delivery=lambda error, _: error and failed.append(error))
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0 and not failed, failed[:3]
