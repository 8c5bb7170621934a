"""Mutated records end in spend.dlq.malformed with their bytes, each once; no partition stalls behind them.

SPEND_POISON makes it a longer campaign."""

import os
import random
from collections import Counter

from integration.calls import call, key_of, produce
from integration.settle import MONEY_TOPICS, judge, read_topic, settle
from oracle import avro
from stack import Stack, wait_until

COUNT = int(os.environ.get("SPEND_POISON", "5000"))


def varint(value):
    number, out = (value << 1) ^ (value >> 63), bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def length_positions(good):
    """Where the lengths of this record's strings stand: before each text that occurs in it as length and bytes."""
    texts = (b"/v1/chat/completions", b"127.0.0.1:1", b"gpt-4o", b"by-hand", b"chat", b"account_id=poison-good")
    found = []
    for text in texts:
        at = good.find(varint(len(text)) + text)
        if at >= 0:
            found.append((at, len(varint(len(text)))))
    assert found
    return found


def mutations(rng, count):
    """(key, value) pairs that no reader of our schema accepts; every kind of damage, every cut."""
    made, kinds = [], Counter()
    good_call = call(["account_id=poison-good", "task=t"])
    good = avro.CALL.encode(good_call)
    lengths = (-1, -2, -2**31, -2**63, 2**20, 2**31, 2**40, 2**62, len(good))

    def keep(kind, value):
        try:
            avro.CALL.decode(value)
        except avro.AvroError:
            made.append((key_of(call()), value))
            kinds[kind] += 1

    for cut in range(len(good)):
        keep("cut", good[:cut])
    keep("longer", good + b"\0")
    for _ in range(40):
        fingerprint = rng.randbytes(8)
        keep("fingerprint", good[:2] + fingerprint + good[10:])
    keep("magic", b"\xc3\x02" + good[2:])
    keep("confluent", b"\0\0\0\0\1" + good[10:])
    for at, size in length_positions(good):
        for length in lengths:
            keep("length", good[:at] + varint(length) + good[at + size:])
    assert min(kinds.values()) > 0 and kinds["cut"] == len(good) and kinds["length"] > 30
    while len(made) < count:
        damaged = bytearray(good)
        for _ in range(rng.choice((1, 1, 1, 2, 8))):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        keep("bits", bytes(damaged))
    return made[:count]


def test_poison_is_parked_with_its_bytes_and_stalls_nobody():
    rng = random.Random(20261123)
    poison = mutations(rng, COUNT)
    with Stack() as stack:
        stack.start_services(ingest=False)
        assert stack.api("PUT", "/v1/accounts/poison-good", {"name": "Good"})[0] in (200, 201)
        good = [call(["account_id=poison-good"]) for _ in range(COUNT // 10)]
        mixed = poison + [(key_of(record), avro.CALL.encode(record)) for record in good]
        rng.shuffle(mixed)
        produce(stack.brokers, mixed)
        settle(stack)

        letters = [avro.DEAD_LETTER.decode(m.value()) for m in read_topic(stack.brokers, ["spend.dlq.malformed"])]
        assert Counter(letter["original"] for letter in letters) == Counter(value for _, value in poison)
        keys = Counter(m.key() for m in read_topic(stack.brokers, ["spend.dlq.malformed"]))
        assert keys == Counter(key for key, _ in poison)
        assert {letter["reason"] for letter in letters} == {"malformed"}
        assert all(letter["raw_nanos"] is None and letter["detail"] for letter in letters)
        billed = [avro.ATTRIBUTED.decode(m.value()) for m in read_topic(stack.brokers, MONEY_TOPICS)]
        assert {b["call"]["call_id"] for b in billed} == {record["call_id"] for record in good}

        # behind the poison the partitions still move
        late = [call(["account_id=poison-good"]) for _ in range(24)]
        produce(stack.brokers, [(key_of(record), avro.CALL.encode(record)) for record in late])
        settle(stack)
        status, account = stack.api("GET", "/v1/accounts/poison-good")
        assert status == 200
        entries = wait_until(lambda: stack.api("GET", "/v1/accounts/poison-good/entries?limit=1000")[1]["items"], 10, "entries")
        assert len(entries) == len(good) + len(late)
        assert stack.services["attributor"].alive and account["balance"].startswith("-")
        judge(stack, provider=False)


def test_records_that_decode_but_cannot_be_honest_are_malformed():
    """A future time, negative units, an impossible key hash: parked, not billed. A key of its own is no fault."""
    with Stack() as stack:
        stack.start_services(ingest=False)
        assert stack.api("PUT", "/v1/accounts/poison-good", {"name": "Good"})[0] in (200, 201)
        tags = ["account_id=poison-good"]
        from integration.calls import now_us
        bad = [call(tags, at_us=now_us() + 3_600_000_000), call(tags, usage={"input": -1, "output": 1}),
               call(tags, key_hash="not hex"), call(tags, request_bytes=-5)]
        items = [(key_of(record), avro.CALL.encode(record)) for record in bad]
        strangers = [call(tags) for _ in range(3)]
        keys = (key_of(call()), strangers[1]["call_id"], None)
        produce(stack.brokers, items + [(key, avro.CALL.encode(record)) for key, record in zip(keys, strangers, strict=True)])
        settle(stack)
        letters = [avro.DEAD_LETTER.decode(m.value()) for m in read_topic(stack.brokers, ["spend.dlq.malformed"])]
        assert Counter(letter["original"] for letter in letters) == Counter(value for _, value in items)
        billed = [avro.ATTRIBUTED.decode(m.value()) for m in read_topic(stack.brokers, MONEY_TOPICS)]
        assert {b["call"]["call_id"] for b in billed} == {record["call_id"] for record in strangers}
        judge(stack, provider=False)
