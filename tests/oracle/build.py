"""Honest records, for tests: a call, the facts it needs, a small price book. Every field can be given."""

import os
import time
import uuid

from . import avro, rater, tags

SINCE = 1_800_000_000_000_000
PRICES = {
    "gpt-4o": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": "2.5e-06",
               "output_cost_per_token": "1e-05", "cache_read_input_token_cost": "1.25e-06"},
    "gpt-4o-mini": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": "1.5e-07",
                    "output_cost_per_token": "6e-07", "cache_read_input_token_cost": "7.5e-08"},
}


def now_us():
    return time.time_ns() // 1000


def uuid7(at_us=None):
    at_ms = (now_us() if at_us is None else at_us) // 1000
    raw = bytearray(at_ms.to_bytes(6, "big") + os.urandom(10))
    raw[6] = raw[6] & 0x0F | 0x70
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


def tag(raw, *origins):
    key, value = tags.split(raw)
    return {"raw": raw, "key": key, "value": value, "origins": list(origins or ("header",))}


def usage(**classes):
    return {**dict.fromkeys(rater.CLASSES), **classes}


def call(raw_tags=(), at=None, **fields):
    at = now_us() if at is None else at
    out = {
        "call_id": uuid7(at), "source": "gateway", "source_id": None, "instance": None, "boot": None, "seq": None,
        "admitted_at": at, "received_at": at, "finished_at": at, "operation": "chat", "path": "/v1/chat/completions",
        "upstream": "127.0.0.1:4000", "model_requested": "gpt-4o", "model_replied": "gpt-4o", "provider": None,
        "service_tier": None, "stream": False, "tags": [t if isinstance(t, dict) else tag(t) for t in raw_tags],
        "tags_truncated": False, "body_unparsed": False, "key_hash": None, "user_agent": "test", "gate": "off",
        "upstream_call_id": None, "upstream_status": 200, "upstream_retries": None, "upstream_fallbacks": None,
        "outcome": "completed", "usage": usage(input=100, output=45), "provider_usage": "{}", "quality": "final",
        "reported_cost_nanos": None, "ttfb_us": 10, "duration_us": 20, "request_bytes": 100, "reply_bytes": 200,
        "dispute": None, "variant": None}
    assert fields.keys() <= out.keys(), fields.keys() - out.keys()
    return {**out, **fields}


def call_key(value):
    return str(uuid.UUID(bytes=value["call_id"])).encode()


def version(recorded_at, effective_from=0, **fields):
    out = {"effective_from": effective_from, "recorded_at": recorded_at, "account_id": None, "tier": None, "markup_ppm": None,
           "user": None, "team": None, "tags": [], "tag_policy": None, "price_key": None, "conversation_id": None}
    assert fields.keys() <= out.keys(), fields.keys() - out.keys()
    return {**out, **fields}


def fact(kind, name, *versions):
    return {"kind": kind, "id": name, "versions": list(versions), "watermark": None, "price_version": None}


def heartbeat(watermark, price_version=1):
    return {"kind": "heartbeat", "id": "config", "versions": [], "watermark": watermark, "price_version": price_version}


def policy(trust="default", require=(), accounts=()):
    return {"trust": trust, "require": list(require), "accounts": list(accounts)}


def registry_record(record):
    """(key, value) of spend.registry."""
    return f"{record['kind']}:{record['id']}".encode(), avro.REGISTRY.encode(record)


def book(number=1, prices=None, effective_from=0, recorded_at=1):
    record = rater.import_book(prices or PRICES, number, effective_from, recorded_at)
    return {**record, "source": "test", "sha256": "0" * 64}


def book_record(record):
    """(key, value) of spend.prices."""
    return str(record["version"]).encode(), avro.PRICES.encode(record)
