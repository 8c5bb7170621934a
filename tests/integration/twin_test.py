"""The rules of common/spend in C against the oracle's in Python, on the same random inputs, and record encodings crosswise.

spend-twin (tests/twin) answers one line a line. Both sides were written apart, from the same pages: a difference is a bug in
one of them, or in the page. SPEND_TWIN makes it a longer campaign.
"""

import copy
import io
import json
import os
import random
import subprocess

import fastavro
import pytest

from oracle import attribute, avro, build, decide, fold, money, rater, tags
from stack import ROOT

COUNT = int(os.environ.get("SPEND_TWIN", "3000"))
BIN = ROOT / "build/release/bin"
NOW = build.SINCE
OLD_SCHEMAS = ROOT / "tests/testdata/schemas/0"
ACCOUNTS = ("acme", "other", "~suspense/unknown", "x" * 128, "x" * 129, "späti")
NAMES = {"task": ("t1", "t2", "t3", "~t"), "conversation": ("c1", "c2", "c3"), "colour": ("red", "")}
KEYS = tuple(f"{n:064x}" for n in range(6))
MODELS = ("gpt-4o", "gpt-4o-mini", "openai/gpt-4o", "our-alias", "bad-alias", "mystery", "claude-sonnet-4-5",
          "gemini-2.5-pro", "gpt-5.4", "deepseek-chat", "meta-llama/Llama-3-70b-chat", "text-embedding-3-small", "dall-e-3",
          "aiml/dall-e-2", "azure/dall-e-3")
PROVIDERS = (None, "openai", "azure", "anthropic", "vertex_ai-language-models", "gemini", "together_ai", "dashscope",
             "fireworks_ai", "bedrock_converse", "nobody", "aiml")


def hexed(value):
    data = value.encode() if isinstance(value, str) else value
    return "-" if data is None else "x" + data.hex()


def text_of(word):
    return None if word == "-" else bytes.fromhex(word[1:]).decode()


@pytest.fixture(scope="module")
def twin():
    """Runs a list of lines; the list of answers, as words."""
    program = os.path.join(os.environ.get("SPENDLINE_BIN") or BIN, "spend-twin")

    def run(lines):
        done = subprocess.run([program], input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        answers = done.stdout.split("\n")[:-1]
        assert len(answers) == len(lines)
        return [answer.split(" ") for answer in answers]
    return run


# -- random inputs


def random_tags(rng):
    out = []
    for _ in range(rng.choice((0, 1, 1, 2, 3, 5))):
        name = rng.choice(("account_id", "account_id", "task", "conversation", "colour", "plain"))
        if name == "plain":
            raw = rng.choice(("plain", "a:b", "=", ":", "x=y=z", "ü"))
        else:
            raw = f"{name}{rng.choice('==:')}{rng.choice((*(ACCOUNTS if name == 'account_id' else NAMES[name]), ''))}"
        if raw and raw not in [t["raw"] for t in out]:
            out.append(build.tag(raw, *rng.sample(tags.ORIGINS, rng.choice((1, 1, 2, 3)))))
    return out


def random_usage(rng):
    tokens = rater.PROMPT[:4] + rater.REPLY[:2]
    classes = rng.sample(tokens if rng.random() < 0.7 else rater.CLASSES, rng.randrange(7))
    sizes = (0, 1, 7, 999, 127_999, 128_000, 128_001, 200_001, 256_001, 272_001, 10**9, 2**62, 2**63 - 1)
    weights = (4, 4, 4, 8, 1, 1, 1, 2, 1, 2, 2, 1, 1)
    return build.usage(**{name: rng.choices(sizes, weights)[0] for name in classes})


def random_call(rng):
    at = NOW + rng.randrange(-50, 50)
    foreign = rng.random() < 0.4
    return build.call(
        random_tags(rng), at=at, received_at=at + rng.choice((-30, 0, 0, 5, 40)), key_hash=rng.choice((None, *KEYS)),
        source=rng.choice(("proxy_log", "events_api")) if foreign else "gateway", source_id="s1" if foreign else None,
        outcome=rng.choice(fold.OUTCOMES), quality=rng.choice(fold.QUALITIES), stream=rng.random() < 0.5,
        provider_usage=rng.choice((None, "{}")), usage=random_usage(rng), model_replied=rng.choice((None, "", *MODELS)),
        model_requested=rng.choice((None, *MODELS)), provider=rng.choice(PROVIDERS),
        service_tier=rng.choice((None, None, "flex", "priority", "Priority", "batch", "default")),
        variant=rng.choice((None, None, "standard/1024-x-1024", "hd/1024-x-1792", "low/512-x-512", "x/2-x-3")),
        reported_cost_nanos=rng.choice((None, 0, -5, 10**12)))


def random_versions(rng, **choices):
    """The first from the start, later ones later; some recorded too late for some calls."""
    out, recorded = [], NOW - 100
    for number in range(rng.choice((1, 1, 2, 4))):
        recorded += rng.randrange(60)
        start = 0 if number == 0 else recorded + rng.choice((0, 0, 20, 60))
        out.append(build.version(recorded, start, **{name: rng.choice(values) for name, values in choices.items()}))
    return out


def random_registry(rng):
    records = []
    for account in ACCOUNTS:
        if rng.random() < 0.7:
            records.append(build.fact("account", account, *random_versions(rng, tier=("default", "plus"))))
    for kind, names in (("task", NAMES["task"]), ("conversation", NAMES["conversation"])):
        for name in names:
            if rng.random() < 0.6:
                more = {"conversation_id": (None, "c1", "c2", "c9")} if kind == "task" else {}
                records.append(build.fact(kind, name, *random_versions(rng, account_id=ACCOUNTS[:3], **more)[:1]))
    for key in KEYS[:4]:
        policies = (None, build.policy(), build.policy("any"), build.policy("own_account"), build.policy("list", (), ("acme",)),
                    build.policy("default", ("colour",)), build.policy("list", ("task",), ()))
        bound = ((), ("colour=red",), ("account_id=acme",), ("task=t1", "plain"))
        records.append(build.fact("key", key, *random_versions(
            rng, account_id=(None, *ACCOUNTS[:2]), user=(None, "u"), team=(None, "t"), tag_policy=policies, tags=bound)))
    records.append(build.fact("model", "our-alias", *random_versions(rng, price_key=("gpt-4o-mini", "azure/gpt-4o"))))
    records.append(build.fact("model", "bad-alias", *random_versions(rng, price_key=("nowhere", "gpt-4o"))))
    rng.shuffle(records)
    return records


def load(records):
    registry = attribute.Registry()
    for record in records:
        registry.put(record)
    return registry


def tag_words(found):
    out = [str(len(found))]
    for tag in found:
        bits = sum(1 << tags.ORIGINS.index(origin) for origin in set(tag["origins"]))
        out += [hexed(tag["raw"]), hexed(tag["key"]), hexed(tag["value"]), str(bits)]
    return out


@pytest.fixture(scope="module")
def price_file():
    return (ROOT / "tests/testdata/litellm/model_prices.json").read_bytes()


@pytest.fixture(scope="module")
def book(price_file):
    """The whole price file as a record, by Python."""
    return rater.import_book(json.loads(price_file, parse_float=str, parse_int=str), recorded_at=1)


# -- the rules


def test_money_rounds_alike(twin):
    rng = random.Random(1)
    edges = [0, 1, -1, 5 * 10**5, 15 * 10**5, -25 * 10**5, 2**62, 2**63 - 1, -(2**63)]
    cases = [("femtos", a, b) for a in edges for b in edges]
    cases += [("femtos", rng.randrange(-10**12, 10**12), rng.randrange(0, 10**9)) for _ in range(COUNT)]
    cases += [("femtos", rng.randrange(-10**6, 10**6) * 2 + 1, 500_000) for _ in range(COUNT)]
    cases += [("markup", rng.choice((rng.randrange(10**12), rng.randrange(1000), 2**62)),
               rng.choice((10**6, 1_333_333, 500_000, 0, rng.randrange(10**7)))) for _ in range(COUNT)]
    cases += [("usd", rng.choice((rng.randrange(-10**12, 10**12), rng.randrange(1000) * 10**9))) for _ in range(COUNT)]
    answers = twin(["money " + " ".join(map(str, case)) for case in cases])
    for case, answer in zip(cases, answers, strict=True):
        assert answer == money_answer(*case), case


def money_answer(what, *args):
    try:
        if what == "usd":
            return [money.usd(*args)]
        value = money.from_femtos(args[0] * args[1]) if what == "femtos" else money.mark_up(*args)
        return [str(value), "0"]
    except money.MoneyError:
        return ["no"]


def test_decimals_are_read_alike(twin):
    rng = random.Random(2)
    texts = ["0", "-0", "1e-06", "2.5E-6", ".5", "5.", "1e3", "1e30", "-1.5e-16", "9223372036854775807", "00012", "0.0000000000000005",
             "0.0000000000000015", "", "-", "e5", "1e", "+1", "1 ", "nan", "0x1", "1_0", "1e99999999999"]
    for _ in range(COUNT):
        whole, part = str(rng.randrange(10**rng.randrange(1, 10))), str(rng.randrange(10**rng.randrange(1, 19)))
        texts.append(rng.choice((whole, f"{whole}.{part}", f"0.{part}", f"{whole}e-{rng.randrange(20)}", f"-0.{part}5")))
    answers = twin([f"money decimal {hexed(text)} {scale}" for text in texts for scale in (9, 15)])
    for number, answer in enumerate(answers):
        text, scale = texts[number // 2], (9, 15)[number % 2]
        try:
            if text[:1] == "." or text[-1:] == ".":
                continue  # LiteLLM's JSON cannot hold these: C may refuse them
            value, rounded = money.parse_decimal(text, scale)
            want = [str(value), str(int(rounded))]
        except money.MoneyError:
            want = ["no"]
        assert answer == want, (text, scale)


def test_tag_sets_are_alike(twin):
    rng = random.Random(3)
    pieces = ("account_id=a", " task=1 ", "", " ", "x:y", "ü=é", "a=b=c", "\t", "long" * 70, "ctl\x01", "c1\x85", "plain", "=", "t=" + "v" * 254)
    cases = []
    for number in range(COUNT):
        adds = []
        for _ in range(rng.randrange(6)):
            how, origin = rng.choice("liiuo"), rng.choice(tags.ORIGINS[:4])
            text = ",".join(rng.choices(pieces, k=rng.randrange(4))) if how == "l" else rng.choice(pieces)
            adds.append((how, origin, text))
        if number % 100 == 0:
            adds.append(("l", "header", ",".join(f"n{n}" for n in range(70))))
        cases.append(adds)
    lines = [" ".join(["tags", *(f"{how} {1 << tags.ORIGINS.index(origin)} {hexed(text)}" for how, origin, text in adds)])
             for adds in cases]
    faults = (None, "too_many", "too_long", "control", "encoding")
    for adds, answer in zip(cases, twin(lines), strict=True):
        mine = tags.TagSet()
        for how, origin, text in adds:
            if how == "l":
                mine.add_list(text, origin)
            elif how == "i":
                mine.add_item(text, origin)
            elif how == "u":
                mine.add_user(text)
            else:
                mine.non_string += 1
        want = [str(n) for n in (mine.empty, mine.non_string, mine.refused, faults.index(mine.fault))]
        assert answer == want + tag_words(mine.tags), adds


def test_attribution_is_alike(twin):
    rng = random.Random(4)
    verdicts = set()
    for _ in range(max(1, COUNT // 100)):
        records = random_registry(rng)
        registry = load(records)
        calls = [random_call(rng) for _ in range(100)]
        lines = ["reset", *(f"registry {hexed(avro.REGISTRY.encode(record))}" for record in records)]
        lines += [f"attribute {hexed(avro.CALL.encode(call))}" for call in calls]
        for call, answer in zip(calls, twin(lines)[-len(calls):], strict=True):
            mine = attribute.attribute(call, registry, max(call["admitted_at"], call["received_at"]))
            want = [mine["verdict"]]
            if mine["verdict"] == "account":
                want += [mine["route"], *(hexed(mine[n]) for n in ("account", "task", "conversation", "user", "team"))]
            verdicts.add((mine["verdict"], mine["route"]))
            assert answer == want + tag_words(mine["tags"]), json.dumps([call["tags"], call["key_hash"], records], default=str)
    assert {v for v, _ in verdicts} == {"account", "untagged", "unknown", "conflict"}
    assert {r for v, r in verdicts if v == "account"} == {"tag", "task", "conversation", "key"}


def test_rating_is_alike(twin, book):
    rng = random.Random(5)
    records = random_registry(rng)
    registry, prices = load(records), rater.Prices()
    prices.put(book)
    later = {**build.book(2, {"gpt-4o": {"input_cost_per_token": "7e-06"}}), "effective_from": NOW + 10, "recorded_at": NOW}
    prices.put(later)
    keys = sorted(entry["key"] for entry in book["entries"])
    odd = [key for key in keys if key.startswith(("dashscope/", "perplexity/", "xai/", "vertex_ai/", "databricks/")) or "-x-" in key]
    calls = []
    for _ in range(2 * COUNT):
        call = random_call(rng)
        if rng.random() < 0.7:  # any entry of the file, as LiteLLM names it
            entry = rng.choice(keys if rng.random() < 0.7 else odd)
            call["model_replied"] = rng.choice((entry, entry.partition("/")[2] or entry))
            call["provider"] = rng.choice((None, entry.partition("/")[0], call["provider"]))
        calls.append(call)
    lines = ["reset", *(f"registry {hexed(avro.REGISTRY.encode(record))}" for record in records)]
    lines += [f"prices {hexed(avro.PRICES.encode(one))}" for one in (book, later)]
    lines += [f"rate {hexed(avro.CALL.encode(call))} {max(call['admitted_at'], call['received_at'])}" for call in calls]
    seen = set()
    for call, answer in zip(calls, twin(lines)[-len(calls):], strict=True):
        mine = rater.rate(call, registry, prices, max(call["admitted_at"], call["received_at"]))
        if mine["raw"] is None:
            want = ["overflow"] if mine["why"] == "overflow" else ["unpriced"]
        else:
            want = [mine["rating"], str(mine["raw"]), str(mine["price_version"] or 0), hexed(mine["price_key"])]
        seen.add(want[0])
        assert answer == want, (mine, {n: call[n] for n in ("model_replied", "model_requested", "provider", "service_tier",
                                                            "usage", "outcome")})
    assert seen == {"exact", "assumed", "free", "unpriced", "overflow"}


def test_the_price_file_is_imported_alike(twin, price_file, book):
    """Every rate of LiteLLM's file, in femto-USD."""
    theirs = avro.PRICES.decode(bytes.fromhex(twin([f"import {hexed(price_file)}"])[0][0][1:]))
    assert len(theirs["entries"]) == len(book["entries"]) > 2600
    for mine, other in zip(book["entries"], theirs["entries"], strict=True):
        assert {**mine, "rates": sorted(mine["rates"], key=lambda r: r["name"])} == other


def test_hashes_are_alike(twin):
    rng = random.Random(6)
    calls = [random_call(rng) for _ in range(COUNT)]
    for call in calls[::7]:
        rng.shuffle(call["tags"])
    answers = twin([f"hash {hexed(avro.CALL.encode(call))}" for call in calls])
    for call, answer in zip(calls, answers, strict=True):
        assert answer == [hexed(fold.call_hash(call))]


def letter(call, kind="call", raw=5):
    return {"kind": kind, "reason": "untagged", "detail": "", "call_id": call["call_id"], "original": b"",
            "origin": {"topic": "spend.calls", "partition": 0, "offset": 1}, "first_seen": NOW, "attempts": 1, "call": call,
            "hash": fold.call_hash(call), "raw_nanos": raw, "estimated": False, "price_version": 1, "rater_version": rater.RATER_VERSION,
            "redrive": None}


def attributed(call, redrive=None, raw=5):
    return {"call": call, "hash": fold.call_hash(call), "origin": {"topic": "spend.calls", "partition": 0, "offset": 1},
            "account_id": "acme", "task_id": None, "conversation_id": None, "user": None, "team": None, "route": "tag",
            "redrive": redrive, "raw_nanos": raw, "rating": "exact", "price_version": 1, "price_key": "gpt-4o",
            "rater_version": rater.RATER_VERSION, "config_watermark": NOW}


def test_records_of_earlier_schemas_are_read_as_they_were_meant(twin):
    """What lies on the topics and in journals when a release adds fields."""
    rng = random.Random(9)
    old = {name: avro.Schema((OLD_SCHEMAS / f"{name}.avsc").read_text(encoding="utf-8"))
           for name in ("spend_call", "attributed_call", "dead_letter")}
    lines, wants = [], []
    for _ in range(50):
        call = {**random_call(rng), "variant": None, "dispute": None}
        before = {name: value for name, value in call.items() if name not in ("variant", "dispute")}
        lines.append(f"hash {hexed(old['spend_call'].encode(before))}")
        wants.append(hexed(fold.call_hash(call)))
        for kind, schema, record in (("attributed", "attributed_call", attributed(call)), ("dead", "dead_letter", letter(call))):
            mine = fold.Folded()
            mine.add(call, fold.call_hash(call), "attributed" if kind == "attributed" else "suspense", {"account": "acme", "raw": 5}, None)
            lines.append(f"fold {kind} {hexed(old[schema].encode({**record, 'call': before}))}")
            wants.append(hexed(mine.attribution))
    for want, answer in zip(wants, twin(lines), strict=True):
        assert answer[-1] == want


def test_folding_is_alike_in_every_order(twin):
    rng = random.Random(7)
    lines, wants = [], []
    for _ in range(COUNT // 3):
        first = random_call(rng)
        told = []
        for _ in range(rng.randrange(1, 6)):
            call = copy.deepcopy(first)
            call.update({n: v for n, v in random_call(rng).items() if rng.random() < 0.3 and n != "call_id"})
            raw = rng.choice((None, 5))
            redrive = rng.choice((None, None, {"id": rng.randbytes(16), "at": NOW + rng.randrange(3), "set": None}))
            told.append(("attributed", call, raw, redrive) if rng.random() < 0.6 else ("dead", call, raw, None))
        mine = fold.Folded()
        for kind, call, raw, redrive in told:
            mine.add(call, fold.call_hash(call), "redrive" if redrive else "attributed" if kind == "attributed" else "suspense",
                     {"account": "acme", "raw": raw}, redrive)
        rng.shuffle(told)
        told += rng.sample(told, rng.randrange(len(told)))
        records = [avro.ATTRIBUTED.encode(attributed(call, redrive, raw)) if kind == "attributed"
                   else avro.DEAD_LETTER.encode(letter(call, raw=raw)) for kind, call, raw, redrive in told]
        lines.append(" ".join(["fold", *(f"{kind} {hexed(record)}" for (kind, *_), record in zip(told, records, strict=True))]))
        wants.append([hexed(mine.identity), hexed(mine.measurement), hexed(mine.attribution)])
    for want, answer in zip(wants, twin(lines), strict=True):
        assert answer[-3:] == want


def test_movements_are_alike(twin):
    rng = random.Random(8)
    bills = [None, *((account, amount) for account in (1, 2) for amount in (None, 0, 5, 7, -3, 2**63 - 1))]
    cases = [(a, b) for a in bills for b in bills if b is not None]
    rng.shuffle(cases)

    def words(bill):
        return "0 0 0 0" if bill is None else f"1 {bill[0]} {int(bill[1] is not None)} {bill[1] or 0}"
    for (before, after), answer in zip(cases, twin([f"move {words(a)} {words(b)}" for a, b in cases]), strict=True):
        mine = fold.movements(before, after)
        if any(not -2**63 <= amount < 2**63 for _, amount, _ in mine):
            assert answer == ["overflow"]
        else:
            assert answer == [str(len(mine)), *(str(word) for move in mine for word in move)], (before, after)


# -- encodings


SAMPLES = {
    "spend_call": (avro.CALL, random_call),
    "attributed_call": (avro.ATTRIBUTED, lambda rng: attributed(random_call(rng), rng.choice((
        None, {"id": rng.randbytes(16), "at": NOW, "set": "account_id=x"})))),
    "dead_letter": (avro.DEAD_LETTER, lambda rng: {**letter(random_call(rng)), "original": rng.randbytes(rng.randrange(300)),
                                                   "call": rng.choice((None, random_call(rng)))}),
    "ledger_entry": (avro.ENTRY, lambda rng: {
        "account_id": "acme", "account_seq": rng.randrange(2**60), "kind": rng.choice(("deduction", "top_up", "reversal")),
        "amount_nanos": rng.randrange(-2**63, 2**63), "balance_after_nanos": -1, "call_id": rng.choice((None, rng.randbytes(16))),
        "external_id": rng.choice((None, "e1")), "task_id": None, "conversation_id": "c", "model": "gpt-4o", "raw_nanos": 1,
        "markup_ppm": 1_300_000, "price_version": None, "revision": 0, "admitted_at": NOW, "posted_at": NOW,
        "cause": rng.choice(("call", "correction", "credit"))}),
    "registry_record": (avro.REGISTRY, lambda rng: rng.choice((rng.choice(random_registry(rng)), build.heartbeat(NOW, 7)))),
    "instance": (avro.INSTANCE, lambda rng: {"instance": "i", "boot": 1, "next_seq": rng.randrange(2**40), "oldest_open_seq": 1,
                                             "state": rng.choice(("alive", "closed")), "at": NOW}),
    "budget_state": (avro.BUDGET, lambda rng: {
        "budget_id": "b", "scope": rng.choice(("key", "user", "team", "account", "task", "conversation", "tag", "model")),
        "value": rng.choice(("", "tenant:acme", "\u00e9", "~other")), "revision": rng.randrange(1, 2**31), "window_start": NOW,
        "window_end": rng.choice((None, NOW + 1)), "n": rng.randrange(2**63), "limit_nanos": rng.choice((None, 0, 2**63 - 1)),
        "measure": rng.choice(("raw", "billed")), "mode": rng.choice(("hard", "shadow")),
        "spent_nanos": rng.randrange(-2**63, 2**63), "held_nanos": rng.randrange(2**63),
        "threshold_crossed": rng.choice((None, 1, 80, 1000))}),
    "price_book": (avro.PRICES, lambda rng: build.book(rng.randrange(1, 100))),
}


def normal(value):
    """Origins are a set."""
    if isinstance(value, dict):
        return {k: sorted(set(v)) if k == "origins" else normal(v) for k, v in value.items()}
    return [normal(item) for item in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("kind", SAMPLES)
def test_records_are_read_and_written_alike_by_three(twin, kind):
    rng = random.Random(9)
    schema, make = SAMPLES[kind]
    parsed = fastavro.parse_schema(copy.deepcopy(schema.root))
    values = [make(rng) for _ in range(max(20, COUNT // 20))]
    answers = twin([f"recode {kind} {hexed(schema.encode(value))}" for value in values])
    for value, answer in zip(values, answers, strict=True):
        raw = bytes.fromhex(answer[0][1:])
        assert normal(schema.decode(raw)) == normal(value)
        assert raw[:10] == schema.frame
        third = fastavro.schemaless_reader(io.BytesIO(raw[10:]), parsed)
        assert normal(third) == normal(value)
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, value)
        assert normal(schema.decode(schema.frame + out.getvalue())) == normal(value)


def test_fingerprints_are_those_of_a_third_implementation():
    for schema, _ in SAMPLES.values():
        canonical = fastavro.schema.to_parsing_canonical_form(copy.deepcopy(schema.root))
        assert avro.canonical(schema.root) == canonical
        theirs = fastavro.schema.fingerprint(canonical, "CRC-64-AVRO")
        assert schema.fingerprint.to_bytes(8, "little").hex() == theirs or f"{schema.fingerprint:016x}" == theirs


def test_damaged_records_are_refused_by_both_or_by_none(twin):
    rng = random.Random(10)
    values = []
    for _ in range(40):
        good = avro.CALL.encode(random_call(rng))
        values += [good, good + b"\0", good[:rng.randrange(len(good))]]
        for _ in range(COUNT // 40):
            damaged = bytearray(good)
            for _ in range(rng.choice((1, 1, 2, 6))):
                at = rng.randrange(10, len(damaged))
                damaged[at] = rng.choice((damaged[at] ^ 1 << rng.randrange(8), rng.randrange(256), 0, 255))
            values.append(bytes(damaged))
    malformed = 0
    for value, answer in zip(values, twin([f"check {hexed(value)}" for value in values]), strict=True):
        try:
            decide.check_call(avro.CALL.decode(value))
            want = ["ok"]
        except (avro.AvroError, decide.Malformed):
            want, malformed = ["malformed"], malformed + 1
        assert answer == want, value.hex()
    assert COUNT / 4 < malformed < len(values)
