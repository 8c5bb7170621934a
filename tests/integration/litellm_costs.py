"""Run by LiteLLM's own Python: its figures for random usages of its own models, one JSON object a line.

usage: litellm_costs.py PRICE_FILE SEED COUNT
"""

import json
import os
import random
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # noqa: E402
from litellm.types.utils import ModelResponse, Usage  # noqa: E402

SIZES = (0, 1, 7, 999, 31_999, 32_001, 128_000, 128_001, 199_000, 200_001, 256_001, 272_001, 500_000)


def provider_of(entry):
    provider = entry["litellm_provider"]
    if provider.startswith("vertex_ai-"):
        return "vertex_ai"
    return "bedrock" if provider == "bedrock_converse" else provider


def random_usage(rng):
    prompt, reply = rng.choice(SIZES), rng.choice(SIZES[:7])
    usage = {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply}
    details, left = {}, prompt
    for name in ("cached_tokens", "cache_creation_tokens", "audio_tokens", "image_tokens"):
        if rng.random() < (0.4 if name == "cached_tokens" else 0.15):
            details[name] = rng.randrange(left + 1)
            left -= details[name]
    if details:
        usage["prompt_tokens_details"] = details
    details, left = {}, reply
    for name in ("reasoning_tokens", "audio_tokens", "image_tokens"):
        if rng.random() < 0.15:
            details[name] = rng.randrange(left + 1)
            left -= details[name]
    if details:
        usage["completion_tokens_details"] = details
    return usage


def main():
    litellm.suppress_debug_info = True  # it writes to our output
    path, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with open(path, encoding="utf-8") as file:
        entries = json.load(file)
    assert entries.keys() <= litellm.model_cost.keys() | {"sample_spec"}, "another price file than LiteLLM's own"
    keys = sorted(key for key, entry in entries.items() if entry.get("mode") in ("chat", "completion", "responses")
                  and entry.get("litellm_provider"))
    rng = random.Random(seed)
    for _ in range(count):
        key = rng.choice(keys)
        provider = provider_of(entries[key])
        model = key.removeprefix(f"{provider}/")
        usage, tier = random_usage(rng), rng.choice((None, None, None, "flex", "priority"))
        try:
            reply = ModelResponse(model=model, usage=Usage(**usage))
            cost = litellm.completion_cost(completion_response=reply, model=model, custom_llm_provider=provider, service_tier=tier)
        except Exception as error:  # noqa: BLE001  it has no figure for this one
            cost = None
            print(f"{key}: {str(error)[:200]}", file=sys.stderr)
        print(json.dumps({"key": key, "provider": provider, "model": model, "service_tier": tier, "usage": usage,
                          "cost": None if cost is None else repr(cost)}))


if __name__ == "__main__":
    main()
