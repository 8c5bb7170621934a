"""The oracle against a running Spendline: reads the witnesses, waits until they are done, and judges."""

import json
import time
from pathlib import Path

from . import avro
from .check import DEAD_TOPICS, TOPICS, Judgement, World
from .kafka import Tail
from .postgres import Snapshot


class Oracle:
    def __init__(self, brokers, database_url=None, provider_log=None, driver_log=None, stream="live"):
        self.tail = Tail(brokers, TOPICS)
        self.database_url, self.stream = database_url, stream
        self.provider_log, self.driver_log = provider_log, driver_log

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tail.close()

    def behind(self):
        """What is not yet through, as a sentence; empty when everything that was sent has been applied."""
        self.tail.refresh()
        records = self.tail.records
        decided = len(records["spend.attributed"]) + sum(
            avro.DEAD_LETTER.decode(r.value)["origin"]["topic"] == "spend.calls" for topic in DEAD_TOPICS
            for r in records[topic])
        if decided < len(records["spend.calls"]):
            return f"{len(records['spend.calls']) - decided} records of spend.calls are undecided"
        if self.database_url is None:
            return ""
        with Snapshot(self.database_url) as snapshot:
            applied = {(row["topic"], row["partition"]): row["next"] for row in snapshot.rows("consumer_offset")
                       if row["stream"] == self.stream}
            entries = snapshot.one("SELECT count(*) FROM spend.entry")
        for topic in ("spend.attributed", *DEAD_TOPICS):
            for record in records[topic]:
                if topic != "spend.dlq.malformed" and record.offset >= applied.get((topic, record.partition), 0):
                    return f"{record.name} is not applied"
        published = len({(r.key, r.value) for r in records["spend.entries"]})
        return f"{entries - published} entries are not published" if published < entries else ""

    def settle(self, timeout_s=60.0):
        """Waits until nothing is behind. TimeoutError says what still is."""
        end = time.monotonic() + timeout_s
        while reason := self.behind():
            if time.monotonic() > end:
                raise TimeoutError(f"after {timeout_s} s {reason}")
            time.sleep(0.25)

    def world(self):
        self.tail.refresh()
        tables = None
        if self.database_url is not None:
            with Snapshot(self.database_url) as snapshot:
                tables = snapshot.tables()
        return World(self.tail.records, tables, read_lines(self.provider_log), read_lines(self.driver_log), self.tail.low)

    def judge(self):
        return Judgement(self.world())


def read_lines(path):
    if path is None:
        return []
    whole = Path(path).read_text(encoding="utf-8")
    return [json.loads(line) for line in whole[:whole.rfind("\n") + 1].splitlines()]


def disagreements(brokers, database_url=None, provider_log=None, driver_log=None, settle_s=60.0):
    """Every difference between the witnesses, once they are done."""
    with Oracle(brokers, database_url, provider_log, driver_log) as oracle:
        try:
            oracle.settle(settle_s)
        except TimeoutError as late:
            return [f"behind: {late}", *oracle.judge().check()]
        return oracle.judge().check()
