"""What a call costs: price books by valid time, look-up, and the sum over usage classes, rounded once."""

import re

from . import money

RATER_VERSION = 1
TEXT = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning")
CLASSES = (*TEXT, "audio_in", "audio_out", "image_in", "image_out", "images", "characters", "seconds_milli", "requests")
PROMPT = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "audio_in", "image_in")
THRESHOLD = re.compile(r"input_cost_per_token_above_(\d+)k_tokens\Z", re.ASCII)
# LiteLLM does not know this one threshold, and these providers have no service tiers.
IGNORED_THRESHOLD = 256
UNTIERED = {"anthropic", "azure", "azure_ai", "deepseek"}
# usage class -> the prices that stand for it, best first
PRICES = {
    "input": ("input_cost_per_token",),
    "cache_read": ("cache_read_input_token_cost",),
    "cache_write_5m": ("cache_creation_input_token_cost",),
    "cache_write_1h": ("cache_creation_input_token_cost_above_1hr", "cache_creation_input_token_cost"),
    "output": ("output_cost_per_token",),
    "reasoning": ("output_cost_per_reasoning_token", "output_cost_per_token"),
}


class Book:
    def __init__(self, record):
        self.version, self.effective_from = record["version"], record["effective_from"]
        self.recorded_at = record["recorded_at"]
        self.entries = {e["key"]: Entry(e) for e in record["entries"]}


class Entry:
    def __init__(self, record):
        self.key, self.provider = record["key"], record["provider"]
        self.rates = {rate["name"]: rate["femtos"] for rate in record["rates"]}

    @property
    def usable(self):
        return "input_cost_per_token" in self.rates or "output_cost_per_token" in self.rates


class Prices:
    """The books, by valid time."""

    def __init__(self):
        self.books = {}

    def put(self, record):
        self.books[record["version"]] = Book(record)

    def find(self, at, known_by):
        held = [b for b in self.books.values() if b.effective_from <= at and b.recorded_at <= known_by]
        return max(held, key=lambda b: (b.effective_from, b.version), default=None)


def provider_prefix(provider):
    if provider.startswith("vertex_ai-"):
        return "vertex_ai"
    return "bedrock" if provider == "bedrock_converse" else provider


def find_entry(book, provider, model):
    names = [model, model.partition("/")[2]]
    if provider:
        names.insert(0, f"{provider_prefix(provider)}/{model}")
    for name in names:
        entry = book.entries.get(name) if name else None
        if entry and entry.usable:
            return entry
    return None


def rate(call, registry, prices, deadline):
    """{raw, rating, price_version, price_key, why}: raw None = unpriced."""
    usage = call["usage"]
    if all(usage[c] is None for c in CLASSES):
        if call["outcome"] in ("failed", "rejected"):
            return _result(0, "free")
        return _result(None, why="no usage was reported")
    book = prices.find(call["admitted_at"], deadline)
    if book is None:
        return _result(None, why="no price book")
    for model, assumed in ((call["model_replied"], False), (call["model_requested"], True)):
        entry = model and _priced(model, call, registry, book, deadline)
        if entry:
            return rate_with(call, book, entry, assumed)
    return _result(None, book=book, why="no price for the model")


def _priced(model, call, registry, book, deadline):
    alias = registry.find("model", model, call["admitted_at"], deadline)
    if alias and alias["price_key"]:
        entry = book.entries.get(alias["price_key"])
        if not (entry and entry.usable):
            entry = find_entry(book, call["provider"], alias["price_key"])
        if entry:
            return entry
    return find_entry(book, call["provider"], model)


def rate_with(call, book, entry, assumed=False):
    usage = {c: call["usage"][c] or 0 for c in CLASSES}
    for name in CLASSES:
        if name not in TEXT and usage[name] > 0:
            return _result(None, book=book, entry=entry, why=f"no price rule for {name}")
    suffix = _threshold(entry, sum(usage[c] for c in PROMPT))
    tier = _tier(call, entry)
    femtos = 0
    for name in TEXT:
        if usage[name] == 0:
            continue
        price = _price(entry, name, suffix, tier)
        if price is None and name == "cache_read":
            price, assumed = 0, True
        if price is None:
            return _result(None, book=book, entry=entry, why=f"no price for {name}")
        femtos += usage[name] * price
    try:
        raw = money.from_femtos(femtos)
    except money.MoneyError:
        return _result(None, book=book, entry=entry, why="overflow")
    return _result(raw, "assumed" if assumed else "exact", book, entry)


def _threshold(entry, prompt):
    """The suffix of the highest threshold that the prompt is over, or None."""
    over = [int(m[1]) for m in map(THRESHOLD.match, entry.rates) if m and int(m[1]) != IGNORED_THRESHOLD
            and prompt > int(m[1]) * 1000]
    return f"_above_{max(over)}k_tokens" if over else None


def _tier(call, entry):
    tier = call["service_tier"]
    provider = call["provider"] or entry.provider or ""
    return f"_{tier}" if tier in ("flex", "priority") and provider not in UNTIERED else None


def _price(entry, name, suffix, tier):
    for base in PRICES[name]:
        for ending in (suffix, tier, ""):
            if ending is not None and base + ending in entry.rates:
                return entry.rates[base + ending]
    return None


def _result(raw, rating="exact", book=None, entry=None, why=""):
    return {"raw": raw, "rating": rating, "price_version": book and book.version, "price_key": entry and entry.key,
            "why": why}


def import_book(document, version=1, effective_from=0, recorded_at=0):
    """A PriceBook record from a LiteLLM price file (already parsed with numbers kept as text)."""
    entries = []
    for key in sorted(document, key=lambda k: k.encode()):
        if key == "sample_spec":
            continue
        fields = document[key]
        rates = [{"name": name, "femtos": money.parse_decimal(str(value), 15)[0]} for name, value in sorted(fields.items())
                 if "cost" in name and isinstance(value, (str, int)) and not isinstance(value, bool)]
        entries.append({"key": key, "provider": fields.get("litellm_provider"), "mode": fields.get("mode"), "rates": rates})
    return {"version": version, "effective_from": effective_from, "recorded_at": recorded_at, "source": "", "sha256": "",
            "entries": entries}
