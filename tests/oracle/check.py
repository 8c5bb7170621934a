"""The comparison: what the oracle expects against spend.attributed and spend.dlq.*, Postgres, spend.entries, the provider.

Each difference is a sentence with its kind in front (`bill`, `dead_letter`, `entry` ..), so that a test can ask for one.
"""

import json
import uuid
from collections import Counter
from dataclasses import dataclass, field

from . import avro, fold
from .attribute import Registry
from .decide import decide
from .postgres import CREDITS, invariants
from .rater import RATER_VERSION, Prices
from .tags import TagSet

DEAD_REASONS = ("untagged", "unknown", "conflict", "unpriced", "malformed")
DEAD_TOPICS = {f"spend.dlq.{reason}": reason for reason in DEAD_REASONS}
TOPICS = ("spend.calls", "spend.registry", "spend.prices", "spend.attributed", "spend.entries", "spend.instances",
          *DEAD_TOPICS)
SHOWN = 200
KEY_KEPT = 512
ORIGINAL_KEPT = 92 * 1024


@dataclass
class World:
    """Everything the witnesses say, as it was read."""

    records: dict  # topic -> [Record]
    tables: dict | None = None  # table -> [row]; None: no database to compare
    provider: list = field(default_factory=list)
    driver: list = field(default_factory=list)  # the callers' own journal: {ref, call_id, tags}
    low: dict = field(default_factory=dict)


class Differences(list):
    def say(self, kind, text):
        self.append(f"{kind}: {text}")


def text_id(call_id):
    return str(uuid.UUID(bytes=call_id))


class Judgement:
    """The oracle's own account of a world, and what differs from it."""

    def __init__(self, world):
        self.world = world
        self.wrong = Differences()
        self.registry, self.prices = Registry(), Prices()
        self.decisions, self.calls = {}, {}
        self._configure()
        self._decide()

    def _configure(self):
        for record in self.world.records["spend.registry"]:
            if record.value is not None:
                self.registry.put(avro.REGISTRY.decode(record.value))
        for record in self.world.records["spend.prices"]:
            if record.value is not None:
                self.prices.put(avro.PRICES.decode(record.value))

    def _decide(self):
        for (topic, number), low in self.world.low.items():
            if topic == "spend.calls" and low > 0:
                self.wrong.say("history", f"{topic}/{number} begins at {low}: what came before cannot be checked")
        for record in self.world.records["spend.calls"]:
            decision = decide(record, self.registry, self.prices)
            if decision is None:
                self.wrong.say("waiting", f"{record.name}: the configuration up to its time was not published")
                continue
            self.decisions[record.where] = decision
            if decision["call"] is not None:
                call = decision["call"]
                kind = "suspense" if decision["reason"] else "attributed"
                self.calls.setdefault(call["call_id"], fold.Folded()).add(call, decision["hash"], kind, decision)

    def check(self):
        self.check_dispositions()
        self.check_sequences()
        self.check_provider()
        self.check_callers()
        if self.world.tables is not None:
            self.check_calls()
            self.check_balances()
            self.check_tasks()
            self.check_entries()
            for breach in invariants(self.world.tables):
                self.wrong.say("invariant", breach)
        return self.wrong

    # -- I3: every record has one disposition, and it is the right one

    def check_dispositions(self):
        seen = Counter()
        for record in self.world.records["spend.attributed"]:
            self._judge(record, avro.ATTRIBUTED, "attributed", seen, self._attributed)
        for topic in DEAD_TOPICS:
            for record in self.world.records[topic]:
                self._judge(record, avro.DEAD_LETTER, "dead_letter", seen, self._dead_letter)
        self.check_notices()
        for where, decision in self.decisions.items():
            if seen[where] == 0:
                self.wrong.say("lost", f"{decision['record'].name}: {decision['reason'] or 'attributed'} nowhere")
            elif seen[where] > 1:
                self.wrong.say("double", f"{decision['record'].name}: {seen[where]} dispositions")

    def _judge(self, record, schema, kind, seen, compare):
        try:
            value = schema.decode(record.value)
        except avro.AvroError as error:
            self.wrong.say(kind, f"{record.name}: {error}")
            return
        if value.get("kind") == "notice":
            return
        origin = value["origin"]
        where = (origin["topic"], origin["partition"], origin["offset"])
        seen[where] += 1
        decision = self.decisions.get(where)
        if decision is None:
            self.wrong.say(kind, f"{record.name}: made from {where}, which is no decided record of spend.calls")
            return
        for name, want, got in compare(record, value, decision):
            if want != got:
                self.wrong.say(kind, f"{record.name} (from {decision['record'].name}): {name} is {shown(got)}, "
                                     f"should be {shown(want)} {decision.get('why', '')}".rstrip())

    @staticmethod
    def _attributed(record, value, decision):
        yield "topic", topic_of(decision), record.topic
        if decision["reason"]:
            return
        yield "key", decision["account"].encode("utf-8", "surrogateescape"), record.key
        for name, want in (("account_id", "account"), ("task_id", "task"), ("conversation_id", "conversation"),
                           ("user", "user"), ("team", "team"), ("route", "route"), ("raw_nanos", "raw"),
                           ("rating", "rating"), ("price_version", "price_version"), ("price_key", "price_key"),
                           ("hash", "hash")):
            yield name, decision[want], value[name]
        yield "rater_version", RATER_VERSION, value["rater_version"]
        yield "call", plain_call(decision["call"], decision["tags"]), plain_call(value["call"], value["call"]["tags"])

    @staticmethod
    def _dead_letter(record, value, decision):
        source = decision["record"]
        yield "topic", topic_of(decision), record.topic
        yield "reason", decision["reason"], value["reason"]
        # a key or value that no honest record has is cut: the whole lies at the origin
        yield "key", source.key and source.key[:KEY_KEPT], record.key
        yield "original", (source.value or b"")[:ORIGINAL_KEPT], value["original"]
        yield "first_seen", source.at, value["first_seen"]
        if decision["reason"] == "malformed" or not decision["reason"]:
            return
        call = decision["call"]
        yield "call_id", call["call_id"], value["call_id"]
        yield "hash", decision["hash"], value["hash"]
        yield "raw_nanos", decision["raw"], value["raw_nanos"]
        yield "estimated", decision["estimated"], value["estimated"]
        yield "price_version", decision["price_version"], value["price_version"]
        inner = value["call"]
        yield "call", plain_call(call, decision["tags"]), inner and plain_call(inner, inner["tags"])

    def check_notices(self):
        told = Counter()
        for record in self.world.records["spend.dlq.conflict"]:
            value = avro.DEAD_LETTER.decode(record.value)
            if value["kind"] == "notice":
                told[value["call_id"]] += 1
        for call_id, count in told.items():
            folded = self.calls.get(call_id)
            if count > 1 or folded is None or not folded.conflicts()[1]:
                self.wrong.say("notice", f"{text_id(call_id) if call_id else None}: {count} notices, none or one is due")
        if self.world.tables is not None:
            for call_id, folded in self.calls.items():
                if folded.conflicts()[0] and not told[call_id]:
                    self.wrong.say("notice", f"{text_id(call_id)}: its records contradict each other and nobody was told")

    # -- I2: every number of an instance is one call

    def check_sequences(self):
        seen = {}
        for decision in self.decisions.values():
            call = decision["call"]
            if call and call["instance"] is not None and call["seq"] is not None:
                seen.setdefault(call["instance"], {}).setdefault(call["seq"], set()).add(
                    (call["call_id"], decision["hash"]))
        for instance, numbers in seen.items():
            for seq, calls in sorted(numbers.items()):
                if len(calls) > 1:
                    self.wrong.say("sequence", f"instance {instance} seq {seq}: {len(calls)} calls or hashes")
        beats = {}
        for record in self.world.records["spend.instances"]:
            if record.value is not None:
                beat = avro.INSTANCE.decode(record.value)
                beats[beat["instance"]] = beat
        for instance, beat in beats.items():
            due = beat["next_seq"] if beat["state"] == "closed" else beat["oldest_open_seq"]
            missing = [seq for seq in range(1, due) if seq not in seen.get(instance, {})]
            if missing:
                self.wrong.say("gap", f"instance {instance}: {len(missing)} numbers below {due} without a call, "
                                      f"first {missing[0]}")

    # -- the provider's own account

    def check_provider(self):
        calls = {text_id(call_id): folded.measured[0] for call_id, folded in self.calls.items()}
        told = {line["ref"]: line.get("call_id") for line in self.world.driver if line.get("ref")}
        unnamed = []
        for line in self.world.provider:
            if line.get("kind") != "chat":
                continue
            ref = (line.get("order") or {}).get("ref")
            call_id = told.get(ref) or line.get("call_id")
            if call_id is None:
                unnamed.append(line)
            elif call_id not in calls:
                self.wrong.say("provider", f"{line.get('id')} was served for {call_id}, which nobody recorded")
            else:
                self._compare_served(call_id, calls[call_id], line)
                self._compare_tags(call_id, calls[call_id], line)
        sent = Counter(usage_sent(line) for line in unnamed if line.get("usage_sent"))
        held = Counter(usage_of(call) for call in calls.values() if call["quality"] == "final")
        if missing := sent - held:
            self.wrong.say("provider", f"{sum(missing.values())} answers of the provider have no call with their usage, "
                                       f"one is {next(iter(missing))}")

    def _compare_served(self, call_id, call, line):
        """A call that ended well has the usage that was sent; one that was cut off, or whose ingest died, may not."""
        if line.get("usage_sent") is None or call["outcome"] != "completed":
            return
        if call["quality"] != "final" or usage_of(call) != usage_sent(line):
            self.wrong.say("provider", f"{call_id}: recorded {usage_of(call)} as {call['quality']}, "
                                       f"the provider sent {usage_sent(line)}")

    def _compare_tags(self, call_id, call, line):
        """What reached the provider is in the record. A proxy between may have taken tags away, never added any."""
        recorded = {tag["raw"] for tag in call["tags"]}
        if not call["tags_truncated"] and (missing := tags_served(line) - recorded):
            self.wrong.say("provider", f"{call_id}: the provider saw the tags {sorted(missing)}, which were not recorded")

    # -- what the callers know: which tags they sent

    def check_callers(self):
        calls = {text_id(call_id): folded.identity_call for call_id, folded in self.calls.items()}
        for line in self.world.driver:
            call_id = line.get("call_id")
            if call_id is None:
                continue
            if call_id not in calls:
                self.wrong.say("caller", f"{call_id} was told to a caller, and nobody recorded it")
            elif line.get("tags") is not None:
                kept = {t["raw"] for t in calls[call_id]["tags"] if set(t["origins"]) - {"user", "key"}}
                if kept != set(line["tags"]):
                    self.wrong.say("caller", f"{call_id}: the caller sent the tags {sorted(line['tags'])}, "
                                             f"recorded are {sorted(kept)}")

    # -- Postgres: one current bill a call

    def check_calls(self):
        rows = {row["call_id"].bytes: row for row in self.world.tables["call"]}
        for call_id, folded in self.calls.items():
            row = rows.pop(call_id, None)
            if row is None:
                self.wrong.say("call", f"{text_id(call_id)}: no row")
                continue
            for name, want, got in self._compare_call(folded.bill(self.registry), row):
                if want != got:
                    self.wrong.say("bill" if name in ("raw", "billed", "markup", "account") else "call",
                                   f"{text_id(call_id)}: {name} is {shown(got)}, should be {shown(want)}")
        for call_id in rows:
            self.wrong.say("call", f"{text_id(call_id)}: a row that no record explains")

    @staticmethod
    def _compare_call(want, row):
        yield "account", want["account"], row["account_id"]
        yield "raw", want["raw"], row["raw_nanos"]
        yield "billed", want["billed"], row["billed_nanos"]
        if want["billed"] is not None:
            yield "markup", want["markup"], row["markup_ppm"]
        for name in ("task", "conversation", "reason", "price_version", "outcome", "quality", "admitted_at"):
            yield name, want[name], row[name]
        yield "hash", want["hash"], bytes(row["hash"])
        yield "tags", sorted(tag["raw"] for tag in want["tags"]), sorted(row["tags"] or ())
        for name, rank in zip(("identity_rank", "measurement_rank", "attribution_rank"), want["ranks"], strict=True):
            yield name, rank.hex(), bytes(row[name]).hex()

    def check_balances(self):
        want = {row["account_id"]: 0 for row in self.world.tables["balance"]}
        for entry in self.world.tables["entry"]:
            if entry["kind"] in CREDITS:
                want[entry["account_id"]] = want.get(entry["account_id"], 0) + entry["amount_nanos"]
        for folded in self.calls.values():
            bill = folded.bill(self.registry)
            want[bill["account"]] = want.get(bill["account"], 0) - (bill["billed"] or 0)
        got = {row["account_id"]: row for row in self.world.tables["balance"]}
        for account, amount in sorted(want.items()):
            row = got.get(account)
            if row is None:
                self.wrong.say("balance", f"{account}: none, should be {amount}")
            elif row["amount_nanos"] != amount:
                self.wrong.say("balance", f"{account}: is {row['amount_nanos']}, should be {amount} "
                                          f"(off by {row['amount_nanos'] - amount})")
            if row is not None and row["held_nanos"] != 0:
                self.wrong.say("balance", f"{account}: {row['held_nanos']} held with nothing in flight")

    def check_tasks(self):
        want = task_sums((b["account"], b["task"], b["raw"], b["billed"])
                         for b in (folded.bill(self.registry) for folded in self.calls.values()))
        got = task_sums((r["account_id"], r["task"], r["raw_nanos"], r["billed_nanos"])
                        for r in self.world.tables["call"])
        for task in sorted(want.keys() | got.keys()):
            if want.get(task) != got.get(task):
                self.wrong.say("task", f"{task[1]} of {task[0]}: (calls, raw, billed) is {got.get(task)}, "
                                       f"should be {want.get(task)}")

    # -- spend.entries: each account_seq once, as Postgres has it

    def check_entries(self):
        rows = {(row["account_id"], row["account_seq"]): row for row in self.world.tables["entry"]}
        seen = Counter()
        for record in self.world.records["spend.entries"]:
            value = avro.ENTRY.decode(record.value)
            key = (value["account_id"], value["account_seq"])
            seen[key] += 1
            if key not in rows:
                self.wrong.say("entry", f"{record.name}: {key} is not in Postgres")
                continue
            if record.key != value["account_id"].encode("utf-8", "surrogateescape"):
                self.wrong.say("entry", f"{record.name}: its key is {record.key}")
            for name, got in value.items():
                want = entry_field(rows[key], name)
                if want != got:
                    self.wrong.say("entry", f"{record.name} {key}: {name} is {shown(got)}, Postgres has {shown(want)}")
        for key in rows:
            if seen[key] != 1:
                self.wrong.say("entry", f"{key}: {seen[key]} times on spend.entries")


def topic_of(decision):
    return f"spend.dlq.{decision['reason']}" if decision["reason"] else "spend.attributed"


def plain_call(call, call_tags):
    """A call for comparison: its tags in one form."""
    tags = sorted((t["raw"], t["key"] or "", t["value"] or "", tuple(sorted(set(t["origins"])))) for t in call_tags)
    return {**call, "tags": tags}


def usage_of(call):
    usage = call["usage"]
    return tuple(usage[name] or 0 for name in ("input", "cache_read", "output", "reasoning"))


def usage_sent(line):
    usage = line["usage_sent"]
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return (usage["prompt_tokens"] - cached, cached, usage["completion_tokens"] - reasoning, reasoning)


def tags_served(line):
    """The tags in what the provider's log says of the request: header lines and the body's places."""
    found = TagSet()
    for name, value in line.get("headers") or ():
        if name.lower() == "x-litellm-tags":
            found.add_list(value.encode("latin-1").decode("utf-8", "surrogateescape"), "header")
    seen = line.get("tags_seen") or {}
    for place in ("root", "metadata", "litellm_metadata"):
        value = seen.get(place)
        if isinstance(value, str):
            found.add_list(value, place)
        for item in value if isinstance(value, list) else ():
            if isinstance(item, str):
                found.add_item(item, place)
    if isinstance(seen.get("user"), str):
        found.add_user(seen["user"])
    return {tag["raw"] for tag in found.tags}


def task_sums(calls):
    sums = {}
    for account, task, raw, billed in calls:
        if task is not None:
            count, raws, bills = sums.get((account, task), (0, 0, 0))
            sums[account, task] = (count + 1, raws + (raw or 0), bills + (billed or 0))
    return sums


def entry_field(row, name):
    column = {"task_id": "task", "conversation_id": "conversation"}.get(name, name)
    value = row[column]
    return value.bytes if name == "call_id" and value is not None else value


def shown(value):
    text = value.hex() if isinstance(value, bytes) else json.dumps(value, default=str)
    return text if len(text) <= SHOWN else text[:SHOWN] + ".."


def differences(world):
    return Judgement(world).check()
