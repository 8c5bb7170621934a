"""The oracle itself: its parts against values worked out by hand, and eight seeded defects, each of which it must name."""

import copy
import uuid

import pytest

from integration.oracle_world import KEY, START, Spendline
from oracle import attribute, avro, build, decide, dump, fold, money, postgres, rater, tags
from oracle.check import differences
from oracle.kafka import Record

# -- money


@pytest.mark.parametrize("n, d, want", [
    (0, 2, 0), (1, 2, 0), (3, 2, 2), (5, 2, 2), (7, 2, 4), (-1, 2, 0), (-3, 2, -2), (-5, 2, -2), (10, 4, 2), (11, 4, 3),
    (499_999, 1_000_000, 0), (500_000, 1_000_000, 0), (500_001, 1_000_000, 1), (1_500_000, 1_000_000, 2)])
def test_halves_go_to_the_even_neighbour(n, d, want):
    assert money.half_even(n, d) == want


@pytest.mark.parametrize("text, scale, want", [
    ("2.5e-06", 15, (2_500_000_000, False)), ("0", 15, (0, False)), ("1E-15", 15, (1, False)), ("1.5e-15", 15, (2, True)),
    ("2.5e-15", 15, (2, True)), ("-0.0000005", 9, (-500, False)), ("1e3", 0, (1000, False)), ("0.30", 6, (300_000, False))])
def test_decimal_text_becomes_an_integer(text, scale, want):
    assert money.parse_decimal(text, scale) == want


@pytest.mark.parametrize("text", ["", "-", "nan", "1 ", "+1", "0x1", "e5", "9e30", "1.2.3"])
def test_what_is_no_decimal_is_refused(text):
    with pytest.raises(money.MoneyError):
        money.parse_decimal(text, 15)


def test_markup_is_applied_once_and_rounded_once():
    assert money.mark_up(1_000_001, 1_300_000) == 1_300_001
    assert money.mark_up(5, 1_500_000) == 8 and money.mark_up(3, 1_500_000) == 4
    with pytest.raises(money.MoneyError):
        money.mark_up(2**62, 4_000_000)


@pytest.mark.parametrize("nanos, want", [(0, "0"), (1500, "0.0000015"), (-1500, "-0.0000015"), (12_300_000_000, "12.3")])
def test_usd_is_the_shortest_text(nanos, want):
    assert money.usd(nanos) == want


# -- Avro


@pytest.mark.parametrize("data, want", [(b"\x00", 0), (b"\x01", -1), (b"\x02", 1), (b"\x80\x01", 64), (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", -2**63)])
def test_numbers_are_zigzag(data, want):
    schema = avro.Schema('{"type":"record","name":"R","fields":[{"name":"n","type":"long"}]}')
    assert schema.decode(schema.frame + data) == {"n": want}
    assert schema.encode({"n": want}) == schema.frame + data


def test_the_fingerprint_of_the_specification():
    # the CRC-64-AVRO of "int" in the Avro specification's own test vectors
    assert avro.crc64(b'"int"') == 0x7275D51A3F395C8F
    assert avro.canonical({"type": "int"}) == '"int"'


@pytest.mark.parametrize("damage", [
    lambda b: b[:-1], lambda b: b + b"\0", lambda b: b"\xc3\x02" + b[2:], lambda b: b[:2] + bytes(8) + b[10:],
    lambda b: b"", lambda b: None, lambda b: b[:26] + b"\x09" + b[27:]])
def test_damaged_records_are_refused(damage):
    with pytest.raises(avro.AvroError):
        avro.CALL.decode(damage(avro.CALL.encode(build.call(["a=b"]))))


def test_an_array_in_sized_blocks_is_read():
    schema = avro.Schema('{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array","items":"long"}}]}')
    assert schema.decode(schema.frame + b"\x03\x04\x02\x04\x02\x06\x00") == {"a": [1, 2, 3]}
    with pytest.raises(avro.AvroError):
        schema.decode(schema.frame + b"\x03\x06\x02\x04\x02\x06\x00")


# -- tags


@pytest.mark.parametrize("raw, want", [
    ("a=b", ("a", "b")), ("a:b", ("a", "b")), ("a:b=c", ("a:b", "c")), ("a=b=c", ("a", "b=c")), ("plain", (None, None)),
    ("=", ("", "")), (":x", ("", "x")), ("a=", ("a", ""))])
def test_a_tag_is_split_at_the_first_equals_sign(raw, want):
    assert tags.split(raw) == want


def test_a_tag_set_is_a_union_that_keeps_order_and_origins():
    found = tags.TagSet()
    found.add_list(" task=1 , ,account_id=2,  x y ", "header")
    found.add_item("task=1", "root")
    found.add_item(" task=1", "metadata")
    found.add_user("bob")
    found.add_item("c\x01", "root")
    assert [(t["raw"], t["origins"]) for t in found.tags] == [
        ("task=1", ["header", "root"]), ("account_id=2", ["header"]), ("x y", ["header"]), (" task=1", ["metadata"]),
        ("end_user=bob", ["user"])]
    assert (found.empty, found.refused, found.fault) == (1, 1, "control")


# -- attribution, case by case

FACTS = [
    build.fact("account", "acme", build.version(1)), build.fact("account", "bold", build.version(1)),
    build.fact("account", "late", build.version(START + 5)),
    build.fact("task", "job", build.version(1, account_id="acme", conversation_id="talk")),
    build.fact("conversation", "talk", build.version(1, account_id="acme")),
    build.fact("conversation", "theirs", build.version(1, account_id="bold")),
    build.fact("key", "00" * 32, build.version(1, account_id="acme", user="u", team="t", tags=["bound=1"])),
    build.fact("key", "01" * 32, build.version(1, account_id="acme", tag_policy=build.policy("any"))),
    build.fact("key", "02" * 32, build.version(1, tag_policy=build.policy("list", (), ("bold",)))),
    build.fact("key", "03" * 32, build.version(1, account_id="acme", tag_policy=build.policy("default", ("task",)))),
    build.fact("key", "04" * 32, build.version(1, tags=["account_id=bold"])),
    build.fact("key", "05" * 32, build.version(1, account_id="acme"), build.version(2, START, account_id="bold")),
]


@pytest.mark.parametrize("sent, key, want", [
    (["account_id=acme"], None, ("account", "acme", "tag", None, None)),
    (["account_id=acme", "task=free", "conversation=label"], None, ("account", "acme", "tag", "free", "label")),
    (["task=job"], None, ("account", "acme", "task", "job", "talk")),
    (["conversation=theirs"], None, ("account", "bold", "conversation", None, "theirs")),
    (["task=job", "conversation=theirs"], None, ("conflict",)),
    (["account_id=bold", "task=job"], None, ("conflict",)),
    (["account_id=acme", "account_id=bold"], None, ("conflict",)),
    (["account_id=acme", "account_id="], None, ("account", "acme", "tag", None, None)),
    (["account_id="], None, ("untagged",)),
    ([], None, ("untagged",)),
    (["task=free"], None, ("untagged",)),
    (["account_id=nobody"], None, ("unknown",)),
    (["account_id=late"], None, ("unknown",)),
    (["account_id=~suspense/untagged"], None, ("unknown",)),
    (["account_id=" + "x" * 129], None, ("unknown",)),
    ([], "00", ("account", "acme", "key", None, None)),
    (["account_id=acme"], "00", ("account", "acme", "tag", None, None)),
    (["account_id=bold"], "00", ("conflict",)),
    (["conversation=theirs"], "00", ("conflict",)),
    (["account_id=bold"], "01", ("account", "bold", "tag", None, None)),
    ([], "01", ("account", "acme", "key", None, None)),
    (["account_id=bold"], "02", ("account", "bold", "tag", None, None)),
    (["account_id=acme"], "02", ("conflict",)),
    ([], "03", ("untagged",)),
    (["task=x"], "03", ("account", "acme", "key", "x", None)),
    (["account_id=bold"], "03", ("conflict",)),
    ([], "04", ("account", "bold", "tag", None, None)),
    (["account_id=acme"], "04", ("conflict",)),
    ([], "05", ("account", "bold", "key", None, None)),
    ([], "06", ("untagged",)),
])
def test_attribution(sent, key, want):
    registry = attribute.Registry()
    for record in FACTS:
        registry.put(record)
    call = build.call(sent, at=START, key_hash=key and key * 32)
    got = attribute.attribute(call, registry, START)
    assert (got["verdict"],) if got["verdict"] != "account" else tuple(
        got[name] for name in ("verdict", "account", "route", "task", "conversation")) == want
    assert got["verdict"] == want[0]


def test_a_version_counts_by_its_start_and_by_when_it_was_recorded():
    registry = attribute.Registry()
    registry.put(build.fact("account", "a", build.version(10, 0, tier="one"), build.version(20, 80, tier="two"),
                            build.version(90, 80, tier="three")))
    assert registry.find("account", "a", 79, 1000)["tier"] == "one"
    assert registry.find("account", "a", 80, 89)["tier"] == "two"
    assert registry.find("account", "a", 80, 90)["tier"] == "three"
    assert registry.find("account", "a", 80, 9) is None


# -- rating, by hand


@pytest.mark.parametrize("model, usage, more, want", [
    ("gpt-4o", {"input": 100, "output": 45}, {}, (700_000, "exact")),
    ("gpt-4o", {"input": 100, "cache_read": 20, "output": 35, "reasoning": 10}, {}, (725_000, "exact")),
    ("gpt-4o", {"cache_write_5m": 7}, {}, (0, "assumed")),
    ("gpt-4o-mini", {"input": 1}, {}, (150, "exact")),
    ("openai/gpt-4o", {"input": 2}, {}, (5000, "exact")),
    ("tiers", {"input": 1000}, {"service_tier": "flex"}, (500, "exact")),
    ("tiers", {"input": 1000}, {"service_tier": "flex", "provider": "azure"}, (1000, "exact")),
    ("tiers", {"input": 3, "output": 1}, {"service_tier": "batch", "provider": "azure"}, (2, "assumed")),
    ("tiers", {"input": 200_000}, {}, (200_000, "exact")),
    ("tiers", {"input": 150_001, "cache_read": 50_000, "output": 1}, {}, (150_001 * 3 + 0 + 5, "assumed")),
    ("halves", {"input": 1}, {}, (0, "exact")), ("halves", {"input": 3}, {}, (2, "exact")), ("halves", {"input": 5}, {}, (2, "exact")),
    ("gpt-4o", {"audio_in": 1}, {}, (0, "assumed")), ("gpt-4o", {"audio_out": 1}, {}, (10_000, "exact")),
    ("gpt-4o", {"images": 1}, {}, None), ("gpt-4o", {"characters": 1}, {}, None), ("mystery", {"input": 1}, {}, None), ("gpt-4o", {}, {}, None),
    ("gpt-4o", {}, {"outcome": "failed"}, (0, "free")), ("gpt-4o", {}, {"outcome": "rejected"}, (0, "free")),
    ("gpt-4o", {"input": 2**63 - 1, "output": 2**63 - 1}, {}, None),
])
def test_rating(model, usage, more, want):
    prices = rater.Prices()
    prices.put(build.book(1, {**build.PRICES, "halves": {"input_cost_per_token": "5e-10"}, "tiers": {
        "input_cost_per_token": "1e-09", "input_cost_per_token_flex": "5e-10", "output_cost_per_token": "2e-09",
        "input_cost_per_token_above_200k_tokens": "3e-09", "output_cost_per_token_above_200k_tokens": "5e-09"}}))
    call = build.call(at=START, model_requested=None, model_replied=model, usage=build.usage(**usage), **more)
    got = rater.rate(call, attribute.Registry(), prices, START)
    assert (got["raw"] is None) if want is None else (got["raw"], got["rating"]) == want


def test_the_requested_model_stands_in_and_says_so():
    prices = rater.Prices()
    prices.put(build.book())
    call = build.call(at=START, model_requested="gpt-4o", model_replied="gpt-4o-secret-snapshot")
    got = rater.rate(call, attribute.Registry(), prices, START)
    assert (got["raw"], got["rating"], got["price_key"]) == (700_000, "assumed", "gpt-4o")


# -- folding


def test_the_hash_stands_still():
    call = build.call(["a=b", "task=1"], at=START, call_id=bytes(16))
    first = fold.call_hash(call)
    call["tags"].reverse()
    call["tags"].append(build.tag("bound=1", "key"))
    call.update(instance="x", seq=7, duration_us=1, user_agent="y", request_bytes=9)
    assert fold.call_hash(call) == first
    # a change here is a change of every hash that was ever stored
    assert first.hex() == "44e2c0f47453e2ac28818a24e696304b9ada8eaf389cdf81b82239bc4f7e9667"
    for change in ({"outcome": "failed"}, {"model_replied": None}, {"admitted_at": START + 1}, {"key_hash": KEY}):
        assert fold.call_hash({**call, **change}) != first


def folded(*told):
    out = fold.Folded()
    for call in told:
        out.add(call, fold.call_hash(call), "attributed", decision_of(call))
    return out


def decision_of(call, raw=5, reason=None):
    return {"call": call, "account": f"~suspense/{reason}" if reason else "acme", "reason": reason, "task": None,
            "conversation": None, "raw": raw, "price_version": 1, "price_key": None, "tags": []}


@pytest.mark.parametrize("losing, winning", [
    ({"quality": "estimated"}, {"quality": "final"}),
    ({"outcome": "aborted"}, {"outcome": "completed"}),
    ({"source": "proxy_log"}, {"source": "gateway"}),
    ({"source": "proxy_log", "outcome": "failed"}, {"quality": "unknown", "outcome": "rejected"}),
    ({"source": "events_api", "stream": True, "provider_usage": None}, {"quality": "partial"}),
])
def test_the_better_measurement_stands_in_any_order(losing, winning):
    base = build.call(at=START)
    worse, better = {**base, **losing, "source_id": "w"}, {**base, **winning}
    for told in ((worse, better), (better, worse), (worse, better, worse)):
        assert folded(*told).measured[0] is better


def test_a_better_measurement_without_a_price_takes_the_bill_back():
    worse = build.call(at=START, quality="estimated")
    better = {**worse, "quality": "final"}
    registry = attribute.Registry()
    registry.put(build.fact("account", "acme", build.version(1, tier="default")))
    for order in ((worse, better), (better, worse)):
        out = fold.Folded()
        for call in order:
            priced = call is worse
            out.add(call, fold.call_hash(call), "attributed" if priced else "suspense",
                    decision_of(call, 5 if priced else None, None if priced else "unpriced"))
        bill = out.bill(registry)
        assert (bill["account"], bill["raw"], bill["billed"], bill["reason"]) == ("acme", None, None, "unpriced")


def test_conflicts_are_due_only_at_the_top():
    one = build.call(at=START)
    other = {**one, "usage": build.usage(input=1)}
    low, lower = {**one, "quality": "estimated"}, {**other, "quality": "estimated"}
    assert folded(one, other).conflicts() == (True, True)
    assert folded(one, low, lower).conflicts() == (False, True)
    assert folded(one, one, low).conflicts() == (False, False)


# -- decision of a record


def record_of(call, **change):
    fields = {"topic": "spend.calls", "partition": 0, "offset": 0, "at": START, "key": build.call_key(call),
              "value": avro.CALL.encode(call)}
    return Record(**{**fields, **change})


@pytest.mark.parametrize("change", [
    {"request_bytes": -1}, {"usage": build.usage(input=-1)}, {"key_hash": "zz"}, {"path": "x" * 513}, {"path": "a\x01b"},
    {"admitted_at": START + 60_000_001}, {"admitted_at": 1}, {"operation": "dance"}, {"tags": [build.tag("x" * 257)]},
    {"tags": [build.tag(f"t={n}") for n in range(65)]}, {"tags": [{**build.tag("a=b"), "value": "c"}]},
    {"provider_usage": "u" * 8193}, {"tags": [build.tag("a=b", "moon")]}])
def test_dishonest_records_are_malformed(change):
    with pytest.raises(decide.Malformed):
        decide.read_call(record_of({**build.call(at=START), **change}))


def test_a_tombstone_and_what_is_too_long_are_malformed_and_a_foreign_key_is_not():
    call = build.call(at=START)
    for key in (build.call_key(call), build.call_key(build.call()), None):
        assert decide.read_call(record_of(call, key=key))["call_id"] == call["call_id"]
    for change in ({"value": None}, {"value": bytes(70_000)}):
        with pytest.raises(decide.Malformed):
            decide.read_call(record_of(call, **change))


def test_nothing_is_decided_before_the_watermark():
    registry = attribute.Registry()
    call = build.call(at=START)
    registry.put(build.heartbeat(START - 1))
    assert decide.decide(record_of(call), registry, rater.Prices()) is None
    registry.put(build.heartbeat(START))
    assert decide.decide(record_of(call), registry, rater.Prices())["reason"] == "untagged"


# -- the whole, honest and with one defect each


def test_an_honest_run_has_no_differences():
    assert differences(Spendline().run()) == []
    assert differences(Spendline(count=40, seed=5).run()) == []


class RepeatNotDropped(Spendline):
    """The ledger bills a record that it has seen."""

    def apply(self, topic, value):
        call_id = value["call"]["call_id"]
        seen = call_id in self.bills
        super().apply(topic, value)
        row = self.bills[call_id]
        if seen and row["billed"]:
            self.post(call_id, None, (row["account"], row["billed"]), row)


class OffsetStoredEarly(Spendline):
    """The attributor's offset was stored before its output: after a kill one record is gone."""

    def attribute(self, record):
        return None if record.offset == 33 else super().attribute(record)


class AppliedOffsetStoredEarly(Spendline):
    """The same in the ledger: decided, never deducted."""

    def apply(self, topic, value):
        if value["origin"]["offset"] != 33:
            super().apply(topic, value)


class TagSourceIgnored(Spendline):
    """Capture does not look at the header: its account tags are not in the record."""

    def captured_tags(self, plan):
        return super().captured_tags({**plan, "tags": [(o, raw) for o, raw in plan["tags"] if o != "header"]})


class TagSourceIgnoredWhenAttributing(Spendline):
    """The record has them, the attributor does not look."""

    def decide(self, record):
        call = avro.CALL.decode(record.value)
        call["tags"] = [tag for tag in call["tags"] if "header" not in tag["origins"]]
        return super().decide(Record(record.topic, record.partition, record.offset, record.at, record.key, avro.CALL.encode(call)))


class FloatMoney(Spendline):
    """Markup by floating point, rounded half away from zero."""

    def billed(self, raw, markup):
        return int(raw / 1e9 * (markup / 1e6) * 1e9 + 0.5)


class DeadLetterLost(Spendline):
    """A dead letter is not produced."""

    def attribute(self, record):
        topic, _, _ = self.decide(record)
        return None if topic == "spend.dlq.unknown" else super().attribute(record)


class DeliveryErrorSwallowed(Spendline):
    """Kafka refused a record and ingest went on."""

    def deliver(self, call):
        return [] if call["seq"] == 21 else super().deliver(call)


class MarkupAppliedTwice(Spendline):
    def billed(self, raw, markup):
        return money.mark_up(money.mark_up(raw, markup), markup)


class CachedTokensAtFullPrice(Spendline):
    def raw(self, call):
        usage = dict(call["usage"], cache_read=None, input=call["usage"]["input"] + call["usage"]["cache_read"])
        return super().raw({**call, "usage": usage})


@pytest.mark.parametrize("defect, kinds", [
    (RepeatNotDropped, {"balance", "invariant"}), (OffsetStoredEarly, {"lost"}), (AppliedOffsetStoredEarly, {"call", "balance"}),
    (TagSourceIgnored, {"caller"}), (TagSourceIgnoredWhenAttributing, {"attributed", "dead_letter"}), (FloatMoney, {"bill", "balance"}),
    (DeadLetterLost, {"lost"}), (DeliveryErrorSwallowed, {"provider", "gap", "caller"}),
    (MarkupAppliedTwice, {"bill", "balance"}), (CachedTokensAtFullPrice, {"attributed", "bill", "balance"})])
def test_a_seeded_defect_is_named(defect, kinds):
    found = differences(defect().run())
    assert found and kinds <= {text.split(":")[0] for text in found}, found[:5]


# -- a world with one thing wrong


def change(world, topic, number, schema, **fields):
    old = world.records[topic][number]
    value = {**schema.decode(old.value), **fields}
    world.records[topic][number] = Record(old.topic, old.partition, old.offset, old.at, old.key, schema.encode(value))


def break_chain(w):
    w.tables["entry"][4]["balance_after_nanos"] += 1


def break_balance(w):
    w.tables["balance"][0]["amount_nanos"] -= 1


def break_held(w):
    w.tables["balance"][0]["held_nanos"] = 5


def break_task(w):
    next(row for row in w.tables["call"] if row["task"])["task"] = "another"


def break_stranger(w):
    w.tables["call"].append({**w.tables["call"][0], "call_id": uuid.UUID(int=7), "billed_nanos": None})


def break_seq(w):
    call = build.call(at=START, instance="i", seq=1)
    for number, one in enumerate((call, {**build.call(at=START), "instance": "i", "seq": 1})):
        w.records["spend.calls"].append(record_of(one, offset=10_000 + number))


@pytest.mark.parametrize("damage, kind", [
    (break_chain, "invariant"), (break_balance, "balance"), (break_held, "balance"), (break_task, "task"), (break_stranger, "call"),
    (break_seq, "sequence"),
    (lambda w: w.records["spend.entries"].pop(), "entry"),
    (lambda w: w.records["spend.entries"].append(w.records["spend.entries"][0]), "entry"),
    (lambda w: change(w, "spend.entries", 3, avro.ENTRY, amount_nanos=1), "entry"),
    (lambda w: w.records["spend.attributed"].append(w.records["spend.attributed"][0]), "double"),
    (lambda w: change(w, "spend.attributed", 0, avro.ATTRIBUTED, account_id="acme!"), "attributed"),
    (lambda w: change(w, "spend.attributed", 0, avro.ATTRIBUTED, rating="assumed"), "attributed"),
    (lambda w: change(w, "spend.dlq.untagged", 0, avro.DEAD_LETTER, original=b"other"), "dead_letter"),
    (lambda w: change(w, "spend.dlq.untagged", 0, avro.DEAD_LETTER, raw_nanos=None), "dead_letter"),
    (lambda w: w.records["spend.registry"].pop(), "waiting"),
    (lambda w: w.low.update({("spend.calls", 0): 3}), "history"),
    (lambda w: w.provider[5]["usage_sent"].update(prompt_tokens=1), "provider"),
    (lambda w: w.provider.append({**w.provider[0], "call_id": str(uuid.UUID(int=5)), "order": {}}), "provider"),
    (lambda w: w.provider.append({**w.provider[0], "call_id": None, "order": {}, "usage_sent": {"prompt_tokens": 1, "completion_tokens": 1}}),
     "provider"),
    (lambda w: w.driver.append({"ref": "z", "call_id": str(uuid.UUID(int=9))}), "caller"),
])
def test_one_thing_wrong_is_named(damage, kind):
    world = Spendline(count=60).run()
    assert differences(world) == []
    damage(world)
    found = differences(world)
    assert any(text.startswith(f"{kind}: ") for text in found), found[:5]


def test_the_canonical_dump_ignores_order_and_sees_a_nano():
    tables = Spendline(count=30).run().tables
    first = dump.canonical(tables)
    assert len(first.splitlines()) > 60
    mixed = copy.deepcopy(tables)
    for rows in mixed.values():
        rows.reverse()
    assert dump.canonical(mixed) == first
    mixed["balance"][0]["amount_nanos"] += 1
    assert dump.canonical(mixed) != first
    assert postgres.invariants(mixed) != [] and postgres.invariants(tables) == []
