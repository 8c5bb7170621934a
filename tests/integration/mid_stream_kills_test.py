"""Ingest SIGKILLed in mid-stream, again and again, and started on the same journal: every number has its one call.

SPEND_STREAM_KILLS makes it a longer campaign than 10 kills: SPEND_STREAM_KILLS=50 is what tests/run chaos does. Every other start
syncs its journal to disk."""

import collections
import http.client
import json
import os
import random
import threading
import uuid

import pytest
from ingest_test import ingest_stack, records
from stack import wait_until
from witness import call_ids, check_numbers, numbers, provider_ids

KILLS = int(os.environ.get("SPEND_STREAM_KILLS", "10"))
SLOW, QUICK = 4, 3  # callers: streams of a minute, and calls that end


class Caller:
    """Makes calls of one kind until told to stop; calls: [call id, bytes that came, whole]."""

    def __init__(self, ingest, order, campaign):
        self.ingest, self.order, self.campaign, self.calls = ingest, order, campaign, []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.campaign.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.ingest.port, timeout=60)
            call = [None, 0, False]
            try:
                connection.request("POST", "/v1/chat/completions", json.dumps({
                    "model": "gpt-4o", "stream": True, "tags": ["account_id=kill"],
                    "messages": [{"role": "user", "content": f"fake: prompt=40 completion=9 {self.order}"}]}))
                reply = connection.getresponse()
                assert reply.status == 200
                call[0] = reply.getheader("x-spend-call-id")
                self.calls.append(call)
                while part := reply.read1(4096):
                    call[1] += len(part)
                call[2] = True
            except (OSError, http.client.HTTPException):
                self.campaign.wait(0.05)  # ingest is away: the caller's own back-off
            finally:
                connection.close()

    @property
    def streaming(self):
        """Its last call is under way and has brought text."""
        return bool(self.calls) and not self.calls[-1][2] and self.calls[-1][1] > 600


def judge(stack, slow, quick):
    """Each caller's knowledge, and the provider's, against the records."""
    check_numbers(stack)
    told = call_ids(stack)
    outcomes = {str(uuid.UUID(bytes=record["call_id"])): (record["outcome"], record["quality"])
                for _, record, _ in records(stack, "spend.calls")}
    known = {call[0] for caller in slow + quick for call in caller.calls}
    assert known <= set(told) and provider_ids(stack) <= set(told)
    whole = {call[0] for caller in quick for call in caller.calls if call[2]}
    assert whole and {outcomes[call] for call in whole} == {("completed", "final")}
    cut = {call[0] for caller in slow for call in caller.calls}
    assert len(cut) >= SLOW * KILLS and {outcomes[call] for call in cut} == {("unknown", "estimated")}
    assert {outcome for outcome, _ in outcomes.values()} <= {"completed", "unknown"}
    return collections.Counter(outcome for outcome, _ in outcomes.values())


@pytest.mark.timeout(120 + 20 * KILLS)
def test_ingest_killed_in_mid_stream_has_one_record_for_every_number():
    rng = random.Random(20261126)
    with ingest_stack() as stack:
        ingest = stack.ingest("killed", journal=stack.dir / "journal-killed", flags=["--beat-every=1s"]).start()
        over = threading.Event()
        slow = [Caller(ingest, f"chunks=1000 bytes=40000 chunk_ms={rng.randrange(50, 90)}", over) for _ in range(SLOW)]
        quick = [Caller(ingest, f"chunks={rng.randrange(2, 30)} bytes=900 chunk_ms={rng.randrange(2, 9)}", over) for _ in range(QUICK)]
        for kill in range(KILLS):
            ended = sum(call[2] for caller in quick for call in caller.calls)
            share = ended + rng.randrange(1, 12)  # a random point of the load
            wait_until(lambda share=share: sum(call[2] for caller in quick for call in caller.calls) >= share and
                       all(caller.streaming for caller in slow), 60, "streams under way and calls ended")
            if kill == KILLS - 1:
                over.set()
            ingest.kill()
            ingest.start(wait=kill == KILLS - 1, flags=["--beat-every=1s", f"--journal-sync={('disk', 'none')[kill % 2]}"])
        for caller in slow + quick:
            caller.thread.join(60)
        wait_until(lambda: ingest.metrics()["spend_ingest_journal_undelivered"] == 0, 60, "all delivered")
        outcomes = judge(stack, slow, quick)
        (instance, seqs), = numbers(stack).items()
        beat = wait_until(lambda: [beat for _, beat, _ in records(stack, "spend.instances") if beat["boot"] == KILLS + 1], 10, "its beat")
        assert str(beat[-1]["instance"]) == instance and beat[-1]["oldest_open_seq"] == max(seqs) + 1
        print(f"{KILLS} kills: {len(seqs)} numbers, {dict(outcomes)}, {len(provider_ids(stack))} answered by the provider, boot {KILLS + 1}")
