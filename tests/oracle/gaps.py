"""python -m tests.oracle.gaps --brokers B: which ingest journals have lost calls, by instance, count and number.

A journal numbers its calls without holes and tells its next number every 10 s on spend.instances; a number that is not on
spend.calls is a call that was let in and has no record. Of an instance that fell silent without `closed` (no starter found its
journal whole) every number it had told counts; what it began after its last heartbeat nobody can count. Exit 0: nothing is
lost, 2: the lost ones are named, 1: it cannot tell.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from . import avro
from .kafka import Tail

TOPICS = ("spend.calls", "spend.instances")


@dataclass
class Journal:
    """What the topics say of one instance."""

    instance: str
    seqs: set = field(default_factory=set)
    heard: int = 0  # UTC micros: its last heartbeat, or record
    beat: dict | None = None

    def loss(self, now_us, silent_us, from_start=True):
        """None when nothing is wrong with it."""
        closed = self.beat is not None and self.beat["state"] == "closed"
        silent = not closed and now_us - self.heard > silent_us
        due = max(self.seqs, default=0) + 1 if closed or silent else 1
        if self.beat is not None:
            due = max(due, self.beat["next_seq" if closed or silent else "oldest_open_seq"])
        first = 1 if from_start else min(self.seqs, default=due)
        missing = [seq for seq in range(first, due) if seq not in self.seqs]
        return Loss(self.instance, len(missing), ranges(missing), silent, self.heard) if missing or silent else None


@dataclass
class Loss:
    instance: str
    count: int
    seqs: list  # [first, last]
    silent: bool
    heard: int

    def __str__(self):
        which = ", ".join(f"{a}-{b}" if a != b else str(a) for a, b in self.seqs)
        heard = datetime.fromtimestamp(self.heard / 1e6, UTC).isoformat(timespec="seconds")
        text = f"instance {self.instance}: {self.count} calls lost" + (f", seq {which}" if which else "")
        return text + (f"; silent since {heard} and not closed: what it began after that cannot be counted" if self.silent else "")


def ranges(numbers):
    found = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def journals(records):
    """{instance: Journal} of the topics' records."""
    found = {}
    for record in records["spend.calls"]:
        call = readable(avro.CALL, record)
        if call and call["instance"] is not None and call["seq"] is not None:
            journal = found.setdefault(call["instance"], Journal(call["instance"]))
            journal.seqs.add(call["seq"])
            journal.heard = max(journal.heard, record.at)
    for record in records["spend.instances"]:
        beat = readable(avro.INSTANCE, record)
        if beat:
            journal = found.setdefault(beat["instance"], Journal(beat["instance"]))
            journal.beat, journal.heard = beat, max(journal.heard, beat["at"])
    return found


def readable(schema, record):
    try:
        return None if record.value is None else schema.decode(record.value)
    except avro.AvroError:
        return None  # another's: malformed ones have a dead-letter topic


def losses(records, now_us, silent_us, from_start=True):
    every = (journal.loss(now_us, silent_us, from_start) for _, journal in sorted(journals(records).items()))
    return [loss for loss in every if loss]


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.oracle.gaps", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", default=os.environ.get("SPEND_KAFKA_BROKERS"), help="Kafka; default SPEND_KAFKA_BROKERS")
    parser.add_argument("--kafka-conf", action="append", default=[], metavar="NAME=VALUE", help="a setting of librdkafka's")
    parser.add_argument("--silent", type=float, default=60, metavar="SECONDS", help="without a heartbeat: lost (60)")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args()
    if not options.brokers:
        parser.error("--brokers is needed")
    if not all("=" in setting for setting in options.kafka_conf):
        parser.error("--kafka-conf wants NAME=VALUE")
    tail = Tail(options.brokers, TOPICS, settings=[setting.split("=", 1) for setting in options.kafka_conf])
    tail.refresh()
    # a topic whose first records have expired cannot tell of numbers before those it still has
    whole = all(low == 0 for (topic, _), low in tail.low.items() if topic == "spend.calls")
    found = losses(tail.records, time.time_ns() // 1000, options.silent * 1e6, whole)
    tail.close()
    if options.json:
        print(json.dumps([asdict(loss) for loss in found]))
    else:
        for loss in found:
            print(loss)
        print(f"{len(journals(tail.records))} instances, {sum(loss.count for loss in found)} calls lost")
    return 2 if found else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as error:
        print(f"gaps: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
