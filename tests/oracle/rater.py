"""What a call costs: price books by valid time, look-up, and the sum over usage classes, rounded once."""

import re

from . import money

RATER_VERSION = 1
TEXT = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning")
CLASSES = (*TEXT, "audio_in", "audio_out", "image_in", "image_out", "images", "characters", "seconds_milli", "requests")
PROMPT = ("input", "cache_read", "cache_write_5m", "cache_write_1h")
INPUT, OUTPUT = "input_cost_per_token", "output_cost_per_token"
THRESHOLD = re.compile(r"input_cost_per_token_above_(\d+)k_tokens\Z", re.ASCII)
THRESHOLDS = (128, 200, 272)
# LiteLLM does not read this one threshold, and these providers have no service tiers.
IGNORED_THRESHOLD = 256
UNTIERED = {"anthropic", "azure", "azure_ai", "deepseek"}
FLAT = {"databricks", "fireworks_ai"}
SIZES = ((4, "together-ai-up-to-4b"), (8, "together-ai-4.1b-8b"), (21, "together-ai-8.1b-21b"),
         (41, "together-ai-21.1b-41b"), (80, "together-ai-41.1b-80b"), (110, "together-ai-81.1b-110b"))
OTHER_UNITS = ("_per_second", "_per_image", "_per_character", "_per_pixel", "_per_query", "_per_page")
# usage class -> (its price, has that price variants by threshold and tier, the price that stands in, free without one)
PRICES = {
    "input": (INPUT, True, None, False),
    "cache_read": ("cache_read_input_token_cost", True, None, True),
    "cache_write_5m": ("cache_creation_input_token_cost", True, None, True),
    "cache_write_1h": ("cache_creation_input_token_cost_above_1hr", False, None, True),
    "output": (OUTPUT, True, None, False),
    "reasoning": ("output_cost_per_reasoning_token", False, OUTPUT, False),
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


class Prices:
    """The books, by valid time."""

    def __init__(self):
        self.books = {}

    def put(self, record):
        self.books[record["version"]] = Book(record)

    def find(self, at, known_by):
        held = [b for b in self.books.values() if b.effective_from <= at and b.recorded_at <= known_by]
        return max(held, key=lambda b: (b.effective_from, b.recorded_at, b.version), default=None)


def provider_prefix(provider):
    if provider.startswith("vertex_ai-"):
        return "vertex_ai"
    return "bedrock" if provider == "bedrock_converse" else provider


def find_entry(book, provider, model):
    """The entry of the first key that exists; one without any price prices nothing."""
    if not model:
        return None
    provider = provider_prefix(provider or "")
    names = [model, model.partition("/")[2]]
    if provider:
        names.insert(0, f"{provider}/{model}")
    if provider == "together_ai":
        names.insert(0, _size_key(model))
    for name in names:
        entry = book.entries.get(name) if name else None
        if entry:
            return entry if entry.rates else None
    return None


def _size_key(model):
    match = re.search(r"(\d+)[bB]", model, re.ASCII)
    return next((key for most, key in SIZES if match and int(match[1]) <= most), None)


def rate(call, registry, prices, deadline):
    """{raw, rating, price_version, price_key, why}: raw None = unpriced."""
    usage = call["usage"]
    book = prices.find(call["admitted_at"], deadline)
    if all(usage[c] is None for c in CLASSES):
        if call["outcome"] in ("failed", "rejected"):
            return _result(0, "free")
        return _result(None, book=book, why="no usage was reported")
    if book is None:
        return _result(None, why="no price book")
    for model, assumed in ((call["model_replied"], False), (call["model_requested"], bool(call["model_replied"]))):
        entry, guessed = _priced(model, call, registry, book, deadline)
        if entry:
            return rate_with(call, book, entry, assumed or guessed)
    return _result(None, book=book, why="no price for the model")


def _priced(model, call, registry, book, deadline):
    """(entry, did the alias fail): the alias's entry, else the model's own."""
    alias = registry.find("model", model, call["admitted_at"], deadline) if model else None
    if not (alias and alias["price_key"]):
        return find_entry(book, call["provider"], model), False
    entry = book.entries.get(alias["price_key"])
    if not (entry and entry.rates):
        entry = find_entry(book, call["provider"], alias["price_key"])
    return (entry, False) if entry else (find_entry(book, call["provider"], model), True)


def rate_with(call, book, entry, assumed=False):
    """Applies one entry. The classes are disjoint; the sum is rounded once."""
    usage = {c: call["usage"][c] or 0 for c in CLASSES}
    provider = provider_prefix(call["provider"] or entry.provider or "")
    prompt = sum(usage[c] for c in PROMPT)

    def unpriced(why):
        return _result(None, book=book, entry=entry, why=why)

    if prompt > money.MAX:
        return unpriced("overflow")
    for name in CLASSES:
        if name not in TEXT and usage[name] > 0:
            return unpriced(f"no price rule for {name}")
    if any(name.startswith("tiered_pricing.") for name in entry.rates):
        return unpriced("no price rule for tiered_pricing")
    over = [int(m[1]) for m in map(THRESHOLD.match, entry.rates) if m and 0 < int(m[1]) * 1000 < prompt]
    if set(over) - {*THRESHOLDS, IGNORED_THRESHOLD}:
        return unpriced("no rule for a threshold")
    assumed = assumed or IGNORED_THRESHOLD in over
    above = max((n for n in over if n != IGNORED_THRESHOLD), default=None)
    tier = _tier(call, provider)
    femtos, lines = 0, 0
    for name in TEXT:
        if usage[name] == 0:
            continue
        price, free = _price(entry, name, provider, above, tier)
        if price is None and not free:
            return unpriced(f"no price for {name}")
        assumed = assumed or price is None
        femtos += usage[name] * (price or 0)
        lines += 1
    assumed = assumed or _ignored(entry, usage, above, tier)
    try:
        raw = money.from_femtos(femtos)
    except money.MoneyError:
        return unpriced("overflow")
    if raw == 0 and lines and _charges_otherwise(entry):
        return unpriced("the entry charges by another unit")
    return _result(raw, "assumed" if assumed else "exact", book, entry)


def _tier(call, provider):
    tier = (call["service_tier"] or "").lower()
    return tier if tier in ("flex", "priority") and provider not in UNTIERED else None


def _price(entry, name, provider, above, tier):
    """(femtos or None, may it be free)."""
    own, variants, stand_in, free = PRICES[name]
    if provider in FLAT:
        own, variants = (OUTPUT if name in ("output", "reasoning") else INPUT), True
    if free and provider == "dashscope":
        stand_in = INPUT
    price = _variant(entry, own, above, tier) if variants else entry.rates.get(own)
    if price is None and stand_in:
        price = _variant(entry, stand_in, above, tier)
    return price, free


def _variant(entry, base, above, tier):
    names = [f"{base}_above_{above}k_tokens"] if above else []
    names += [f"{base}_{tier}"] if tier else []
    return next((entry.rates[name] for name in (*names, base) if name in entry.rates), None)


def _ignored(entry, usage, above, tier):
    """Prices that the file has and LiteLLM does not read: billed without, and said."""
    if tier == "priority" and above in (200, 272) and f"{INPUT}_above_{above}k_tokens_priority" in entry.rates:
        return True
    longest = "cache_creation_input_token_cost_above_1hr_above_200k_tokens"
    if above == 200 and usage["cache_write_1h"] > 0 and longest in entry.rates:
        return True
    return entry.rates.get("input_cost_per_request", 0) > 0


def _charges_otherwise(entry):
    return any(femtos > 0 and name.endswith(OTHER_UNITS) and not name.startswith("s")
               for name, femtos in entry.rates.items())


def _result(raw, rating="exact", book=None, entry=None, why=""):
    return {"raw": raw, "rating": rating, "price_version": book and book.version, "price_key": entry and entry.key,
            "why": why}


def import_book(document, version=1, effective_from=0, recorded_at=0):
    """A PriceBook record from a LiteLLM price file whose numbers were kept as text (parse_float=str, parse_int=str)."""
    entries = []
    for key in sorted(document, key=lambda k: k.encode()):
        if key == "sample_spec" or not isinstance(document[key], dict):
            continue
        rates = sorted((name, money.parse_decimal(text, 15)[0]) for name, text in _numbers(document[key], ""))
        entries.append({"key": key, "provider": document[key].get("litellm_provider"), "mode": document[key].get("mode"),
                        "rates": [{"name": name, "femtos": femtos} for name, femtos in rates]})
    return {"version": version, "effective_from": effective_from, "recorded_at": recorded_at, "source": "", "sha256": "",
            "entries": entries}


def _numbers(value, path, priced=False):
    """(path, text) of every price: a number whose name, or a name above it, holds cost."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, item in items:
        where = f"{path}.{name}" if path else str(name)
        is_price = priced or "cost" in str(name)
        if isinstance(item, (dict, list)):
            if is_price or path or "pricing" in str(name):
                yield from _numbers(item, where, is_price)
        elif is_price and isinstance(item, str):
            yield where, item
