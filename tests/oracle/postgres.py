"""The ledger's tables as rows, from one snapshot; and what must hold in every snapshot."""

import psycopg
from psycopg.rows import dict_row

US = "(extract(epoch FROM {0}) * 1000000)::bigint"
CREDITS = ("top_up", "grant", "refund", "opening")
TABLES = {
    "account": "SELECT id, account_id, name FROM spend.account",
    "balance": "SELECT a.account_id, b.amount_nanos, b.held_nanos, b.seq FROM spend.balance b"
               " JOIN spend.account a ON a.id = b.account_id",
    "entry": "SELECT a.account_id, e.account_seq, e.kind, e.amount_nanos, e.balance_after_nanos, e.call_id, e.external_id,"
             " e.task, e.conversation, e.model, e.raw_nanos, e.markup_ppm, e.price_version, e.revision,"
             f" {US.format('e.admitted_at')} AS admitted_at, {US.format('e.posted_at')} AS posted_at, e.cause"
             " FROM spend.entry e JOIN spend.account a ON a.id = e.account_id ORDER BY a.account_id, e.account_seq",
    "call": "SELECT c.call_id, a.account_id, c.task, c.conversation, c.reason, c.hash, c.identity_rank, c.measurement_rank,"
            " c.attribution_rank, c.raw_nanos, c.billed_nanos, c.markup_ppm, c.price_version, c.price_key, c.revision,"
            f" {US.format('c.admitted_at')} AS admitted_at, c.outcome, c.quality, c.tags, c.windows_raw, c.windows_billed,"
            " c.gate_windows, c.gate_raw_nanos, c.gate_billed_nanos, c.gate_away"
            " FROM spend.call c JOIN spend.account a ON a.id = c.account ORDER BY c.call_id",
    "budget_window": "SELECT w.id, b.budget_id, w.revision, w.value, r.measure, w.spent_nanos, w.held_nanos, w.ungated_nanos,"
                     f" w.away_nanos, {US.format('w.window_start')} AS window_start FROM spend.budget_window w JOIN spend.budget b ON b.id = w.budget"
                     " JOIN spend.budget_revision r ON r.budget = w.budget AND r.revision = w.revision",
    "hold": "SELECT h.call_id, h.state, a.account_id, h.raw_nanos, h.billed_nanos, h.windows_raw, h.windows_billed"
            " FROM spend.hold h LEFT JOIN spend.account a ON a.id = h.account",
    "consumer_offset": "SELECT stream, topic, partition, next FROM spend.consumer_offset",
}


class Snapshot:
    """Reads of one REPEATABLE READ transaction."""

    def __init__(self, url):
        self.connection = psycopg.connect(url, row_factory=dict_row)
        self.connection.read_only = True
        self.connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def rows(self, table):
        return self.connection.execute(TABLES[table]).fetchall()

    def one(self, query):
        return next(iter(self.connection.execute(query).fetchone().values()))

    def tables(self):
        return {table: self.rows(table) for table in TABLES}


def invariants(tables):
    """I4 and I5, that hold in every committed snapshot: each breach as a sentence."""
    wrong = []
    by_account, by_call = {}, {}
    for entry in tables["entry"]:
        by_account.setdefault(entry["account_id"], []).append(entry)
        if entry["call_id"] is not None:
            key = (entry["account_id"], entry["call_id"])
            by_call[key] = by_call.get(key, 0) + entry["amount_nanos"]
    for account, entries in by_account.items():
        wrong += _chain(account, sorted(entries, key=lambda e: e["account_seq"]))
    for balance in tables["balance"]:
        entries = by_account.get(balance["account_id"], ())
        total = sum(e["amount_nanos"] for e in entries)
        if balance["amount_nanos"] != total:
            wrong.append(f"account {balance['account_id']}: balance {balance['amount_nanos']}, its entries sum to {total}")
        if balance["seq"] != len(entries):
            wrong.append(f"account {balance['account_id']}: balance.seq {balance['seq']}, {len(entries)} entries")
    wrong += _held(tables)
    with_balance = {b["account_id"] for b in tables["balance"]}
    wrong += [f"account {account}: entries without a balance" for account in by_account if account not in with_balance]
    for call in tables["call"]:
        own = by_call.pop((call["account_id"], call["call_id"]), 0)
        if own != -(call["billed_nanos"] or 0):
            wrong.append(f"call {call['call_id']}: billed {call['billed_nanos']}, entries of {call['account_id']} sum to {own}")
    wrong += [f"call {call}: {account} keeps {amount} of a bill that is not its own"
              for (account, call), amount in by_call.items() if amount]
    return wrong + _windows(tables)


def _held(tables):
    sums, wrong = {}, []
    for hold in tables.get("hold", ()):
        sums[hold["account_id"]] = sums.get(hold["account_id"], 0) + hold["billed_nanos"]
        if hold["state"] not in ("placed", "captured") and (hold["raw_nanos"] or hold["billed_nanos"]):
            wrong.append(f"hold {hold['call_id']}: {hold['state']} and holds {hold['billed_nanos']}")
    return wrong + [f"account {b['account_id']}: held {b['held_nanos']}, its open holds sum to {sums.get(b['account_id'], 0)}"
                    for b in tables["balance"] if b["held_nanos"] != sums.get(b["account_id"], 0)]


def _windows(tables):
    spent, wrong = {}, []
    for call in tables["call"]:
        for measure in ("raw", "billed"):
            amount = call[f"{measure}_nanos"] or 0
            for window in call.get(f"windows_{measure}") or ():
                let = (call[f"gate_{measure}_nanos"] or 0) if window in call["gate_windows"] else 0
                if not 0 <= let <= amount:
                    wrong.append(f"call {call['call_id']}: {amount}, of which the gate let {let} through")
                sums = spent.setdefault((window, measure), [0, 0, 0])
                for i, part in enumerate((amount, amount - let, let if call["gate_away"] else 0)):
                    sums[i] += part
    for w in tables.get("budget_window", ()):
        own, ungated, away = spent.pop((w["id"], w["measure"]), (0, 0, 0))
        if (w["ungated_nanos"], w["away_nanos"]) != (ungated, away):
            wrong.append(f"budget {w['budget_id']} {w['value']}: ungated {w['ungated_nanos']} and away {w['away_nanos']},"
                         f" of its calls {ungated} and {away}")
        held = sum(h[f"{w['measure']}_nanos"] for h in tables.get("hold", ()) if w["id"] in h[f"windows_{w['measure']}"])
        if w["held_nanos"] != held:
            wrong.append(f"budget {w['budget_id']} {w['value']}: held {w['held_nanos']}, its open holds sum to {held}")
        if w["spent_nanos"] != own:
            wrong.append(f"budget {w['budget_id']} {w['value']}: spent {w['spent_nanos']}, the bills charged to it sum to {own}")
    return wrong + [f"a call is charged to window {window}, which is none of a budget that measures {measure}"
                    for window, measure in spent]


def _chain(account, entries):
    wrong, balance = [], 0
    for number, entry in enumerate(entries, 1):
        balance += entry["amount_nanos"]
        if entry["account_seq"] != number:
            wrong.append(f"account {account}: account_seq {entry['account_seq']} where {number} is due")
            break
        if entry["balance_after_nanos"] != balance:
            wrong.append(f"account {account} entry {number}: balance_after {entry['balance_after_nanos']}, is {balance}")
        if entry["amount_nanos"] == 0:
            wrong.append(f"account {account} entry {number}: an amount of zero")
    return wrong


def snapshot_breaches(url):
    with Snapshot(url) as snapshot:
        return invariants(snapshot.tables())
