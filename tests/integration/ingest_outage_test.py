"""Kafka away under load. Callers notice nothing until the journal is full, then get 503; afterwards every answered
call has its one record and no refused one has any.

SPEND_OUTAGE_S makes the outage longer than 20 s, and the journal as much larger: SPEND_OUTAGE_S=60 is what tests/run chaos does."""

import json
import os
import threading
import time

import pytest
from ingest_test import ingest_stack
from stack import http, wait_until
from witness import call_ids, check_numbers, provider_ids, segments

OUTAGE_S = int(os.environ.get("SPEND_OUTAGE_S", "20"))
SEGMENT = 1 << 20
JOURNAL_BYTES = max(4, OUTAGE_S // 5) * SEGMENT
CALLERS = 6
PACE_S = 0.01
ANSWER_S = 10  # what no caller waits for, Kafka or not


class Callers:
    """Threads that call until told to stop. answers: (time, status, call id, Retry-After, error type)."""

    def __init__(self, ingest):
        self.ingest, self.answers, self.wrong = ingest, [], []
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(number,), daemon=True) for number in range(CALLERS)]

    def run(self, caller):
        count, pause = 0, PACE_S
        while not self.stopped.wait(pause):
            count += 1
            body = {"model": "gpt-4o", "stream": count % 5 == 0, "tags": ["account_id=outage", f"task=t{caller}"],
                    "messages": [{"role": "user", "content": f"fake: prompt={count} completion=7 bytes=200"}]}
            try:
                status, headers, raw = http("POST", self.ingest.url + "/v1/chat/completions", body, timeout_s=ANSWER_S)
            except OSError as error:
                self.wrong.append(error)
                continue
            kind = json.loads(raw)["error"]["type"] if status != 200 else None
            pause = float(headers["Retry-After"] or PACE_S)
            self.answers.append((time.monotonic(), status, headers["x-spend-call-id"], headers["Retry-After"], kind))

    def statuses(self):
        return [answer[1] for answer in list(self.answers)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join(2 * ANSWER_S)


class Watch:
    """Looks at the journal's directory and at /readyz until left."""

    def __init__(self, ingest, folder):
        self.ingest, self.folder, self.bytes, self.counts, self.ready = ingest, folder, [], [], []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.stopped.wait(0.1):
            sizes = segments(self.folder)
            self.bytes.append(sum(sizes))
            self.counts.append(len(sizes))
            status, _, text = http("GET", self.ingest.admin_url + "/readyz", timeout_s=ANSWER_S)
            self.ready.append((time.monotonic(), status == 200, text.decode()))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join(2 * ANSWER_S)


@pytest.mark.timeout(240 + 4 * OUTAGE_S)
def test_callers_notice_nothing_of_an_outage_until_the_journal_is_full_and_nothing_is_lost():
    with ingest_stack() as stack:
        folder = stack.dir / "journal-outage"
        ingest = stack.ingest("outage", journal=folder, flags=[
            f"--journal-bytes={JOURNAL_BYTES}", f"--journal-segment-bytes={SEGMENT}", "--beat-every=1s"]).start()
        with Watch(ingest, folder) as watch:
            with Callers(ingest) as callers:
                wait_until(lambda: len(callers.answers) > 100, 60, "calls before the outage")
                began = time.monotonic()
                stack.kill_part("kafka")
                wait_until(lambda: 503 in callers.statuses() and time.monotonic() - began > OUTAGE_S, 10 * OUTAGE_S,
                           "the journal full and the outage over")
                full = next(answer[0] for answer in callers.answers if answer[1] == 503)
                wait_until(lambda: not ingest.ready(), 10, "not ready while full")
                back = time.monotonic()
                stack.up("kafka")
                wait_until(lambda: callers.answers[-1][1] == 200 and ingest.ready(), 60, "calls pass again")
                wait_until(lambda: len(segments(folder)) == 1, 60, "one segment again, under load")
            wait_until(lambda: ingest.metrics()["spend_ingest_journal_undelivered"] == 0, 60, "all delivered")
        answers = list(callers.answers)
        assert not callers.wrong, callers.wrong[:3]
        taken = sum(began < at < full for at, *_ in answers)
        assert taken > 500 and all(status == 200 for at, status, *_ in answers if at < full)
        refused = [answer for answer in answers if answer[1] != 200]
        assert refused and all(answer[1:] == (503, None, "1", "journal_full") for answer in refused)
        assert max(watch.bytes) <= JOURNAL_BYTES and max(watch.counts) == JOURNAL_BYTES // SEGMENT
        unready = [text for at, ready, text in watch.ready if not ready]
        assert unready and all("journal" in text and "kafka" not in text for text in unready), set(unready)
        told = call_ids(stack)
        answered = {answer[2] for answer in answers if answer[1] == 200}
        assert len(answered) == len(answers) - len(refused)
        assert set(told) == answered == provider_ids(stack)
        check_numbers(stack)
        print(f"outage {back - began:.1f} s: full after {full - began:.1f} s and {taken} calls, {len(refused)} refused, "
              f"{len(answered)} answered and recorded, most {max(watch.bytes)} bytes in {max(watch.counts)} segments")
