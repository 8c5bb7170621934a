"""What must become of one record of spend.calls: an AttributedCall, a dead letter, or nothing yet."""

from . import attribute, avro, fold, rater, tags

CALL_BYTES = 64 * 1024
TEXT_BYTES = 512
USAGE_BYTES = 8 * 1024
YEAR_2020_US = 1_577_836_800_000_000
YEAR_2200_US = 7_258_118_400_000_000
TEXTS = ("source_id", "instance", "path", "upstream", "model_requested", "model_replied", "provider", "service_tier",
         "user_agent", "upstream_call_id", "dispute", "variant")
COUNTS = ("boot", "seq", "upstream_status", "upstream_retries", "upstream_fallbacks", "ttfb_us", "duration_us",
          "request_bytes", "reply_bytes")
ORIGINS_MOST = 16
OPERATIONS = ("chat", "completion", "responses", "messages", "embeddings", "rerank", "image", "speech", "transcription",
              "batch", "fine_tune", "other")


class Malformed(ValueError):
    """No honest record looks like this."""


def check_call(call):
    if call["operation"] not in OPERATIONS:
        raise Malformed("operation")
    check_numbers(call)
    for name in TEXTS:
        text = call[name]
        if text is not None and (len(tags.octets(text)) > TEXT_BYTES or not tags.is_utf8(text) or tags.has_control(text)):
            raise Malformed(name)
    usage = call["provider_usage"]
    if usage is not None and (len(tags.octets(usage)) > USAGE_BYTES or not tags.is_utf8(usage) or "\0" in usage):
        raise Malformed("provider_usage")
    digest = call["key_hash"]
    if digest is not None and (len(digest) != 64 or any(c not in "0123456789abcdefABCDEF" for c in digest)):
        raise Malformed("key_hash")
    for tag in call["tags"]:
        check_tag(tag)
    if sum(not tags.is_bound(tag) for tag in call["tags"]) > tags.TAGS or len(call["tags"]) > 2 * tags.TAGS:
        raise Malformed("tags")


def check_numbers(call):
    for name in COUNTS:
        if call[name] is not None and call[name] < 0:
            raise Malformed(name)
    for name in rater.CLASSES:
        if (call["usage"][name] or 0) < 0:
            raise Malformed(f"usage.{name}")
    if not YEAR_2020_US <= call["admitted_at"] < YEAR_2200_US:
        raise Malformed("admitted_at")
    if not 0 <= call["received_at"] < YEAR_2200_US or not 0 <= (call["finished_at"] or 0) < YEAR_2200_US:
        raise Malformed("received_at or finished_at")


def check_tag(tag):
    raw = tag["raw"]
    if raw == "" or len(tags.octets(raw)) > tags.TAG_BYTES or not tags.is_utf8(raw) or tags.has_control(raw):
        raise Malformed("tag")
    if (tag["key"], tag["value"]) != tags.split(raw):
        raise Malformed("tag key or value")
    if len(tag["origins"]) > ORIGINS_MOST or any(origin not in tags.ORIGINS for origin in tag["origins"]):
        raise Malformed("tag origin")


def read_call(record):
    """The SpendCall of a record, or Malformed."""
    if record.value is not None and len(record.value) > CALL_BYTES:
        raise Malformed("too long")
    try:
        call = avro.CALL.decode(record.value)
    except avro.AvroError as error:
        raise Malformed(str(error)) from error
    check_call(call)
    if call["admitted_at"] > record.at + attribute.APPEND_SLACK_US:
        raise Malformed("admitted in the future")
    return call


def decide(record, registry, prices, rules=None):
    """The disposition of a record, None while the configuration that it needs has not been seen."""
    base = {"origin": record.where, "record": record}
    try:
        call = read_call(record)
    except Malformed as error:
        return {**base, "reason": "malformed", "call": None, "why": str(error)}
    deadline = attribute.known_by(call, record.at)
    if registry.watermark < deadline:
        return None
    named = attribute.attribute(call, registry, deadline, rules)
    rated = rater.rate(call, registry, prices, deadline)
    reason = None if named["verdict"] == "account" else named["verdict"]
    if call["dispute"] is not None:
        reason = "conflict"
    if reason is None and rated["raw"] is None:
        reason = "unpriced"
    out = {**base, "call": call, "hash": fold.call_hash(call), "reason": reason, "tags": named["tags"],
           "raw": rated["raw"], "price_version": rated["price_version"], "why": rated["why"]}
    if reason:
        return {**out, "account": fold.SUSPENSE + reason, "task": None, "conversation": None, "price_key": None,
                "estimated": rated["raw"] is not None and call["quality"] == "estimated"}
    return {**out, "account": named["account"], "task": named["task"], "conversation": named["conversation"],
            "user": named["user"], "team": named["team"], "route": named["route"], "rating": rated["rating"],
            "price_key": rated["price_key"]}
