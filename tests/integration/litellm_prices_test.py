"""Every chat entry of the price file, with usage of every class: LiteLLM's own figure, and ours."""

import json
import os
import subprocess
from decimal import Decimal

import pytest

from oracle import avro, build, rater
from stack import ROOT

COUNT = 3000
AT = 1_790_000_000_000_000


@pytest.fixture(scope="module")
def costs():
    done = subprocess.run([ROOT / ".local/litellm/bin/python", ROOT / "tests/integration/litellm_costs.py",
                           ROOT / "tests/testdata/litellm/model_prices.json", "7", str(COUNT)],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == COUNT
    return rows


def classes(row):
    """The disjoint classes of LiteLLM's usage. xai counts reasoning beside the completion, all others inside it."""
    usage = row["usage"]
    into, out = usage.get("prompt_tokens_details", {}), usage.get("completion_tokens_details", {})
    reasoning = out.get("reasoning_tokens", 0)
    inside = 0 if row["provider"] == "xai" else reasoning
    return {"input": usage["prompt_tokens"] - sum(into.values()), "cache_read": into.get("cached_tokens", 0),
            "cache_write_5m": into.get("cache_creation_tokens", 0), "audio_in": into.get("audio_tokens", 0),
            "image_in": into.get("image_tokens", 0), "reasoning": reasoning,
            "output": usage["completion_tokens"] - inside - out.get("audio_tokens", 0) - out.get("image_tokens", 0),
            "audio_out": out.get("audio_tokens", 0), "image_out": out.get("image_tokens", 0)}


@pytest.fixture(scope="module")
def ours(costs):
    """What spend-twin says to each row: raw in nano-USD, None for unpriced; and the rating."""
    prices = (ROOT / "tests/testdata/litellm/model_prices.json").read_text(encoding="utf-8")
    book = rater.import_book(json.loads(prices, parse_float=str, parse_int=str), recorded_at=1)
    lines = ["reset", f"prices {hexed(avro.PRICES.encode(book))}"]
    for row in costs:
        call = build.call(at=AT, model_requested=None, model_replied=row["model"], provider=row["provider"],
                          service_tier=row["service_tier"], usage=build.usage(**classes(row)))
        lines.append(f"rate {hexed(avro.CALL.encode(call))} {AT}")
    program = os.path.join(os.environ.get("SPENDLINE_BIN") or ROOT / "build/release/bin", "spend-twin")
    done = subprocess.run([program], input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = [line.split(" ") for line in done.stdout.splitlines()[2:]]
    return [(int(answer[1]), answer[0]) if len(answer) > 1 else (None, answer[0]) for answer in answers]


def hexed(data):
    return "x" + data.hex()


def is_by_nature(row):
    """LiteLLM loses the tier on its way to vertex_ai's newer Gemini models, and adds a router's fee of its own."""
    return row["key"] == "azure_ai/model_router" or (row["provider"] == "vertex_ai" and row["service_tier"] == "priority")


def test_every_chat_entry_costs_what_litellm_says(costs, ours):
    differ, known, other = [], 0, 0
    for row, (raw, rating) in zip(costs, ours, strict=True):
        if row["cost"] is None:
            continue
        known += 1
        if raw is None or abs(Decimal(row["cost"]) * 10**9 - raw) > Decimal("0.501"):
            other += is_by_nature(row)
            if not is_by_nature(row):
                differ.append((row["key"], row["service_tier"], row["usage"], row["cost"], raw, rating))
    print(f"{known - other - len(differ)} of {known} agree, {other} differ by nature")
    for one in differ:
        print(*one)
    assert known > 0.99 * COUNT and other < 0.01 * COUNT
    assert not differ
