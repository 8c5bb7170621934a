"""Which account a call belongs to: version lists, and the rules over them."""

from . import tags as tag_rules
from .money import MARKUP_ONE

ID_BYTES = 128
APPEND_SLACK_US = 60_000_000


class Registry:
    """Every fact with its history, from the records of spend.registry."""

    def __init__(self):
        self.facts = {}
        self.watermark = 0

    def put(self, record):
        if record["kind"] == "heartbeat":
            self.watermark = max(self.watermark, record["watermark"] or 0)
        else:
            self.facts[record["kind"], record["id"]] = record["versions"]

    def find(self, kind, name, at, known_by):
        """The version in force at `at` of those recorded by `known_by`: the latest start, then the last recorded."""
        best = None
        for version in self.facts.get((kind, name), ()):
            if version["recorded_at"] > known_by or version["effective_from"] > at:
                continue
            if best is None or (version["effective_from"], version["recorded_at"]) >= (
                    best["effective_from"], best["recorded_at"]):
                best = version
        return best

    def markup(self, account, at):
        """The account's tier at `at`, as parts per million; None when it has none on record."""
        held = self.find("account", account, at, 2**63)
        if held is None:
            return None
        tier = self.find("tier", held["tier"], at, 2**63)
        if tier is None:  # the one that every ledger has from its first day, and that nobody needs to publish
            return MARKUP_ONE if held["tier"] == "default" else None
        return tier["markup_ppm"]


def known_by(call, append_us):
    """Facts recorded later do not exist for this call. A wild received_at may not make it wait for ever."""
    return max(call["admitted_at"], min(call["received_at"], append_us + APPEND_SLACK_US))


def effective_tags(call, bound):
    """The caller's tags and its key's, the same bytes once. Only the registry says what is bound to a key."""
    out = []
    for tag in call["tags"]:
        if not tag_rules.is_bound(tag):
            out.append(dict(tag, origins=[o for o in tag_rules.ORIGINS if o in tag["origins"] and o != "key"]))
    for raw in bound:
        for tag in out:
            if tag["raw"] == raw:
                tag["origins"] = [o for o in tag_rules.ORIGINS if o in (*tag["origins"], "key")]
                break
        else:
            key, value = tag_rules.split(raw)
            out.append({"raw": raw, "key": key, "value": value, "origins": ["key"]})
    return out


def is_id(text):
    return text != "" and len(tag_rules.octets(text)) <= ID_BYTES and not text.startswith("~")


def attribute(call, registry, deadline, rules=None):
    """{verdict, account, task, conversation, user, team, route, tags}: verdict account|untagged|unknown|conflict."""
    rules = rules or tag_rules.RESERVED
    at = call["admitted_at"]
    key = call["key_hash"] and registry.find("key", call["key_hash"], at, deadline)
    policy = (key and key["tag_policy"]) or {"trust": "default", "require": [], "accounts": []}
    tags = effective_tags(call, key["tags"] if key else ())
    out = {"verdict": "account", "account": None, "task": None, "conversation": None, "route": None, "tags": tags,
           "user": key["user"] if key else None, "team": key["team"] if key else None}
    named = {what: tag_rules.named(tags, rules[what]) for what in ("account", "task", "conversation")}
    if any(len(values) > 1 for values in named.values()):
        return {**out, "verdict": "conflict"}
    one = {what: values[0] if values else None for what, values in named.items()}
    task = one["task"] and registry.find("task", one["task"], at, deadline)
    out["task"] = one["task"]
    out["conversation"] = one["conversation"] or (task["conversation_id"] if task else None)
    talk = out["conversation"] and registry.find("conversation", out["conversation"], at, deadline)
    sources = {
        "tag": one["account"],
        "task": task["account_id"] if task else None,
        "conversation": talk["account_id"] if talk else None,
    }
    own = key["account_id"] if key else None
    trust = policy["trust"]
    if trust == "default":
        trust = "own_account" if own else "any"
    present = [account for account in sources.values() if account is not None]
    if trust == "own_account" and own is not None:
        present.append(own)
    if len(set(present)) > 1:
        return {**out, "verdict": "conflict"}
    sources["key"] = own
    for route in ("tag", "task", "conversation", "key"):
        if sources[route] is not None:
            out["route"], out["account"] = route, sources[route]
            break
    if trust == "list" and out["account"] is not None and out["account"] not in policy["accounts"]:
        return {**out, "verdict": "conflict"}
    if any(not tag_rules.named(tags, wanted) for wanted in policy["require"]) or out["account"] is None:
        return {**out, "verdict": "untagged"}
    if not all(is_id(name) for name in (out["account"], out["task"], out["conversation"]) if name is not None):
        return {**out, "verdict": "unknown"}
    if registry.find("account", out["account"], at, deadline) is None:
        return {**out, "verdict": "unknown"}
    return out
