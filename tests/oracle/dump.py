"""I6: what no replay, order or repetition may change, as text to compare byte by byte."""

import json

from .postgres import CREDITS, Snapshot


def canonical(tables):
    """One JSON line a fact, sorted: calls, what each account paid for each call, credits, balances, what windows hold."""
    windows = {w["id"]: [w["budget_id"], w["revision"], w["value"], w["window_start"]] for w in tables.get("budget_window", ())}
    sums = {}
    for entry in tables["entry"]:
        if entry["call_id"] is not None:
            key = (str(entry["call_id"]), entry["account_id"])
            sums[key] = sums.get(key, 0) + entry["amount_nanos"]
    lines = [["call", str(c["call_id"]), c["hash"].hex(), c["account_id"], c["task"], c["conversation"], c["reason"],
              c["raw_nanos"], c["billed_nanos"], c["markup_ppm"], c["price_version"], c["revision"], c["admitted_at"],
              c["outcome"], c["quality"], sorted(c["tags"] or ()),
              sorted(windows[w] for m in ("raw", "billed") for w in c.get(f"windows_{m}") or ())] for c in tables["call"]]
    lines += [["window", *windows[w["id"]], w["spent_nanos"]] for w in tables.get("budget_window", ()) if w["spent_nanos"]]
    lines += [["entries", call, account, total] for (call, account), total in sums.items() if total]
    lines += [["credit", e["account_id"], e["external_id"], e["kind"], e["amount_nanos"]]
              for e in tables["entry"] if e["kind"] in CREDITS]
    lines += [["balance", b["account_id"], b["amount_nanos"], b["held_nanos"]] for b in tables["balance"]]
    return "".join(sorted(json.dumps(line, ensure_ascii=True) + "\n" for line in lines))


def canonical_dump(url):
    with Snapshot(url) as snapshot:
        return canonical(snapshot.tables())
