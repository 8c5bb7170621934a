"""python -m tests.oracle: exit 0 when all witnesses agree, 2 with each difference named, 1 when it cannot tell."""

import argparse
import json
import os
import sys

from .dump import canonical_dump
from .money import usd
from .oracle import Oracle


def arguments():
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument("--brokers", default=os.environ.get("SPEND_KAFKA_BROKERS"), help="Kafka; default SPEND_KAFKA_BROKERS")
    parser.add_argument("--database-url", default=os.environ.get("SPEND_DATABASE_URL"),
                        help="Postgres; default SPEND_DATABASE_URL, none: topics only")
    parser.add_argument("--provider-log", help="the fake provider's log, JSON lines")
    parser.add_argument("--driver-log", help="JSON lines {ref, call_id, tags}: what the callers sent and were told")
    parser.add_argument("--settle", type=float, default=60.0, metavar="SECONDS", help="how long to wait until all is applied")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--dump", action="store_true", help="print the canonical dump of the database and end")
    options = parser.parse_args()
    if options.dump and not options.database_url:
        parser.error("--dump needs --database-url")
    if not options.dump and not options.brokers:
        parser.error("--brokers is needed")
    return options


def report(judgement, wrong, as_json):
    billed = sum(f.bill(judgement.registry)["billed"] or 0 for f in judgement.calls.values())
    facts = {"records": len(judgement.decisions), "calls": len(judgement.calls), "billed": usd(billed),
             "differences": list(wrong)}
    if as_json:
        print(json.dumps(facts))
        return
    for difference in wrong:
        print(difference)
    print(f"{facts['records']} records of {facts['calls']} calls, {facts['billed']} USD billed: {len(wrong)} differences")


def main():
    options = arguments()
    if options.dump:
        sys.stdout.write(canonical_dump(options.database_url))
        return 0
    with Oracle(options.brokers, options.database_url, options.provider_log, options.driver_log) as oracle:
        late = []
        try:
            oracle.settle(options.settle)
        except TimeoutError as error:
            late = [f"behind: {error}"]
        judgement = oracle.judge()
        wrong = late + judgement.check()
    report(judgement, wrong, options.json)
    return 2 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as error:
        # a difference and a breakdown must not look alike
        print(f"oracle: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
