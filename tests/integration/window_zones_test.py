"""Budget windows on the real Postgres: their bounds against Python's zoneinfo, and how they are opened and rolled.

Times are whole microseconds since 1970 throughout: aware datetimes that a clock change touches compare oddly in Python.
"""

import concurrent.futures
import contextlib
import itertools
import random
import threading
import zoneinfo
from datetime import datetime, timedelta, timezone

import psycopg
import pytest
from psycopg.rows import dict_row

from stack import Stack, wait_until

UTC = timezone.utc
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = 10**6, 60 * 10**6, 3600 * 10**6, 86400 * 10**6
PERIODS = ("hour", "day", "week", "month", "quarter", "year")
MOST = 1000
US = "(extract(epoch FROM nullif({}, 'infinity')) * 1000000)::bigint"
AT = "timestamptz 'epoch' + {} * interval '1 microsecond'"


# -- what a window is, by Python

def micros(when):
    return (when - EPOCH) // timedelta(microseconds=1)


def us(text):
    """Of '2024-03-10T05:00:00.5', which is UTC."""
    return micros(datetime.fromisoformat(text).replace(tzinfo=UTC))


def moment(at):
    return EPOCH + timedelta(microseconds=at)


def clock(zone, at):
    """What a clock on the wall shows."""
    return moment(at).astimezone(zone).replace(tzinfo=None, fold=0)


def offset(zone, at):
    return moment(at).astimezone(zone).utcoffset()


def change_between(zone, low, high):
    """When the one change of offset comes that lies in (low, high]."""
    before = offset(zone, low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if offset(zone, middle) == before else (low, middle)
    return high


def instant(zone, local):
    """When a local time comes: of two the second; when the clock jumps over it, the jump."""
    first, second = (micros(local.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    return second if clock(zone, second) == local else change_between(zone, second, first)


def beginnings(period, local):
    """Local times at which a period begins, more of them around than any clock was ever set by."""
    day = datetime.combine(local.date(), datetime.min.time())
    if period == "hour":
        return [local.replace(minute=0, second=0, microsecond=0) + timedelta(hours=h) for h in range(-30, 31)]
    if period == "day":
        return [day + timedelta(days=d) for d in range(-3, 4)]
    if period == "week":
        return [day + timedelta(days=7 * w - day.weekday()) for w in range(-2, 3)]
    months = {"month": 1, "quarter": 3, "year": 12}[period]
    number = (local.year * 12 + local.month - 1) // months
    return [datetime(n * months // 12, n * months % 12 + 1, 1) for n in range(number - 2, number + 3)]


def calendar_window(period, tz, at):
    zone = zoneinfo.ZoneInfo(tz)
    bounds = [instant(zone, local) for local in beginnings(period, clock(zone, at))]
    return max(b for b in bounds if b <= at), min(b for b in bounds if b > at)


def window(kind, period, seconds, tz, anchor, at):
    """(start, end), end None for never."""
    if kind == "calendar":
        return calendar_window(period, tz, at)
    if kind == "lifetime":
        return anchor, None
    start = at - (at - anchor) % (seconds * SECOND)
    return start, start + seconds * SECOND


def changes(tz, *years):
    """When the clocks of a zone change in these years."""
    zone = zoneinfo.ZoneInfo(tz)
    for year in years:
        for day in range(us(f"{year}-01-01"), us(f"{year + 1}-01-01"), DAY // 4):
            if offset(zone, day) != offset(zone, day + DAY // 4):
                yield change_between(zone, day, day + DAY // 4)


# -- the table

CHANGES = {
    # summer time, north and south, by whole hours
    "Europe/Berlin": (2024,), "Europe/Dublin": (2024,), "America/New_York": (2024, 2050), "Australia/Sydney": (2024,),
    "Pacific/Auckland": (2025,), "Africa/Casablanca": (2025,),
    # a midnight that does not exist, and one that comes twice
    "America/Havana": (2024,), "Africa/Cairo": (2023, 2024), "Asia/Beirut": (2024,), "America/Asuncion": (2023,),
    "America/Sao_Paulo": (2018,), "America/Santiago": (2024,), "Atlantic/Azores": (2024,), "Asia/Tehran": (2021,),
    "Asia/Amman": (2021,), "America/Scoresbysund": (2023, 2024),
    # by half an hour or at no whole hour
    "Australia/Lord_Howe": (2024,), "Pacific/Chatham": (2024,), "America/St_Johns": (1988, 2010, 2024), "Australia/Eucla": (2008,),
    "Asia/Pyongyang": (2015, 2018), "America/Caracas": (2007, 2016), "Asia/Kathmandu": (1985,), "Asia/Gaza": (2010,),
    # by two hours, three, and a day
    "Antarctica/Troll": (2024,), "Antarctica/Casey": (2018, 2020), "Pacific/Apia": (2011,), "Pacific/Kwajalein": (1993,),
    "Pacific/Kiritimati": (1994, 1995)}
AROUND = {"hour": (-90 * MINUTE, -1, 0, 1, 20 * MINUTE), "day": (-1, 0, 1, 20 * HOUR)}
LONG = ("week", "month", "quarter", "year")
DATES = (  # leap days, month ends, quarters, year ends, and Mondays around them
    "2000-02-29", "2000-03-01", "2000-12-31", "2001-01-01", "2019-12-30", "2020-02-29", "2021-01-03", "2021-01-04", "2022-01-01",
    "2023-02-28", "2023-03-01", "2024-02-29", "2024-03-01", "2024-03-31", "2024-04-01", "2024-06-30", "2024-07-01", "2024-10-01",
    "2024-12-30", "2025-01-01", "2026-01-31", "2026-02-01", "2027-01-03", "2028-02-29", "2028-03-01", "2028-12-31", "2099-12-31",
    "2100-02-28", "2100-03-01", "2101-01-03")
DATE_ZONES = ("UTC", "Asia/Kolkata", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Chatham", "Australia/Eucla",
              "Pacific/Kiritimati", "Pacific/Pago_Pago", "Australia/Lord_Howe", "America/Los_Angeles")
ANCHORS = ("2024-02-29T23:59:59.999999", "2023-11-05T05:30:00.123457")
LENGTHS = (1, 7, 60, 5400, 86400, 604800, 2592000, 31536000)


def table():
    """Name -> arguments of window_bounds."""
    rows = {}

    def row(kind, period, seconds, tz, anchor, at):
        rows[f"{tz} {period or kind}{seconds or ''} {moment(at):%Y-%m-%dT%H:%M:%S.%fZ}"] = (kind, period, seconds, tz, anchor, at)

    for tz, years in CHANGES.items():
        for change in changes(tz, *years):
            for period, far in AROUND.items():
                for d in far:
                    row("calendar", period, None, tz, 0, change + d)
            for period in LONG:
                if any(abs(bound - change) <= DAY for bound in calendar_window(period, tz, change)):
                    row("calendar", period, None, tz, 0, change - 1)
                    row("calendar", period, None, tz, 0, change)
    for day, tz in zip(DATES, itertools.cycle(DATE_ZONES)):
        for period, d in itertools.product(PERIODS[1:], (-1, 0, 1)):
            row("calendar", period, None, tz, 0, instant(zoneinfo.ZoneInfo(tz), datetime.fromisoformat(day)) + d)
    for seconds, anchor in itertools.product(LENGTHS, map(us, ANCHORS)):
        for n, d in ((0, 0), (0, -1), (1, 0), (-1, 0), (190, -1), (-190, 1)):
            row("interval", None, seconds, "America/Havana", anchor, anchor + n * seconds * SECOND + d)
    for anchor in map(us, ANCHORS):
        for d in (0, 1, 70 * 365 * DAY):
            row("lifetime", None, None, "America/Havana", anchor, anchor + d)
    return rows


TABLE = table()
KNOWN = (  # worked out by hand: zone, period, instant, start, end
    ("America/Havana", "day", "2024-03-10T04:59:59.999999", "2024-03-09T05:00", "2024-03-10T05:00"),
    ("America/Havana", "day", "2024-03-10T05:00", "2024-03-10T05:00", "2024-03-11T04:00"),  # 00:00 is not, it is 01:00
    ("America/Havana", "day", "2024-11-03T04:30", "2024-11-02T04:00", "2024-11-03T05:00"),  # the first 00:30 is of the day before
    ("America/Havana", "day", "2024-11-03T05:00", "2024-11-03T05:00", "2024-11-04T05:00"),
    ("America/Asuncion", "quarter", "2023-10-01T04:00", "2023-10-01T04:00", "2024-01-01T03:00"),
    ("Africa/Cairo", "month", "2024-10-31T21:30", "2024-09-30T21:00", "2024-10-31T22:00"),  # midnight of 1 November comes twice
    ("Asia/Tehran", "week", "2021-03-21T20:30", "2021-03-21T20:30", "2021-03-28T19:30"),
    ("Asia/Kathmandu", "year", "1985-12-31T18:30", "1985-12-31T18:30", "1986-12-31T18:15"),
    ("Pacific/Apia", "day", "2011-12-30T09:59:59.999999", "2011-12-29T10:00", "2011-12-30T10:00"),
    ("Pacific/Apia", "day", "2011-12-30T10:00", "2011-12-30T10:00", "2011-12-31T10:00"),  # the 31st: there was no 30th
    ("Pacific/Kwajalein", "day", "1993-08-21T12:00", "1993-08-21T12:00", "1993-08-22T12:00"),
    ("Australia/Lord_Howe", "hour", "2024-10-05T15:30", "2024-10-05T15:30", "2024-10-05T16:00"),  # 02:00 becomes 02:30
    ("Australia/Lord_Howe", "hour", "2024-04-06T14:45", "2024-04-06T14:00", "2024-04-06T15:30"),  # 02:00 becomes 01:30
    ("Pacific/Chatham", "hour", "2024-09-28T13:59", "2024-09-28T13:15", "2024-09-28T14:00"),  # 02:45 becomes 03:45
    ("Pacific/Chatham", "hour", "2024-09-28T14:00", "2024-09-28T14:00", "2024-09-28T14:15"),
    ("Antarctica/Casey", "hour", "2018-03-10T16:30", "2018-03-10T13:00", "2018-03-10T17:00"),  # 04:00 becomes 01:00
    ("Europe/Berlin", "week", "2021-01-03T22:59:59.999999", "2020-12-27T23:00", "2021-01-03T23:00"),
    ("UTC", "month", "2100-02-28T12:00", "2100-02-01", "2100-03-01"))


@pytest.fixture(scope="module")
def stack():
    with Stack(parts=("postgres",)) as one:
        one.migrate()
        yield one
        assert one.deadlocks() == 0


def connect(stack):
    """A session of the ledger's role, in a zone that nothing must depend on."""
    return psycopg.connect(stack.database_url("spend_ledger"), autocommit=True, row_factory=dict_row,
                           options="-c search_path=spend -c TimeZone=America/Havana -c statement_timeout=60s")


@pytest.fixture
def db(stack):
    with connect(stack) as one:
        yield one


# window_bounds's arguments as a table x, and the windows of w
ROWS = f"""FROM (SELECT n, kind, period, seconds, tz, {AT.format('anchor')} AS anchor, {AT.format('at')} AS at
    FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[])
    WITH ORDINALITY AS x (kind, period, seconds, tz, anchor, at, n)) AS x"""
BOUNDS = "CROSS JOIN LATERAL window_bounds(kind, period, seconds, tz, anchor, {}) AS {} (s, e)"


def windows(db, rows):
    found = db.execute(f"SELECT {US.format('w.s')} AS s, {US.format('w.e')} AS e {ROWS} {BOUNDS.format('at', 'w')} ORDER BY n",
                       [list(column) for column in zip(*rows)]).fetchall()
    return [(row["s"], row["e"]) for row in found]


@pytest.fixture(scope="module")
def answers(stack):
    with connect(stack) as db:
        return dict(zip(TABLE, windows(db, TABLE.values())))


# -- bounds

@pytest.mark.parametrize("name", TABLE)
def test_a_window_is_the_one_of_zoneinfo(answers, name):
    assert answers[name] == window(*TABLE[name])


@pytest.mark.parametrize("tz, period, at, start, end", KNOWN)
def test_a_window_is_the_one_worked_out_by_hand(db, tz, period, at, start, end):
    row = ("calendar", period, None, tz, 0, us(at))
    assert windows(db, [row]) == [window(*row)] == [(us(start), us(end))]


def random_rows():
    """Arguments of many windows: anywhere in time in any zone, close to the changes of the table, and of any length."""
    chance = random.Random(4)
    zones = sorted(tz for tz in zoneinfo.available_timezones() if "/" in tz)
    low, high = us("1972-02-01"), us("2150-01-01")
    for _ in range(1500):
        yield "calendar", chance.choice(PERIODS), None, chance.choice(zones), 0, chance.randrange(low, high)
    near = [(tz, change) for tz, years in CHANGES.items() for change in changes(tz, *years)]
    for tz, change in near * 12:
        far = chance.choice((3, 30)) * HOUR
        yield "calendar", chance.choice(PERIODS[:3]), None, tz, 0, change + chance.randrange(-far, far)
    for _ in range(1500):
        seconds = chance.choice((chance.randrange(1, 100), chance.randrange(1, 10**5), chance.randrange(1, 10**8)))
        yield "interval", None, seconds, "UTC", chance.randrange(low, high), chance.randrange(low, high)


def test_windows_anywhere_are_those_of_zoneinfo(db):
    rows = list(random_rows())
    wrong = [(row[1:4], moment(row[5]).isoformat(), found) for row, found in zip(rows, windows(db, rows)) if found != window(*row)]
    assert not wrong, (len(wrong), wrong[:10])


def test_what_has_no_answer_has_none(db):
    """It neither fails nor goes on for ever."""
    assert windows(db, [("calendar", "day", None, "UTC", 0, None), ("calendar", None, None, "UTC", 0, 0)]) == [(None, None)] * 2


def test_windows_contain_their_instant_and_leave_no_gap(db):
    """Its first and last instants have the same window; the one before ends where it begins, the one after begins where it ends."""
    rows = list(random_rows())
    wrong = db.execute(
        f"""SELECT kind, period, seconds, tz, anchor::text, at::text, w.s::text, w.e::text {ROWS} {BOUNDS.format('at', 'w')}
        {BOUNDS.format('w.s', 'first')} {BOUNDS.format("w.e - interval '1 microsecond'", 'last')}
        {BOUNDS.format("w.s - interval '1 microsecond'", 'before')} {BOUNDS.format('w.e', 'after')}
        WHERE (w.s <= at AND at < w.e AND first = w AND last = w AND before.e = w.s AND after.s = w.e) IS NOT TRUE""",
        [list(column) for column in zip(*rows)]).fetchall()
    assert not wrong, (len(wrong), wrong[:10])


# -- opening

def budget(db, kind="calendar", period="day", seconds=None, tz="UTC", each=False, anchor=0):
    """A budget of one revision; its id."""
    made = db.execute(
        f"""WITH b AS (INSERT INTO budget (budget_id, revision, hard, thresholds, created_at, changed_at, config_version)
            VALUES (gen_random_uuid(), 1, true, '{{}}', now(), now(), 1) RETURNING id)
        INSERT INTO budget_revision (budget, revision, effective_from, scope, value, each, measure, window_kind, period, seconds,
            tz, anchor)
        SELECT id, 1, 'epoch', 'tag', %s, %s, 'raw', %s, %s, %s, %s, {AT.format('%s::bigint')} FROM b RETURNING budget""",
        (None if each else "acme", "tenant" if each else None, kind, period if kind == "calendar" else None, seconds, tz, anchor))
    return made.fetchone()["budget"]


def open_at(db, budget, at, value="acme", most=MOST):
    """The window that window_open says."""
    found = db.execute(f"""SELECT id, value, {US.format('window_start')} AS s, {US.format('window_end')} AS e
        FROM window_open(%s, 1, %s, {AT.format('%s::bigint')}, %s)""", (budget, value, at, most)).fetchone()
    assert found["s"] <= at and (found["e"] is None or at < found["e"])
    return found


def rows_of(db, budget, value="acme"):
    """Its windows by start."""
    return db.execute(f"""SELECT id, value, {US.format('window_start')} AS s, {US.format('window_end')} AS e FROM budget_window
        WHERE budget = %s AND value = %s ORDER BY window_start""", (budget, value)).fetchall()


def resets(db, budget, value="acme"):
    """(at, closed, opened) of each of its resets, by time."""
    found = db.execute(f"""SELECT {US.format('at')} AS at, closed, opened FROM budget_reset WHERE budget = %s AND value = %s
        ORDER BY budget_reset.at""", (budget, value)).fetchall()
    return [(row["at"], row["closed"], row["opened"]) for row in found]


def newest(db, budget, value="acme"):
    """Id of its newest window and when that one is rolled, None for never."""
    found = db.execute(f"SELECT newest, {US.format('roll_at')} AS roll_at FROM budget_value WHERE budget = %s AND value = %s",
                       (budget, value)).fetchone()
    return found["newest"], found["roll_at"]


def value_count(db, budget):
    return db.execute("SELECT value_count FROM budget_revision WHERE budget = %s", (budget,)).fetchone()["value_count"]


def check_chain(db, budget, value="acme"):
    """Its windows do not overlap, each but the first has one reset, that names the one before, and the last one is the newest."""
    there = rows_of(db, budget, value)
    pairs = list(itertools.pairwise(there))
    assert all(a["s"] < a["e"] <= b["s"] for a, b in pairs)
    assert resets(db, budget, value) == [(b["s"], a["id"], b["id"]) for a, b in pairs]
    assert newest(db, budget, value)[0] == there[-1]["id"]
    return there


D = us("2024-06-03")  # a Monday


def test_two_instants_of_a_window_are_in_one_row(db):
    one = budget(db)
    first, again, last = (open_at(db, one, at) for at in (D + HOUR, D, D + DAY - 1))
    assert first == again == last and (first["s"], first["e"]) == (D, D + DAY)
    assert check_chain(db, one) == [first] and newest(db, one) == (first["id"], D + DAY) and value_count(db, one) == 1


def test_the_next_window_writes_one_reset(db):
    one = budget(db)
    first = open_at(db, one, D)
    second = open_at(db, one, D + DAY)
    assert open_at(db, one, D + DAY + 1) == second and open_at(db, one, D + 1) == first
    assert resets(db, one) == [(D + DAY, first["id"], second["id"])]
    why = db.execute("SELECT actor, reason FROM budget_reset WHERE budget = %s", (one,)).fetchone()
    assert why == {"actor": "clock", "reason": "its window ended"}
    assert newest(db, one) == (second["id"], D + 2 * DAY) and value_count(db, one) == 1


def test_days_that_nobody_used_have_no_window(db):
    one = budget(db)
    first, later = open_at(db, one, D), open_at(db, one, D + 5 * DAY)
    assert check_chain(db, one) == [first, later]


def test_a_window_opened_late_comes_between_two_others(db):
    one = budget(db)
    first, third = open_at(db, one, D), open_at(db, one, D + 2 * DAY)
    second = open_at(db, one, D + DAY + 5)
    assert (second["s"], second["e"]) == (D + DAY, D + 2 * DAY)
    assert resets(db, one) == [(D + DAY, first["id"], second["id"]), (D + 2 * DAY, second["id"], third["id"])]
    assert newest(db, one) == (third["id"], D + 3 * DAY)


def test_a_window_opened_late_comes_before_all_others(db):
    one = budget(db)
    second = open_at(db, one, D + DAY)
    first = open_at(db, one, D)
    assert resets(db, one) == [(D + DAY, first["id"], second["id"])] and newest(db, one) == (second["id"], D + 2 * DAY)


def test_a_lifetime_has_one_window(db):
    one = budget(db, "lifetime", anchor=D)
    first = open_at(db, one, D)
    assert open_at(db, one, D + 30 * 365 * DAY) == first and (first["s"], first["e"]) == (D, None)
    assert newest(db, one) == (first["id"], None) and resets(db, one) == []


def test_a_zone_s_windows_are_opened_by_its_clock(db):
    one = budget(db, tz="America/Havana")
    known = [[us(text) for text in row[2:]] for row in KNOWN if row[:2] == ("America/Havana", "day")]
    for at, _, _ in known:
        open_at(db, one, at)
    assert [(row["s"], row["e"]) for row in check_chain(db, one)] == [(start, end) for _, start, end in known]


def test_more_values_than_the_most_share_other(db):
    one = budget(db, each=True)
    own = [open_at(db, one, D, value, most=2) for value in ("a", "b")]
    others = [open_at(db, one, D, value, most=2) for value in ("c", "d", "c")]
    assert [row["value"] for row in own + others] == ["a", "b", "~other", "~other", "~other"]
    assert len({row["id"] for row in own}) == 2 and len({row["id"] for row in others}) == 1
    # on the next day as well, and whoever has a window of their own keeps it
    assert [open_at(db, one, D + DAY, value, most=2)["value"] for value in ("d", "b", "c")] == ["~other", "b", "~other"]
    assert len(check_chain(db, one, "~other")) == len(check_chain(db, one, "b")) == 2 and len(check_chain(db, one, "a")) == 1
    assert rows_of(db, one, "c") == rows_of(db, one, "d") == []
    # a limit that was raised lets new ones in
    assert open_at(db, one, D + DAY, "e", most=4)["value"] == "e"


def cut(db, budget, at, opens=True):
    """What a manual reset does to the window that `at` lies in: it ends there, and another one has the rest."""
    old = next(row for row in rows_of(db, budget) if row["s"] <= at < row["e"])
    db.execute(f"UPDATE budget_window SET window_end = {AT.format('%s::bigint')} WHERE id = %s", (at, old["id"]))
    if opens:
        made = db.execute(f"""INSERT INTO budget_window (budget, revision, value, window_start, window_end)
            VALUES (%s, 1, 'acme', {AT.format('%s::bigint')}, {AT.format('%s::bigint')}) RETURNING id""", (budget, at, old["e"]))
        new = made.fetchone()["id"]
        db.execute("UPDATE budget_value SET newest = %s WHERE newest = %s", (new, old["id"]))
        db.execute("UPDATE budget_reset SET closed = %s WHERE closed = %s", (new, old["id"]))
        db.execute(f"""INSERT INTO budget_reset (budget, revision, value, at, closed, opened, actor, reason)
            VALUES (%s, 1, 'acme', {AT.format('%s::bigint')}, %s, %s, 'ann', 'a new contract')""", (budget, at, old["id"], new))


def test_a_manual_reset_clips_a_window(db):
    one, t = budget(db), D + 7 * HOUR
    whole = open_at(db, one, D)
    cut(db, one, t)
    before, after = open_at(db, one, t - 1), open_at(db, one, t)
    assert before["id"] == whole["id"] and (before["s"], before["e"], after["s"], after["e"]) == (D, t, t, D + DAY)
    assert open_at(db, one, D + DAY - 1) == after
    following = open_at(db, one, D + DAY)
    assert check_chain(db, one) == [before, after, following]
    told = db.execute("SELECT actor FROM budget_reset WHERE budget = %s ORDER BY at", (one,)).fetchall()
    assert [row["actor"] for row in told] == ["ann", "clock"]


def test_a_clipped_window_without_a_next_one_gets_it_from_the_cut_on(db):
    one, t = budget(db), D + 7 * HOUR
    open_at(db, one, D)
    cut(db, one, t, opens=False)
    rest = open_at(db, one, t + HOUR)
    assert (rest["s"], rest["e"]) == (t, D + DAY) and len(check_chain(db, one)) == 2
    assert open_at(db, one, t) == rest and open_at(db, one, t - 1)["e"] == t


def test_a_zone_whose_rules_change_makes_no_overlap(db):
    """As when the time zones of Postgres are updated: what is opened from then on fits between what is there."""
    one = budget(db)
    for at in (D, D + 2 * DAY):
        open_at(db, one, at)
    db.execute("UPDATE budget_revision SET tz = 'Asia/Kolkata' WHERE budget = %s", (one,))
    ends = D + 2 * DAY - 5 * HOUR - HOUR // 2
    assert [(row["s"], row["e"]) for row in (open_at(db, one, at) for at in (D + DAY, ends))] == [(D + DAY, ends), (ends, D + 2 * DAY)]
    assert len(check_chain(db, one)) == 4


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("how", [{"tz": "America/Havana"}, {"kind": "interval", "seconds": 20000, "anchor": D + 123457}],
                         ids=["calendar", "interval"])
def test_windows_opened_in_any_order_make_one_chain(db, how, seed):
    chance, one = random.Random(seed), budget(db, **how)
    for _ in range(100):
        at = us("2024-03-01") + chance.randrange(20 * DAY)
        if open_at(db, one, at)["s"] < at and chance.random() < 0.1:
            cut(db, one, at)
    assert len(check_chain(db, one)) > 20 and value_count(db, one) == 1


# -- two at a time

@contextlib.contextmanager
def two_sessions(stack):
    """run(call_of_the_first, call_of_the_second): both get a session, start together, and what they say."""
    barrier = threading.Barrier(2)

    def at_once(db, call):
        barrier.wait(30)
        return call(db)

    with connect(stack) as one, connect(stack) as other, concurrent.futures.ThreadPoolExecutor(2) as pool:
        yield lambda *calls: [done.result(60) for done in [pool.submit(at_once, db, call) for db, call in zip((one, other), calls)]]


def test_two_that_open_one_window_get_one_row(stack, db):
    one, rounds = budget(db), 200
    with two_sessions(stack) as run:
        for n in range(rounds):
            first, second = run(*[lambda db, n=n: open_at(db, one, D + n * DAY)] * 2)
            assert first == second
    assert len(check_chain(db, one)) == rounds and value_count(db, one) == 1


def test_two_that_open_neighbours_make_one_chain(stack, db):
    one, days = budget(db), list(range(200))
    random.Random(5).shuffle(days)
    with two_sessions(stack) as run:
        for a, b in zip(days[::2], days[1::2]):
            run(lambda db, n=a: open_at(db, one, D + n * DAY), lambda db, n=b: open_at(db, one, D + n * DAY))
    assert len(check_chain(db, one)) == len(days) and value_count(db, one) == 1


def test_the_last_place_goes_to_one_of_two_values(stack, db):
    with two_sessions(stack) as run:
        for n in range(60):
            one = budget(db, each=True)
            open_at(db, one, D, "a", most=2)
            said = run(*[lambda db, v=v, one=one: open_at(db, one, D, v, most=2)["value"] for v in ("b", "c")])
            assert sorted(said) in (["b", "~other"], ["c", "~other"]), n


def blocked(db, pid):
    return db.execute("SELECT wait_event_type = 'Lock' AS waits FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone()["waits"]


def test_the_second_waits_for_the_first_and_finds_its_window(stack, db):
    one = budget(db)
    with connect(stack) as other, concurrent.futures.ThreadPoolExecutor(1) as pool:
        with db.transaction():
            first = open_at(db, one, D)
            second = pool.submit(open_at, other, one, D + HOUR)
            wait_until(lambda: blocked(db, other.info.backend_pid), 20, "the second waits")
        assert second.result(20) == first
    assert len(rows_of(db, one)) == 1


# -- rolling

@pytest.fixture
def quiet(db):
    """A session, and nothing of other tests is due."""
    db.execute("UPDATE budget_value SET roll_at = 'infinity'")
    return db


def roll(db, most=MOST):
    return [row["id"] for row in db.execute("SELECT window_roll(%s) AS id", (most,)).fetchall()]


def now(db):
    return db.execute(f"SELECT {US.format('clock_timestamp()')} AS us").fetchone()["us"]


def hours_ago(db, hours, value="acme", **how):
    """A budget by the hour whose first window began so many and a half hours ago, and that window."""
    start = now(db) - hours * HOUR - HOUR // 2
    one = budget(db, "interval", seconds=3600, anchor=start, **how)
    return one, open_at(db, one, start, value)


def spend(db, window, column="spent_nanos"):
    db.execute(f"UPDATE budget_window SET {column} = 5 WHERE id = %s", (window["id"],))


def test_an_idle_budget_rolls_through_its_windows(quiet):
    one, first = hours_ago(quiet, 3)
    opened = [roll(quiet) for _ in range(5)]
    there = check_chain(quiet, one)
    assert opened == [[row["id"]] for row in there[1:]] + [[], []] and len(there) == 4
    assert [row["s"] for row in there] == [first["s"] + n * HOUR for n in range(4)]
    assert len(resets(quiet, one)) == 3 and newest(quiet, one) == (there[-1]["id"], there[-1]["e"])


def test_a_calendar_rolls_by_its_clock(quiet):
    one = budget(quiet, period="hour", tz="Pacific/Chatham")
    first = open_at(quiet, one, now(quiet) - HOUR)
    assert len(roll(quiet)) == 1
    second = check_chain(quiet, one)[1]
    assert (second["s"], second["e"]) == calendar_window("hour", "Pacific/Chatham", first["e"])


@pytest.mark.parametrize("column", ["spent_nanos", "held_nanos"])
def test_each_stops_without_spend_and_begins_again_when_used(quiet, column):
    one, first = hours_ago(quiet, 3, "a", each=True)
    spend(quiet, first, column)
    second, = roll(quiet)  # there was something to be reset
    assert roll(quiet) == roll(quiet) == [] and newest(quiet, one, "a") == (second, None)
    used = open_at(quiet, one, now(quiet), "a")
    assert newest(quiet, one, "a") == (used["id"], used["e"]) and used["s"] == first["s"] + 3 * HOUR
    assert len(check_chain(quiet, one, "a")) == 3 and len(resets(quiet, one, "a")) == 2


def test_a_revision_that_is_over_rolls_no_more(quiet):
    one, first = hours_ago(quiet, 3)
    quiet.execute(f"UPDATE budget_revision SET effective_to = {AT.format('%s::bigint')} WHERE budget = %s", (first["e"] + 1, one))
    assert len(roll(quiet)) == 1 and roll(quiet) == []  # it was in force when its second window began
    assert newest(quiet, one)[1] is None and len(check_chain(quiet, one)) == 2


def test_the_oldest_are_rolled_first(quiet):
    made = {hours: hours_ago(quiet, hours)[0] for hours in (2, 5, 3)}

    def rolled(most):
        opened = set(roll(quiet, most))
        return {hours for hours, one in made.items() if newest(quiet, one)[0] in opened}

    assert [rolled(1), rolled(1), rolled(2)] == [{5}, {5}, {3, 5}]  # what is rolled once is due an hour later


def test_two_that_roll_at_once_roll_each_once(stack, quiet):
    made = [hours_ago(quiet, 4)[0] for _ in range(8)]
    with two_sessions(stack) as run:
        for _ in range(6):
            run(roll, roll)
    assert [len(check_chain(quiet, one)) for one in made] == [5] * len(made)


def meet(stack, db, first, then):
    """A roll in another session comes upon what `first` has locked in this one, which then goes on with `then`."""
    with connect(stack) as other, concurrent.futures.ThreadPoolExecutor(1) as pool:
        with db.transaction():
            first()
            rolled = pool.submit(roll, other)
            wait_until(lambda: blocked(db, other.info.backend_pid), 20, "the roll waits")
            then()
        rolled.result(20)


def test_a_roll_locks_budgets_in_the_order_of_those_that_open_windows(stack, quiet):
    """Who opens windows goes by budget; a roll that went by time met it in a circle, at a midnight that ended many of them."""
    (low, _), (high, _) = hours_ago(quiet, 1), hours_ago(quiet, 2)
    at = now(quiet)
    meet(stack, quiet, lambda: open_at(quiet, low, at), lambda: open_at(quiet, high, at))
    assert len(check_chain(quiet, low)) == 2 and len(check_chain(quiet, high)) in (2, 3)


def test_a_roll_locks_the_budget_of_an_idle_value_too(stack, quiet):
    """It took the idle value first, then waited for the budget, whose holder wanted the value."""
    one, _ = hours_ago(quiet, 3, "a", each=True)
    spend(quiet, open_at(quiet, one, now(quiet) - 2 * HOUR, "b"))
    at, used = now(quiet), {}
    meet(stack, quiet, lambda: open_at(quiet, one, at, "c"), lambda: used.update(open_at(quiet, one, at, "a")))
    assert newest(quiet, one, "a") == (used["id"], used["e"])  # it is used again, so it rolls again
    assert len(check_chain(quiet, one, "a")) == 2 and len(check_chain(quiet, one, "b")) == 2
