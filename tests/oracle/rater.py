"""What a call costs: price books by valid time, look-up, and the sum over usage classes, rounded once."""

import re

from . import money

RATER_VERSION = 2
PROMPT = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "audio_in", "image_in")
REPLY = ("output", "reasoning", "audio_out", "image_out")
CLASSES = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning", "audio_in", "audio_out", "image_in",
           "image_out", "images", "characters", "seconds_milli", "requests")
INPUT, OUTPUT, CACHED = "input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost"
WRITTEN, REASONED, IMAGE_OUT = "cache_creation_input_token_cost", "output_cost_per_reasoning_token", "output_cost_per_image_token"
THRESHOLD = re.compile(r"input_cost_per_token_above_(\d+)k_tokens\Z", re.ASCII)
THRESHOLDS = (128, 200, 272)
IGNORED_THRESHOLD = 256  # LiteLLM does not read this one
VARIED = {INPUT, OUTPUT, CACHED, WRITTEN}  # LiteLLM reads these by threshold and tier
UNTIERED = {"anthropic", "azure", "azure_ai", "deepseek", "xai", "databricks", "fireworks_ai", "perplexity", "dashscope"}
FLAT = {"databricks", "fireworks_ai", "perplexity"}
BILLIONS = ((4, "together-ai-up-to-4b"), (8, "together-ai-4.1b-8b"), (21, "together-ai-8.1b-21b"),
            (41, "together-ai-21.1b-41b"), (80, "together-ai-41.1b-80b"), (110, "together-ai-81.1b-110b"))
MILLIONS = ((150, "together-ai-embedding-up-to-150m"), (350, "together-ai-embedding-151m-to-350m"))
OTHER_UNITS = ("_per_second", "_per_image", "_per_character", "_per_pixel", "_per_query", "_per_page")
# usage class -> its prices, of which the first that is there counts
PRICES = {
    "input": (INPUT,), "cache_read": (CACHED,), "cache_write_5m": (WRITTEN,), "cache_write_1h": (WRITTEN + "_above_1hr",),
    "audio_in": ("input_cost_per_audio_token",), "image_in": ("input_cost_per_image_token", "plain " + INPUT),
    "output": (OUTPUT,), "reasoning": (REASONED, OUTPUT), "audio_out": ("output_cost_per_audio_token", OUTPUT),
    "image_out": (IMAGE_OUT, OUTPUT), "images": ("output_cost_per_image", "input_cost_per_image", "input_cost_per_pixel"),
    "characters": ("input_cost_per_character",), "seconds_milli": ("output_cost_per_second", "input_cost_per_second"),
    "requests": ("input_cost_per_query",),
}
NEVER_FREE = {"images", "characters"}


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


def find_image(book, provider, model, variant):
    """The entry of an image's quality and size, None when none is priced by them."""
    quality, _, size = variant.partition("/")
    provider = provider_prefix(provider or "")
    if not model or not quality or not size:
        return None
    own = model[len(provider) + 1:] if provider and model.startswith(provider + "/") else model
    if provider not in ("", "openai", "azure") and f"{provider}/{own}" in book.entries:
        return None  # others have prices of their own
    base = f"{size}/{model}"
    if provider and model.startswith(provider + "/"):
        base = f"{provider}/{size}/{model[len(provider) + 1:]}"
    bare = f"{size}/{model.rpartition('/')[2]}"
    return next((book.entries[key] for key in (f"{quality}/{base}", base, f"{quality}/{bare}", bare) if key in book.entries), None)


def find_entry(book, operation, provider, model):
    """The entry of the first key that exists, also of one without any price."""
    if not model:
        return None
    provider = provider_prefix(provider or "")
    names = [model, model.partition("/")[2]]
    if provider:
        names.insert(0, f"{provider}/{model}")
    if provider == "together_ai":
        names.insert(0, _size_key(operation, model))
    return next((book.entries[name] for name in names if name and name in book.entries), None)


def _size_key(operation, model):
    sizes, letter = (MILLIONS, "m") if operation == "embeddings" else (BILLIONS, "b")
    match = re.search(rf"(\d+){letter}", model, re.ASCII | re.IGNORECASE)
    return next((key for most, key in sizes if match and int(match[1]) <= most), None)


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

    def sized(name):
        if call["variant"] is None or (call["usage"]["images"] or 0) <= 0:
            return None
        return find_image(book, call["provider"], name, call["variant"])

    def find(name):
        return sized(name) or find_entry(book, call["operation"], call["provider"], name)

    if not (alias and alias["price_key"]):
        return find(model), False
    entry = sized(alias["price_key"]) or book.entries.get(alias["price_key"]) or find(alias["price_key"])
    return (entry, False) if entry else (find(model), True)


class Unpriced(Exception):
    pass


def rate_with(call, book, entry, assumed=False):
    """Applies one entry. The classes are disjoint; the sum is rounded once."""
    try:
        rating = _Rating(call, book, entry)
        raw = money.half_even(rating.thousandths(), 1000 * money.FEMTO_PER_NANO)
    except Unpriced as why:
        return _result(None, book=book, entry=entry, why=str(why))
    if raw > money.MAX:
        return _result(None, book=book, entry=entry, why="overflow")
    guessed = assumed or rating.assumed or (raw == 0 and rating.used and _charges_otherwise(entry))
    return _result(raw, "assumed" if guessed else "exact", book, entry)


class _Rating:
    """One entry applied to one call."""

    def __init__(self, call, book, entry):
        self.entry, self.rates, self.assumed = entry, entry.rates, False
        self.book, self.variant = book, call["variant"] or ""
        self.usage = {c: call["usage"][c] or 0 for c in CLASSES}
        self.used = any(self.usage.values())
        self.provider = provider_prefix(call["provider"] or entry.provider or "")
        tier = (call["service_tier"] or "").lower()
        self.batch = tier == "batch"
        self.tier = tier if tier in ("flex", "priority") and self.provider not in UNTIERED else None
        self.prompt, self.reply = (sum(self.usage[c] for c in side) for side in (PROMPT, REPLY))
        if max(self.prompt, self.reply) > money.MAX:
            raise Unpriced("overflow")
        self.vertex = (self.provider == "vertex_ai" and not self.batch
                       and not {f"{INPUT}_above_128k_tokens", f"{OUTPUT}_above_128k_tokens"}.isdisjoint(self.rates))
        self.above_in = self.above_out = None
        if self.vertex:
            self.tier = None
            self.above_in, self.above_out = (128 if n > 128000 else None for n in (self.prompt, self.reply))
        elif not self.batch and self.provider not in FLAT | {"dashscope"}:
            self.above_in = self.above_out = self._threshold()

    def _threshold(self):
        over = [int(m[1]) for m in map(THRESHOLD.match, self.rates) if m and 0 < int(m[1]) * 1000 < self.prompt]
        if set(over) - {*THRESHOLDS, IGNORED_THRESHOLD}:
            raise Unpriced("no rule for a threshold")
        self.assumed |= IGNORED_THRESHOLD in over
        return max((n for n in over if n != IGNORED_THRESHOLD), default=None)

    def thousandths(self):
        """The cost in thousandths of a femto: a second's price is for 1,000 units, half a price for 2."""
        tiers = self._tiers() if self.provider == "dashscope" and not self.batch else None
        total = sum(self._class(c) for c in CLASSES if c not in PROMPT + REPLY or not tiers)
        if tiers:
            total = self._by_ranges(tiers)
        if self.provider == "perplexity" and not self.batch:
            total += 1000 * self.usage["reasoning"] * self.rates.get(REASONED, 0)
        self._ignored()
        return total

    def _class(self, name):
        units = self.usage[name]
        if not units:
            return 0
        if name == "images" and self._is_by_size():
            raise Unpriced("the price of an image depends on its size")
        for price in self._prices(name):
            if price == "input_cost_per_pixel":
                pixels = _pixels(self.entry.key) or _pixels(self.variant)
                if pixels and price in self.rates and pixels * self.rates[price] <= money.MAX:
                    return 1000 * units * pixels * self.rates[price]
                continue
            femtos, parts = self._rate(price, name)
            if femtos is not None:
                return units * femtos * (1 if name == "seconds_milli" else 1000 // parts)
        if name in NEVER_FREE:
            raise Unpriced(f"no price for {name}")
        self.assumed = True
        return 0

    def _is_by_size(self):
        return not _pixels(self.entry.key) and any(k.endswith("/" + self.entry.key) and _pixels(k) for k in self.book.entries)

    def _prices(self, name):
        if name not in PROMPT + REPLY:
            return PRICES[name]
        side = (INPUT,) if name in PROMPT else (OUTPUT,)
        if self.batch:
            return PRICES[name] if name == "cache_read" and f"{INPUT}_batches" not in self.rates else side
        if self.vertex or self.provider in FLAT or (self.provider == "xai" and name in REPLY):
            return side
        if self.provider == "dashscope":
            return (CACHED, INPUT) if name == "cache_read" else PRICES[name] if name == "reasoning" else side
        return PRICES[name]

    def _rate(self, price, name):
        """(femtos or None, parts that the price is divided into)."""
        if price.startswith("plain "):
            price, variants = price[6:], []
        else:
            above = self.above_in if name in PROMPT else self.above_out if name in REPLY else None
            variants = [f"{price}_above_{above}k_tokens"] if above else []
            variants += [f"{price}_{self.tier}"] if self.tier else []
            variants += [f"{price}_batches"] if self.batch else []
        for variant in variants if price in VARIED else []:
            if variant in self.rates:
                return self.rates[variant], 1
        femtos = self.rates.get(price)
        if price == OUTPUT and not femtos and IMAGE_OUT in self.rates:
            return self.rates[IMAGE_OUT], 1
        if femtos is not None and self.batch and name in PROMPT + REPLY:
            self.assumed = True
            return femtos, 2
        return femtos, 1

    def _tiers(self):
        """[(where the range begins, its prices)]."""
        tiers = {}
        for name, femtos in self.rates.items():
            if name.startswith("tiered_pricing."):
                match = re.match(r"tiered_pricing\.from_(\d+)\.(.+)\Z", name, re.ASCII)
                if not match:
                    raise Unpriced("tiered_pricing that cannot be read")
                tiers.setdefault(int(match[1]), {})[match[2]] = femtos
        if len(tiers) > 8:
            raise Unpriced("too many ranges")
        return sorted(tiers.items())

    def _by_ranges(self, tiers):
        cached, reasoning = self.usage["cache_read"], self.usage["reasoning"]
        femtos = 0
        for units, own, other in ((self.prompt - cached, INPUT, INPUT), (cached, CACHED, INPUT),
                                  (self.reply - reasoning, OUTPUT, OUTPUT), (reasoning, REASONED, OUTPUT)):
            ends = [start for start, _ in tiers[1:]] + [units]
            begin = 0
            for (_, prices), end in zip(tiers, ends):
                end = min(end, units)
                if end > begin:
                    self.assumed |= not prices.get(own) and other not in prices
                    femtos += (end - begin) * (prices.get(own) or prices.get(other, 0))
                    begin = end
        return 1000 * femtos

    def _ignored(self):
        """Prices that the file has and LiteLLM does not read: billed without, and said."""
        longest = WRITTEN + "_above_1hr_above_200k_tokens"
        self.assumed |= (
            (self.tier == "priority" and self.above_in in (200, 272)
             and f"{INPUT}_above_{self.above_in}k_tokens_priority" in self.rates)
            or (self.above_in == 200 and self.usage["cache_write_1h"] > 0 and longest in self.rates)
            or self.rates.get("input_cost_per_request", 0) > 0)


def _pixels(key):
    for part in key.split("/"):
        match = re.fullmatch(r"(\d{1,5})-x-(\d{1,5})", part, re.ASCII)
        if match and 0 < int(match[1]) <= 32767 and 0 < int(match[2]) <= 32767:
            return int(match[1]) * int(match[2])
    return 0


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
    items = value.items() if isinstance(value, dict) else ((_item_name(i, item), item) for i, item in enumerate(value))
    for name, item in items:
        where = f"{path}.{name}" if path else str(name)
        is_price = priced or "cost" in str(name)
        if isinstance(item, (dict, list)):
            if is_price or path or "pricing" in str(name):
                yield from _numbers(item, where, is_price)
        elif is_price and isinstance(item, str):
            yield where, item


def _item_name(place, item):
    """An item with a range of numbers is named by where that begins."""
    start = item.get("range") if isinstance(item, dict) else None
    if isinstance(start, list) and start and isinstance(start[0], str):
        return f"from_{money.parse_decimal(start[0], 0)[0]}"
    return str(place)
