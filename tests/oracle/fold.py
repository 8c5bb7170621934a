"""How many records of one call become one bill: the hash of a record, the ranks, the fold. docs/records.md, decisions of the
ledger; written apart from common/spend/rank_fold."""

import hashlib
import struct

from . import money
from .rater import CLASSES
from .tags import is_bound, octets

SOURCES = ("proxy_log", "events_api", "gateway")
OUTCOMES = ("rejected", "failed", "unknown", "aborted", "completed")
QUALITIES = ("unknown", "estimated", "partial", "final")
ATTRIBUTION = ("suspense", "attributed", "redrive")
SUSPENSE = "~suspense/"


def _text(value):
    if value is None:
        return b"\xff\xff\xff\xff"
    data = octets(value)
    return struct.pack(">I", len(data)) + data


def _number(value):
    return b"\x00" + bytes(8) if value is None else b"\x01" + struct.pack(">q", value)


def own_tags(call):
    """The tags that the caller sent: those of origin key alone are the registry's, not the call's."""
    return [tag["raw"] for tag in call["tags"] if not is_bound(tag)]


def call_hash(call):
    out = [_text("spend.call/1"), _text(call["source"]), _text(call["source_id"]), _number(call["admitted_at"])]
    out += [_text(call[name]) for name in ("operation", "model_requested", "model_replied", "provider", "service_tier",
                                           "outcome", "quality")]
    out += [_number(call["usage"][name]) for name in CLASSES]
    raws = sorted(octets(raw) for raw in own_tags(call))
    out += [_number(call["reported_cost_nanos"]), _text(call["key_hash"]), _number(len(raws))]
    out += [struct.pack(">I", len(raw)) + raw for raw in raws]
    if call["variant"] is not None:
        out.append(_text(call["variant"]))
    return hashlib.sha256(b"".join(out)).digest()


def ranking(call):
    """(quality, outcome) as far as this source may claim them."""
    quality, outcome = QUALITIES.index(call["quality"]), OUTCOMES.index(call["outcome"])
    if call["source"] == "gateway":
        return quality, outcome
    if call["outcome"] in ("failed", "rejected"):
        return 0, 0
    if call["stream"] and call["provider_usage"] is None:
        quality = min(quality, QUALITIES.index("estimated"))
    return quality, outcome


def _earlier(call):
    return struct.pack(">q", 2**63 - 1 - call["received_at"])


def identity_rank(call, digest):
    return bytes([SOURCES.index(call["source"]) + 1]) + digest + _earlier(call)


def measurement_rank(call, digest, priced=True):
    quality, outcome = ranking(call)
    standing = bytes([quality + 1, outcome + 1, SOURCES.index(call["source"]) + 1])
    return standing + digest + bytes([2 if priced else 1]) + _earlier(call)


def attribution_rank(call, digest, kind, redrive=None):
    at, ident = (redrive["at"], redrive["id"]) if redrive else (0, bytes(16))
    return (bytes([ATTRIBUTION.index(kind) + 1]) + struct.pack(">q", at) + ident
            + bytes([SOURCES.index(call["source"]) + 1]) + digest + _earlier(call))


class Folded:
    """A call as its records make it. Each record: call, digest, kind (class), redrive, decision."""

    def __init__(self):
        self.identity = self.measurement = self.attribution = b""
        self.identity_call = self.identity_tags = self.measured = self.attributed = None
        self.records = []

    def add(self, call, digest, kind, decision, redrive=None):
        self.records.append((call, digest))
        rank = identity_rank(call, digest)
        if rank > self.identity:
            # with the tags that are bound to its key, which the decision adds
            self.identity, self.identity_call, self.identity_tags = rank, call, decision.get("tags")
        rank = measurement_rank(call, digest, decision["raw"] is not None)
        if rank > self.measurement:
            self.measurement, self.measured = rank, (call, digest, decision)
        rank = attribution_rank(call, digest, kind, redrive)
        if rank > self.attribution:
            self.attribution, self.attributed = rank, decision

    def bill(self, registry):
        """The call's row as the ledger should have it."""
        call, digest, rated = self.measured
        named = self.attributed
        markup = money.MARKUP_ONE
        if not named["account"].startswith(SUSPENSE):
            markup = registry.markup(named["account"], self.identity_call["admitted_at"])
        raw = rated["raw"]
        billed = None if raw is None or markup is None else money.mark_up(raw, markup)
        return {
            "account": named["account"], "reason": named["reason"] or (None if raw is not None else "unpriced"), "task": named["task"],
            "conversation": named["conversation"], "hash": digest, "raw": raw, "billed": billed, "markup": markup,
            "price_version": rated["price_version"], "price_key": rated["price_key"], "outcome": call["outcome"],
            "quality": call["quality"], "usage": {c: call["usage"][c] for c in CLASSES},
            "admitted_at": self.identity_call["admitted_at"], "tags": self.identity_tags,
            "ranks": (self.identity, self.measurement, self.attribution)}

    def conflicts(self):
        """(required, allowed): must, may the ledger have said that records of the same standing contradict each other."""
        digests = {}
        for call, digest in self.records:
            digests.setdefault(measurement_rank(call, digest)[:3], set()).add(digest)
        return len(digests[max(digests)]) > 1, any(len(group) > 1 for group in digests.values())


def movements(before, after):
    """[(account, amount, kind)] from one (account, billed) to the next; None = no bill, billed None = unpriced."""
    old = (before and before[1]) or 0
    new = (after and after[1]) or 0
    if old and new and before[0] == after[0]:
        return [(after[0], old - new, "adjustment")] if old != new else []
    out = []
    if old:
        to_zero = after is not None and after[1] is not None and after[0] == before[0]
        out.append((before[0], old, "adjustment" if to_zero else "reversal"))
    if new:
        out.append((after[0], -new, "deduction"))
    return out
