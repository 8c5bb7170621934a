-- Budgets. What a budget is about (scope, value, measure, window) is its revision: another one begins anew, limit, mode
-- and thresholds can change without. Spend and holds live in a row keyed by its window, so a reset is a row more:
-- nothing is ever set back. Nothing here rounds: amounts are added, that is all.

CREATE TABLE budget (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    budget_id text NOT NULL UNIQUE,
    revision int NOT NULL,            -- in force
    limit_nanos bigint CHECK (limit_nanos >= 0),  -- null: none; 0: nothing passes
    hard boolean NOT NULL,            -- false: shadow, it only counts and says
    thresholds int[] NOT NULL,        -- percent of the limit, ascending
    created_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    config_version bigint NOT NULL
);
CREATE INDEX budget_config ON budget (config_version);

CREATE TABLE budget_revision (
    budget bigint NOT NULL REFERENCES budget,
    revision int NOT NULL,            -- 1, 2, 3 ..
    effective_from timestamptz NOT NULL,  -- calls admitted from then on count, up to the next revision's
    effective_to timestamptz NOT NULL DEFAULT 'infinity',
    scope text NOT NULL,              -- enum scope_kind
    value text,                       -- null: each
    each text,                        -- of tags: the key of those that count; of any other scope: its name
    measure text NOT NULL CHECK (measure IN ('raw', 'billed')),
    window_kind text NOT NULL CHECK (window_kind IN ('lifetime', 'calendar', 'interval')),
    period text CHECK (period IN ('hour', 'day', 'week', 'month', 'quarter', 'year')),
    seconds bigint CHECK (seconds > 0),
    tz text NOT NULL DEFAULT 'UTC',   -- of calendar; of all others what the reader sees
    anchor timestamptz NOT NULL,      -- of interval; what leaves it out: the day it was made
    value_count bigint NOT NULL DEFAULT 0,  -- rows of budget_value
    PRIMARY KEY (budget, revision),
    CHECK ((value IS NULL) <> (each IS NULL)),
    CHECK ((window_kind = 'calendar') = (period IS NOT NULL) AND (window_kind = 'interval') = (seconds IS NOT NULL))
);

-- One row a window: [window_start, window_end). lifetime ends at infinity. The end changes once at most: a manual reset.
CREATE TABLE budget_window (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    budget bigint NOT NULL,
    revision int NOT NULL,
    value text NOT NULL,              -- of `each`: which one, or ~other; else the budget's
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    spent_nanos bigint NOT NULL DEFAULT 0,
    held_nanos bigint NOT NULL DEFAULT 0,
    ungated_nanos bigint NOT NULL DEFAULT 0,  -- of spent: what no hold stood for
    away_nanos bigint NOT NULL DEFAULT 0,     -- of spent: what was let through while the ledger was away
    version bigint NOT NULL DEFAULT 0,
    last_matched_at timestamptz,
    UNIQUE (budget, revision, value, window_start)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0);

-- Every value that a revision has seen, and its newest window.
CREATE TABLE budget_value (
    budget bigint NOT NULL,
    revision int NOT NULL,
    value text NOT NULL,
    newest bigint NOT NULL,           -- budget_window.id
    roll_at timestamptz NOT NULL,     -- when the next window is opened although nothing happens; infinity: never
    PRIMARY KEY (budget, revision, value)
);
CREATE INDEX budget_value_roll ON budget_value (roll_at) WHERE roll_at < 'infinity';

-- One row a window after the first, whoever opened it: what it took the place of, and why.
CREATE TABLE budget_reset (
    budget bigint NOT NULL,
    revision int NOT NULL,
    value text NOT NULL,
    at timestamptz NOT NULL,          -- where the new window begins
    closed bigint NOT NULL,           -- budget_window.id of the one before it
    opened bigint NOT NULL,           -- .. and its own
    actor text NOT NULL,              -- clock, or who asked for it
    reason text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (budget, revision, value, at)
);

-- The window that `at` lies in: its start is the greatest boundary <= at, its end the next one. Of a calendar these are
-- the local times 00:00 (or :00) of the periods; one that comes twice is the second, as Postgres reads it; one that does not
-- exist is the instant of the change, so boundaries are compared as instants, from the local next one backwards. Postgres reads
-- what does not exist by the clock before, which is late when the change is not at :00 (Chatham's 02:45 leaves out 03:00):
-- then the minute of the change is looked for.
CREATE FUNCTION window_bounds(window_kind text, period text, seconds bigint, tz text, anchor timestamptz, at timestamptz,
    OUT window_start timestamptz, OUT window_end timestamptz) LANGUAGE plpgsql STABLE AS $$
DECLARE
    step interval;
    next timestamp;
    n numeric;
    b timestamptz;
BEGIN
    IF window_kind = 'lifetime' THEN
        window_start := anchor;
        window_end := 'infinity';
    ELSIF window_kind = 'interval' THEN
        n := floor((extract(epoch FROM at) - extract(epoch FROM anchor)) / seconds);
        window_start := anchor + (n * seconds)::float8 * interval '1 second';  -- exact: micros below 2^53
        window_end := window_start + seconds * interval '1 second';
    ELSE
        step := CASE period WHEN 'quarter' THEN interval '3 months' ELSE ('1 ' || period)::interval END;
        next := date_trunc(period, at AT TIME ZONE tz) + step;
        LOOP
            b := next AT TIME ZONE tz;
            IF b AT TIME ZONE tz <> next AND (b - interval '1 microsecond') AT TIME ZONE tz >= next THEN
                SELECT min(m) INTO b FROM generate_series(b - interval '24 hours', b, interval '1 minute') AS m
                WHERE m AT TIME ZONE tz >= next;
            END IF;
            EXIT WHEN (b > at) IS NOT TRUE;  -- also of what is null
            window_end := b;
            next := next - step;
        END LOOP;
        window_start := b;
    END IF;
END $$;

-- The window of a value that `at` lies in, opened when it is not there. More values than `most`: ~other. Its own
-- transaction, before the one that charges it: the lock on the revision keeps two from opening one, or two that overlap.
CREATE FUNCTION window_open(budget bigint, revision int, wanted text, at timestamptz, most bigint, OUT id bigint,
    OUT value text, OUT window_start timestamptz, OUT window_end timestamptz) LANGUAGE plpgsql
SET search_path = spend, pg_temp AS $$
#variable_conflict use_column
DECLARE
    r budget_revision;
    before budget_window;
    after budget_window;
    is_new boolean;
BEGIN
    value := wanted;
    SELECT w.id, w.window_start, w.window_end INTO id, window_start, window_end FROM budget_window AS w
    WHERE w.budget = window_open.budget AND w.revision = window_open.revision AND w.value = wanted
        AND w.window_start <= at ORDER BY w.window_start DESC LIMIT 1;
    IF id IS NOT NULL AND window_open.window_end > at THEN
        RETURN;
    END IF;
    SELECT * INTO STRICT r FROM budget_revision AS b
    WHERE b.budget = window_open.budget AND b.revision = window_open.revision FOR UPDATE;
    is_new := NOT EXISTS (SELECT FROM budget_value AS v WHERE v.budget = r.budget AND v.revision = r.revision
        AND v.value = wanted);
    IF is_new AND r.value_count >= most THEN
        value := '~other';
        is_new := NOT EXISTS (SELECT FROM budget_value AS v WHERE v.budget = r.budget AND v.revision = r.revision
            AND v.value = '~other');
    END IF;
    SELECT * INTO before FROM budget_window AS w WHERE w.budget = r.budget AND w.revision = r.revision
        AND w.value = window_open.value AND w.window_start <= at ORDER BY w.window_start DESC LIMIT 1;
    IF before.window_end > at THEN  -- somebody was first
        id := before.id;
        window_start := before.window_start;
        window_end := before.window_end;
        RETURN;
    END IF;
    SELECT * INTO after FROM budget_window AS w WHERE w.budget = r.budget AND w.revision = r.revision
        AND w.value = window_open.value AND w.window_start > at ORDER BY w.window_start LIMIT 1;
    SELECT b.window_start, b.window_end INTO window_start, window_end
    FROM window_bounds(r.window_kind, r.period, r.seconds, r.tz, r.anchor, at) AS b;
    window_start := greatest(window_start, before.window_end);
    window_end := least(window_end, after.window_start);
    INSERT INTO budget_window AS w (budget, revision, value, window_start, window_end)
    VALUES (r.budget, r.revision, window_open.value, window_open.window_start, window_open.window_end)
    RETURNING w.id INTO id;
    IF is_new THEN
        UPDATE budget_revision AS b SET value_count = b.value_count + 1
        WHERE b.budget = r.budget AND b.revision = r.revision;
    END IF;
    INSERT INTO budget_value AS v (budget, revision, value, newest, roll_at)
    VALUES (r.budget, r.revision, window_open.value, window_open.id, window_open.window_end)
    ON CONFLICT (budget, revision, value) DO UPDATE SET newest = excluded.newest, roll_at = excluded.roll_at
    WHERE after.id IS NULL;
    INSERT INTO outbox (windows) SELECT ARRAY[window_open.id] WHERE after.id IS NULL;
    -- what is opened late may be older than one that is there
    INSERT INTO budget_reset (budget, revision, value, at, closed, opened, actor, reason)
    SELECT r.budget, r.revision, window_open.value, x.at, x.closed, x.opened, 'clock', 'its window ended'
    FROM (VALUES (window_open.window_start, before.id, window_open.id), (after.window_start, window_open.id, after.id))
        AS x (at, closed, opened)
    WHERE x.closed IS NOT NULL AND x.opened IS NOT NULL
    ON CONFLICT ON CONSTRAINT budget_reset_pkey DO UPDATE SET closed = excluded.closed;
END $$;

-- Opens the windows that are due although nothing happens, oldest first, so a reset shows on an idle budget: of every
-- value of a revision in force, but of `each` only while there is something to be reset. Returns the windows opened.
-- Locks revisions in order, and each before its values, as whoever opens windows does.
CREATE FUNCTION window_roll(most int) RETURNS SETOF bigint LANGUAGE plpgsql SET search_path = spend, pg_temp AS $$
DECLARE
    v record;
BEGIN
    FOR v IN SELECT * FROM (
        SELECT x.budget, x.revision, x.value, x.roll_at, r.value IS NULL AND w.spent_nanos = 0 AND w.held_nanos = 0 AS idle,
            r.effective_to <= x.roll_at AS over
        FROM budget_value AS x
        JOIN budget_revision AS r ON r.budget = x.budget AND r.revision = x.revision
        JOIN budget_window AS w ON w.id = x.newest
        WHERE x.roll_at <= clock_timestamp() ORDER BY x.roll_at LIMIT most
        ) AS due ORDER BY due.budget, due.revision, due.value
    LOOP
        IF v.idle OR v.over THEN
            PERFORM FROM budget_revision AS r WHERE r.budget = v.budget AND r.revision = v.revision FOR UPDATE;
            UPDATE budget_value AS x SET roll_at = 'infinity'
            WHERE x.budget = v.budget AND x.revision = v.revision AND x.value = v.value AND x.roll_at = v.roll_at;
        ELSE
            RETURN QUERY SELECT o.id FROM window_open(v.budget, v.revision, v.value, v.roll_at, 9223372036854775807) AS o;
        END IF;
    END LOOP;
END $$;

-- Windows whose state is to be published: their rows' state when they are read, which is never older.
ALTER TABLE outbox ADD COLUMN windows bigint[];
ALTER TABLE outbox ALTER windows SET STORAGE EXTERNAL;
ALTER TABLE outbox DROP CONSTRAINT outbox_check;
ALTER TABLE outbox ADD CONSTRAINT outbox_check CHECK (num_nonnulls(accounts, topic, windows) >= 1
    AND num_nonnulls(topic, windows) <= 1 AND num_nonnulls(topic, accounts) <= 1);

-- What a call was charged to: of budgets that measure raw, and of those that measure billed amounts.
ALTER TABLE call ADD COLUMN windows_raw bigint[] NOT NULL DEFAULT '{}', ADD COLUMN windows_billed bigint[] NOT NULL DEFAULT '{}';

-- The last statement of a batch before COMMIT: adds up what was spent, locked in order of id, since the gate waits for
-- these rows. latest: when the last call of each was admitted, of those that it counts in from now on; a window that ended
-- at or before it was closed by hand meanwhile: SP001, nothing is charged, map again.
CREATE FUNCTION window_charge(ids bigint[], spent bigint[], held bigint[], ungated bigint[], latest timestamptz[])
RETURNS void LANGUAGE plpgsql SET search_path = spend, pg_temp AS $$
DECLARE
    n bigint;
BEGIN
    PERFORM FROM budget_window AS w WHERE w.id = ANY (ids) ORDER BY w.id FOR UPDATE;
    UPDATE budget_window AS w SET spent_nanos = w.spent_nanos + x.spent, held_nanos = w.held_nanos + x.held,
        ungated_nanos = w.ungated_nanos + x.ungated, version = w.version + 1,
        last_matched_at = greatest(w.last_matched_at, nullif(x.latest, 'epoch'))
    FROM unnest(ids, spent, held, ungated, latest) AS x (id, spent, held, ungated, latest)
    WHERE w.id = x.id AND w.window_end > x.latest;
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n <> cardinality(ids) THEN
        RAISE EXCEPTION 'a window ended meanwhile' USING ERRCODE = 'SP001';
    END IF;
END $$;

-- Makes a budget, or changes it, inside the transaction of config_begin(). What it is about, its measure and its window
-- make a revision: another one begins to count at recorded_at, with nothing spent. anchor null: what stands, else recorded_at.
CREATE FUNCTION budget_put(budget_id text, scope text, value text, each text, limit_nanos bigint, measure text,
    window_kind text, period text, seconds bigint, tz text, anchor timestamptz, hard boolean, thresholds int[],
    recorded_at timestamptz, config_version bigint) RETURNS boolean LANGUAGE plpgsql
SET search_path = spend, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    b budget;
    r budget_revision;
    is_same boolean := false;
BEGIN
    SELECT * INTO b FROM budget AS x WHERE x.budget_id = budget_put.budget_id FOR UPDATE;
    IF b.id IS NULL THEN
        INSERT INTO budget AS x (budget_id, revision, limit_nanos, hard, thresholds, created_at, changed_at, config_version)
        VALUES (budget_id, 0, limit_nanos, hard, thresholds, recorded_at, recorded_at, config_version) RETURNING * INTO b;
    ELSE
        SELECT * INTO r FROM budget_revision AS x WHERE x.budget = b.id AND x.revision = b.revision FOR UPDATE;
        is_same := (r.scope, r.value, r.each, r.measure, r.window_kind, r.period, r.seconds, r.tz)
            IS NOT DISTINCT FROM (scope, value, each, measure, window_kind, period, seconds,
                CASE window_kind WHEN 'calendar' THEN tz ELSE r.tz END)
            AND (window_kind <> 'interval' OR anchor IS NULL OR r.anchor = anchor);
    END IF;
    IF is_same AND (b.limit_nanos, b.hard, b.thresholds) IS NOT DISTINCT FROM (limit_nanos, hard, thresholds)
        AND r.tz = tz THEN
        RETURN false;
    END IF;
    UPDATE budget_revision AS x SET tz = budget_put.tz WHERE is_same AND x.budget = b.id AND x.revision = b.revision;
    UPDATE budget AS x SET limit_nanos = budget_put.limit_nanos, hard = budget_put.hard, thresholds = budget_put.thresholds,
        changed_at = recorded_at, config_version = budget_put.config_version,
        revision = x.revision + CASE WHEN is_same THEN 0 ELSE 1 END
    WHERE x.id = b.id RETURNING * INTO b;
    IF NOT is_same THEN
        UPDATE budget_revision AS x SET effective_to = recorded_at WHERE x.budget = b.id AND x.revision = b.revision - 1;
        INSERT INTO budget_revision AS x (budget, revision, effective_from, scope, value, each, measure, window_kind,
            period, seconds, tz, anchor)
        VALUES (b.id, b.revision, recorded_at, scope, value, each, measure, window_kind, period, seconds, tz,
            CASE window_kind WHEN 'interval' THEN coalesce(anchor, recorded_at) ELSE recorded_at END);
        PERFORM FROM window_open(b.id, b.revision, value, recorded_at, 9223372036854775807) WHERE value IS NOT NULL;
    END IF;
    INSERT INTO outbox (windows) SELECT array_agg(v.newest) FROM budget_value AS v
    WHERE v.budget = b.id AND v.revision = b.revision HAVING count(*) > 0;
    RETURN true;
END $$;

-- Closes the window of now and opens the rest of it anew: nothing is set back. No row: there is no such budget, or it has
-- no such value.
CREATE FUNCTION budget_reset(budget_id text, wanted text, actor text, reason text) RETURNS SETOF bigint LANGUAGE plpgsql
SET search_path = spend, pg_temp AS $$
DECLARE
    r budget_revision;
    w budget_window;
    at timestamptz;
    opened bigint;
BEGIN
    SELECT x.* INTO r FROM budget AS b JOIN budget_revision AS x ON x.budget = b.id AND x.revision = b.revision
    WHERE b.budget_id = budget_reset.budget_id FOR UPDATE OF x;
    IF r.budget IS NULL OR coalesce(r.value, wanted) IS NULL OR r.value <> wanted OR NOT EXISTS (SELECT FROM budget_value AS v
        WHERE v.budget = r.budget AND v.revision = r.revision AND v.value = coalesce(r.value, wanted)) THEN
        RETURN;
    END IF;
    SELECT o.id INTO opened FROM window_open(r.budget, r.revision, coalesce(r.value, wanted), clock_timestamp(), 0) AS o;
    SELECT * INTO w FROM budget_window AS x WHERE x.id = opened FOR UPDATE;  -- a statement of its own sees a new one
    at := greatest(clock_timestamp(), w.window_start + interval '1 us');  -- under the lock: what it has was admitted before
    INSERT INTO budget_window AS x (budget, revision, value, window_start, window_end)
    VALUES (w.budget, w.revision, w.value, at, greatest(w.window_end, at + interval '1 us')) RETURNING x.id INTO opened;
    UPDATE budget_window AS x SET window_end = at, version = x.version + 1 WHERE x.id = w.id;
    UPDATE budget_value AS v SET newest = opened WHERE v.budget = w.budget AND v.revision = w.revision AND v.value = w.value;
    INSERT INTO budget_reset AS x (budget, revision, value, at, closed, opened, actor, reason)
    VALUES (w.budget, w.revision, w.value, at, w.id, opened, budget_reset.actor, budget_reset.reason);
    INSERT INTO outbox (windows) VALUES (ARRAY[opened]);
    RETURN NEXT opened;
END $$;

-- A budget and its windows: a row for each value with its newest window, and of `each` one row without. is_whole: the one
-- that stands for the budget.
CREATE VIEW budget_json AS
SELECT b.budget_id AS id, v.value, v.value IS NOT DISTINCT FROM r.value AS is_whole, json_build_object('budget_id',
    b.budget_id, 'scope', r.scope, 'value', coalesce(r.value, v.value), 'each', r.each, 'limit', usd(b.limit_nanos),
    'measure', r.measure, 'mode', CASE WHEN b.hard THEN 'hard' ELSE 'shadow' END, 'thresholds', b.thresholds, 'window',
    json_build_object('kind', r.window_kind, 'period', r.period, 'seconds', r.seconds, 'tz', r.tz, 'anchor',
        CASE r.window_kind WHEN 'interval' THEN rfc3339(r.anchor) END),
    'revision', b.revision, 'window_start', rfc3339(w.window_start), 'window_end', rfc3339(nullif(w.window_end, 'infinity')),
    'spent', usd(w.spent_nanos), 'held', usd(w.held_nanos), 'remaining', usd(b.limit_nanos - w.spent_nanos - w.held_nanos),
    'ungated', usd(w.ungated_nanos), 'last_matched_at', rfc3339((SELECT max(x.last_matched_at) FROM budget_window AS x
        WHERE x.budget = b.id AND x.revision = b.revision AND x.value = v.value)), 'values', r.value_count,
    'created_at', rfc3339(b.created_at), 'changed_at', rfc3339(b.changed_at)) AS json
FROM budget AS b
JOIN budget_revision AS r ON r.budget = b.id AND r.revision = b.revision
CROSS JOIN LATERAL (SELECT x.value, x.newest FROM budget_value AS x WHERE x.budget = b.id AND x.revision = b.revision
    UNION ALL SELECT NULL, NULL WHERE r.value IS NULL) AS v
LEFT JOIN budget_window AS w ON w.id = v.newest;

-- One value in its window of now, which is opened if it is due. No row: nothing has had that value.
CREATE FUNCTION budget_now(budget_id text, value text) RETURNS SETOF json LANGUAGE plpgsql
SET search_path = spend, pg_temp AS $$
BEGIN
    PERFORM FROM budget AS b
    JOIN budget_value AS v ON v.budget = b.id AND v.revision = b.revision AND v.value = budget_now.value
    CROSS JOIN LATERAL window_open(v.budget, v.revision, v.value, clock_timestamp(), 0)
    WHERE b.budget_id = budget_now.budget_id;
    RETURN QUERY SELECT j.json FROM budget_json AS j WHERE j.id = budget_now.budget_id AND j.value = budget_now.value;
END $$;

-- What a window was when it was closed: its spend is what it is now, for calls settle later.
CREATE VIEW budget_reset_json AS
SELECT b.budget_id AS id, rfc3339(x.at) || ' ' || x.revision || ' ' || x.value AS key, json_build_object('value', x.value,
    'revision', x.revision, 'window_start', rfc3339(w.window_start), 'window_end', rfc3339(w.window_end), 'spent',
    usd(w.spent_nanos), 'held', usd(w.held_nanos), 'actor', x.actor, 'reason', x.reason, 'recorded_at',
    rfc3339(x.recorded_at)) AS json
FROM budget_reset AS x
JOIN budget AS b ON b.id = x.budget
JOIN budget_window AS w ON w.id = x.closed;

-- The windows that a call was charged to, for call_json, whose text is otherwise as it was.
CREATE FUNCTION call_windows(windows_raw bigint[], windows_billed bigint[]) RETURNS json LANGUAGE sql STABLE AS $$
SELECT coalesce(json_agg(json_build_object('budget_id', b.budget_id, 'scope', r.scope, 'value', w.value, 'measure', r.measure,
    'revision', w.revision, 'window_start', spend.rfc3339(w.window_start),
    'window_end', spend.rfc3339(nullif(w.window_end, 'infinity'))) ORDER BY b.budget_id, w.value), '[]')
FROM spend.budget_window AS w
JOIN spend.budget AS b ON b.id = w.budget
JOIN spend.budget_revision AS r ON r.budget = w.budget AND r.revision = w.revision
WHERE w.id = ANY (windows_raw || windows_billed)
$$;

DO $$
DECLARE
    old text := pg_get_viewdef('call_json'::regclass);
    new text := replace(old, '''[]''::json AS windows', 'call_windows(c.windows_raw, c.windows_billed) AS windows');
BEGIN
    IF new = old THEN
        RAISE EXCEPTION 'call_json is not the view that this migration knows';
    END IF;
    EXECUTE 'CREATE OR REPLACE VIEW call_json AS ' || new;
END $$;
