"""A Spendline in miniature, for the oracle's own tests: it makes the topics, tables and logs of an honest run in memory.

Each step is a method, so that a test can break one and see whether the oracle notices.
"""

import json
import random
import uuid

from oracle import avro, build, fold, money, rater, tags
from oracle.attribute import Registry, attribute
from oracle.check import TOPICS, World
from oracle.kafka import Record

START = build.SINCE
INSTANCE = "0190a0b0-0000-7000-8000-000000000000"
ACCOUNTS = {"acme": ("default", 1_000_000), "bold": ("plus", 1_300_000), "cool": ("thirds", 1_333_333)}
KEY = "ab" * 32


class Spendline:
    """Callers make calls; capture, decision, application and publication follow. run() is the whole."""

    def __init__(self, count=120, seed=1):
        self.rng = random.Random(seed)
        self.count, self.clock, self.seq = count, START, 0
        self.records = {topic: [] for topic in TOPICS}
        self.provider, self.driver = [], []
        self.registry, self.prices = Registry(), rater.Prices()
        self.folded, self.bills = {}, {}
        self.entries = {}
        self.balances = {f"{fold.SUSPENSE}{reason}": (0, 0) for reason in ("untagged", "unknown", "conflict", "unpriced")}

    # -- topics

    def produce(self, topic, key, value):
        record = Record(topic, 0, len(self.records[topic]), self.clock, key, value)
        self.records[topic].append(record)
        return record

    def configure(self):
        facts = [build.fact("tier", tier, build.version(START - 9, markup_ppm=ppm)) for tier, ppm in ACCOUNTS.values()]
        facts += [build.fact("account", name, build.version(START - 8, tier=tier)) for name, (tier, _) in ACCOUNTS.items()]
        facts += [build.fact("task", "job", build.version(START - 7, account_id="bold", conversation_id="talk")),
                  build.fact("key", KEY, build.version(START - 7, account_id="cool", user="u", team="t", tags=["bound=1"]))]
        book = build.book(recorded_at=START - 10)
        self.produce("spend.prices", *build.book_record(book))
        self.prices.put(book)
        for record in facts:
            self.produce("spend.registry", *build.registry_record(record))
            self.registry.put(record)
        beat = build.heartbeat(START + 10**9)
        self.produce("spend.registry", *build.registry_record(beat))
        self.registry.put(beat)

    # -- callers and capture

    def plan(self, number):
        rng = self.rng
        sent = [("header", f"account_id={rng.choice(list(ACCOUNTS))}"), ("metadata", f"task=t{number % 5}"), ("root", "colour=red")]
        if number % 9 == 0:
            sent = [("root", "task=job")]
        elif number % 10 == 0:
            sent = []
        elif number % 13 == 0:
            sent = [("header", "account_id=nobody")]
        elif number % 17 == 0:
            sent = [("header", "account_id=acme"), ("metadata", "account_id=bold")]
        prompt, completion = rng.randrange(10, 4000), rng.randrange(1, 900)
        return {"ref": f"n{number}", "tags": sent, "key": KEY if number % 11 == 0 else None,
                "model": "mystery" if number % 19 == 0 else rng.choice(list(build.PRICES)),
                "usage": {"prompt_tokens": prompt, "completion_tokens": completion,
                          "prompt_tokens_details": {"cached_tokens": rng.randrange(prompt)},
                          "completion_tokens_details": {"reasoning_tokens": rng.randrange(completion)}}}

    def captured_tags(self, plan):
        found = tags.TagSet()
        for origin, raw in plan["tags"]:
            found.add_item(raw, origin)
        return found.tags

    def captured_usage(self, plan):
        usage = plan["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        thought = usage["completion_tokens_details"]["reasoning_tokens"]
        return build.usage(input=usage["prompt_tokens"] - cached, cache_read=cached,
                           output=usage["completion_tokens"] - thought, reasoning=thought)

    def capture(self, plan):
        self.clock += 1000
        self.seq += 1
        call = build.call(self.captured_tags(plan), at=self.clock, instance=INSTANCE, boot=1, seq=self.seq, key_hash=plan["key"],
                          model_requested=plan["model"], model_replied=plan["model"], usage=self.captured_usage(plan))
        call_id = str(uuid.UUID(bytes=call["call_id"]))
        self.provider.append({"kind": "chat", "call_id": call_id, "id": plan["ref"], "order": {"ref": plan["ref"]},
                              "usage_sent": plan["usage"]})
        self.driver.append({"ref": plan["ref"], "call_id": call_id, "tags": [raw for _, raw in plan["tags"]]})
        return call

    def deliver(self, call):
        return [self.produce("spend.calls", build.call_key(call), avro.CALL.encode(call))]

    # -- the attributor

    def raw(self, call):
        return rater.rate(call, self.registry, self.prices, call["admitted_at"])

    def decide(self, record):
        call = avro.CALL.decode(record.value)
        named = attribute(call, self.registry, max(call["admitted_at"], call["received_at"]))
        rated = self.raw(call)
        reason = None if named["verdict"] == "account" else named["verdict"]
        reason = reason or ("unpriced" if rated["raw"] is None else None)
        base = {"call": {**call, "tags": named["tags"]}, "hash": fold.call_hash(call), "raw_nanos": rated["raw"],
                "origin": dict(zip(("topic", "partition", "offset"), record.where, strict=True)),
                "price_version": rated["price_version"], "rater_version": rater.RATER_VERSION, "redrive": None}
        if reason:
            return f"spend.dlq.{reason}", record.key, {
                **base, "kind": "call", "reason": reason, "detail": "", "call_id": call["call_id"], "original": record.value,
                "first_seen": record.at, "attempts": 1, "estimated": False}
        return "spend.attributed", named["account"].encode(), {
            **base, "account_id": named["account"], "task_id": named["task"], "conversation_id": named["conversation"],
            "user": named["user"], "team": named["team"], "route": named["route"], "rating": rated["rating"],
            "price_key": rated["price_key"], "config_watermark": self.registry.watermark}

    def attribute(self, record):
        topic, key, value = self.decide(record)
        schema = avro.ATTRIBUTED if topic == "spend.attributed" else avro.DEAD_LETTER
        self.produce(topic, key, schema.encode(value))
        return topic, value

    # -- the ledger

    def markup(self, account, at):
        return money.MARKUP_ONE if account.startswith("~") else self.registry.markup(account, at)

    def billed(self, raw, markup):
        return money.mark_up(raw, markup)

    def apply(self, topic, value):
        call_id = value["call"]["call_id"]
        reason = value.get("reason")
        folded = self.folded.setdefault(call_id, fold.Folded())
        folded.add(value["call"], value["hash"], "suspense" if reason else "attributed", {
            "account": fold.SUSPENSE + reason if reason else value["account_id"], "reason": reason, "raw": value["raw_nanos"],
            "task": value.get("task_id"), "conversation": value.get("conversation_id"), "tags": value["call"]["tags"],
            "price_version": value["price_version"], "price_key": value.get("price_key")})
        row = folded.bill(self.registry)
        if row["raw"] is not None:
            row["markup"] = self.markup(row["account"], row["admitted_at"])
            row["billed"] = self.billed(row["raw"], row["markup"])
        before = self.bills.get(call_id)
        self.bills[call_id] = row
        self.post(call_id, before and (before["account"], before["billed"]), (row["account"], row["billed"]), row)

    def post(self, call_id, before, after, row):
        for account, amount, kind in fold.movements(before, after):
            self.entry(account, kind, amount, call_id=uuid.UUID(bytes=call_id), task=row["task"], raw_nanos=row["raw"],
                       cause="correction" if before else "call")

    def entry(self, account, kind, amount, **more):
        seq, balance = self.balances.get(account, (0, 0))
        self.balances[account] = (seq + 1, balance + amount)
        self.entries[account, seq + 1] = {
            "account_id": account, "account_seq": seq + 1, "kind": kind, "amount_nanos": amount,
            "balance_after_nanos": balance + amount, "call_id": None, "external_id": None, "task": None, "conversation": None,
            "model": None, "raw_nanos": None, "markup_ppm": None, "price_version": None, "revision": 0, "admitted_at": None,
            "posted_at": self.clock, "cause": "credit", **more}

    def publish(self):
        for entry in self.entries.values():
            value = {**entry, "task_id": entry["task"], "conversation_id": entry["conversation"],
                     "call_id": entry["call_id"] and entry["call_id"].bytes}
            self.produce("spend.entries", entry["account_id"].encode(), avro.ENTRY.encode(value))

    def heartbeat(self):
        beat = {"instance": INSTANCE, "boot": 1, "next_seq": self.seq + 1, "oldest_open_seq": self.seq + 1, "state": "alive",
                "at": self.clock}
        self.produce("spend.instances", INSTANCE.encode(), avro.INSTANCE.encode(beat))

    # -- the whole

    def run(self):
        self.configure()
        for account in ACCOUNTS:
            self.entry(account, "top_up", 10**10, external_id=f"top-{account}")
        for number in range(1, self.count + 1):
            call = self.capture(self.plan(number))
            delivered = self.deliver(call)
            if number % 8 == 0:  # an at-least-once producer repeats itself
                delivered += [self.produce("spend.calls", record.key, record.value) for record in delivered]
            for record in delivered:
                made = self.attribute(record)
                if made:
                    self.apply(*made)
        self.heartbeat()
        self.publish()
        return self.world()

    def tables(self):
        rows = []
        for call_id, row in self.bills.items():
            ranks = dict(zip(("identity_rank", "measurement_rank", "attribution_rank"), row["ranks"], strict=True))
            rows.append({"call_id": uuid.UUID(bytes=call_id), "account_id": row["account"], "task": row["task"],
                         "conversation": row["conversation"], "reason": row["reason"], "hash": row["hash"], **ranks,
                         "raw_nanos": row["raw"], "billed_nanos": row["billed"], "markup_ppm": row["markup"] or 0,
                         "price_version": row["price_version"], "price_key": row["price_key"], "revision": 0,
                         "admitted_at": row["admitted_at"], "outcome": row["outcome"], "quality": row["quality"],
                         "tags": [tag["raw"] for tag in row["tags"]]})
        return {"call": rows, "entry": list(self.entries.values()), "consumer_offset": [],
                "account": [{"id": n, "account_id": a, "name": a} for n, a in enumerate(self.balances)],
                "balance": [{"account_id": account, "amount_nanos": amount, "held_nanos": 0, "seq": seq}
                            for account, (seq, amount) in self.balances.items()]}

    def world(self):
        provider = json.loads(json.dumps(self.provider))
        return World(self.records, self.tables(), provider, self.driver)
