"""What a campaign against ingest alone is judged by: the records of spend.calls by instance and number, the provider's own log,
and a journal's directory on disk."""

import uuid

from ingest_test import records


def call_ids(stack):
    """{call id: set of its records' bytes}."""
    found = {}
    for _, record, raw in records(stack, "spend.calls"):
        found.setdefault(str(uuid.UUID(bytes=record["call_id"])), set()).add(raw)
    return found


def numbers(stack):
    """{instance: {seq: set of (call id, record's bytes)}}."""
    found = {}
    for _, record, raw in records(stack, "spend.calls"):
        found.setdefault(str(record["instance"]), {}).setdefault(record["seq"], set()).add((record["call_id"], raw))
    return found


def check_numbers(stack):
    """No holes from 1 on; each number one call, all of its records the same bytes."""
    for instance, seqs in numbers(stack).items():
        holes = set(range(1, max(seqs) + 1)) - set(seqs)
        assert not holes, f"{instance}: no record of {sorted(holes)}"
        twice = [seq for seq, calls in seqs.items() if len(calls) != 1]
        assert not twice, f"{instance}: several calls or contents of {twice}"
    assert all(len(raw) == 1 for raw in call_ids(stack).values())


def provider_ids(stack):
    """The calls that the provider answered, or began to."""
    return {line["call_id"] for line in stack.provider_calls() if line["kind"] == "chat"}


def segments(folder):
    """Sizes of the segments of all journals below a directory; one may go while we look."""
    sizes = []
    for path in folder.rglob("*.seg"):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:
            continue
    return sizes
