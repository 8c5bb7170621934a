-- The gate beside holds: what a repeat answers, what would be if it asked, and what nothing stood for.

ALTER TABLE hold ADD COLUMN priced boolean,  -- of the decision; null: none was made
    ADD COLUMN warnings jsonb;               -- shadow budgets that it took over their limit; blocking: also of forced
-- Nearly every change of a row is of what its indexes ask for: room kept beside it for its next version is of little use.
ALTER TABLE hold SET (fillfactor = 100);

-- What was answered about calls that something stood in the way of; those that are refused hold nothing.
CREATE FUNCTION hold_note(ids uuid[], refused int[], blocking text[], warnings text[]) RETURNS void LANGUAGE sql
SET search_path = spend, pg_temp AS $$
UPDATE hold AS h SET blocking = x.blocking::jsonb, warnings = x.warnings::jsonb,
    state = CASE x.refused WHEN 0 THEN h.state ELSE 'refused' END,
    raw_nanos = CASE x.refused WHEN 0 THEN h.raw_nanos ELSE 0 END,
    billed_nanos = CASE x.refused WHEN 0 THEN h.billed_nanos ELSE 0 END,
    windows_raw = CASE x.refused WHEN 0 THEN h.windows_raw ELSE '{}' END,
    windows_billed = CASE x.refused WHEN 0 THEN h.windows_billed ELSE '{}' END
FROM unnest(hold_note.ids, hold_note.refused, hold_note.blocking, hold_note.warnings) AS x (call_id, refused, blocking, warnings) WHERE h.call_id = x.call_id
$$;

-- The window of each value that `at` lies in, in their order, as the gate reads them; one that nobody has opened is empty
-- and has an id of its own below zero. Nothing is opened and nothing locked.
CREATE FUNCTION window_look(budgets bigint[], revisions int[], wanted text[], at timestamptz, most bigint)
RETURNS TABLE (id bigint, hard boolean, budget_id text, scope text, value text, window_start timestamptz,
    window_end timestamptz, limit_nanos bigint, spent_nanos bigint, held_nanos bigint) LANGUAGE sql STABLE
SET search_path = spend, pg_temp AS $$
SELECT coalesce(w.id, -x.n), b.hard, b.budget_id, r.scope, v.value, coalesce(w.window_start, n.window_start),
    nullif(coalesce(w.window_end, n.window_end), 'infinity'), b.limit_nanos, coalesce(w.spent_nanos, 0),
    coalesce(w.held_nanos, 0)
FROM unnest(budgets, revisions, wanted) WITH ORDINALITY AS x (budget, revision, value, n)
JOIN budget AS b ON b.id = x.budget
JOIN budget_revision AS r ON r.budget = x.budget AND r.revision = x.revision
CROSS JOIN LATERAL (SELECT CASE WHEN r.value_count < most OR r.value IS NOT NULL OR EXISTS (SELECT FROM budget_value AS y
    WHERE y.budget = x.budget AND y.revision = x.revision AND y.value = x.value) THEN x.value ELSE '~other' END AS value) AS v
LEFT JOIN LATERAL (SELECT * FROM budget_window AS y WHERE y.budget = x.budget AND y.revision = x.revision
    AND y.value = v.value AND y.window_start <= at ORDER BY y.window_start DESC LIMIT 1) AS w ON w.window_end > at
LEFT JOIN LATERAL (SELECT y.* FROM window_bounds(r.window_kind, r.period, r.seconds, r.tz, r.anchor, at) AS y
    WHERE w.id IS NULL) AS n ON true
ORDER BY x.n
$$;

-- What the gate let through of a call when it settled, and where: windows in which a hold stood for it, or all when
-- nobody could be asked (away). It only ever gets less; what a window has beyond it is ungated.
ALTER TABLE call ADD COLUMN gate_windows bigint[] NOT NULL DEFAULT '{}', ADD COLUMN gate_raw_nanos bigint,
    ADD COLUMN gate_billed_nanos bigint, ADD COLUMN gate_away boolean NOT NULL DEFAULT false;

-- Of calls that were charged before, nothing says what the gate let through.
UPDATE budget_window SET ungated_nanos = spent_nanos, away_nanos = 0 WHERE (ungated_nanos, away_nanos) <> (spent_nanos, 0);

DROP FUNCTION window_charge(bigint[], bigint[], bigint[], bigint[], timestamptz[]);

-- The last statement of a batch before COMMIT: adds up what was spent, locked in order of id, since the gate waits for
-- these rows. latest: when the last call of each was admitted, of those that it counts in from now on; a window that ended
-- at or before it was closed by hand meanwhile: SP001, nothing is charged, map again.
CREATE FUNCTION window_charge(ids bigint[], spent bigint[], held bigint[], ungated bigint[], away bigint[],
    latest timestamptz[]) RETURNS void LANGUAGE plpgsql SET search_path = spend, pg_temp AS $$
DECLARE
    n bigint;
BEGIN
    PERFORM FROM budget_window AS w WHERE w.id = ANY (ids) ORDER BY w.id FOR UPDATE;
    UPDATE budget_window AS w SET spent_nanos = w.spent_nanos + x.spent, held_nanos = w.held_nanos + x.held,
        ungated_nanos = w.ungated_nanos + x.ungated, away_nanos = w.away_nanos + x.away, version = w.version + 1,
        last_matched_at = greatest(w.last_matched_at, nullif(x.latest, 'epoch'))
    FROM unnest(ids, spent, held, ungated, away, latest) AS x (id, spent, held, ungated, away, latest)
    WHERE w.id = x.id AND w.window_end > x.latest;
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n <> cardinality(ids) THEN
        RAISE EXCEPTION 'a window ended meanwhile' USING ERRCODE = 'SP001';
    END IF;
END $$;

-- A budget and its windows: a row for each value in its window of now, which nobody need have opened, and of `each` one row
-- without. is_whole: the one that stands for the budget.
CREATE OR REPLACE VIEW budget_json AS
SELECT b.budget_id AS id, v.value, v.value IS NOT DISTINCT FROM r.value AS is_whole, json_build_object('budget_id',
    b.budget_id, 'scope', r.scope, 'value', coalesce(r.value, v.value), 'each', r.each, 'limit', usd(b.limit_nanos),
    'measure', r.measure, 'mode', CASE WHEN b.hard THEN 'hard' ELSE 'shadow' END, 'thresholds', b.thresholds, 'window',
    json_build_object('kind', r.window_kind, 'period', r.period, 'seconds', r.seconds, 'tz', r.tz, 'anchor',
        CASE r.window_kind WHEN 'interval' THEN rfc3339(r.anchor) END),
    'revision', b.revision, 'window_start', rfc3339(w.window_start), 'window_end', rfc3339(nullif(w.window_end, 'infinity')),
    'spent', usd(w.spent), 'held', usd(w.held), 'remaining', usd(b.limit_nanos - w.spent - w.held), 'threshold_crossed',
    w.crossed[cardinality(w.crossed)], 'ungated', usd(w.ungated), 'away', usd(w.away), 'last_matched_at', rfc3339((SELECT max(x.last_matched_at) FROM budget_window AS x
        WHERE x.budget = b.id AND x.revision = b.revision AND x.value = v.value)), 'values', r.value_count,
    'created_at', rfc3339(b.created_at), 'changed_at', rfc3339(b.changed_at)) AS json
FROM budget AS b
JOIN budget_revision AS r ON r.budget = b.id AND r.revision = b.revision
CROSS JOIN LATERAL (SELECT x.value, x.newest FROM budget_value AS x WHERE x.budget = b.id AND x.revision = b.revision
    UNION ALL SELECT NULL, NULL WHERE r.value IS NULL) AS v
LEFT JOIN LATERAL (SELECT y.window_start, y.window_end, y.spent_nanos AS spent, y.held_nanos AS held,
        y.ungated_nanos AS ungated, y.away_nanos AS away, y.thresholds_crossed AS crossed FROM budget_window AS y
    WHERE y.id = coalesce((SELECT z.id FROM budget_window AS z WHERE z.budget = b.id AND z.revision = b.revision
        AND z.value = v.value AND z.window_start <= statement_timestamp() ORDER BY z.window_start DESC LIMIT 1), v.newest)
    ) AS last ON true
LEFT JOIN LATERAL (SELECT greatest(y.window_start, last.window_end) AS window_start, y.window_end, 0::bigint AS spent,
        0::bigint AS held, 0::bigint AS ungated, 0::bigint AS away, '{}'::int[] AS crossed
    FROM window_bounds(r.window_kind, r.period, r.seconds, r.tz, r.anchor, statement_timestamp()) AS y
    WHERE last.window_end <= statement_timestamp()
    UNION ALL SELECT last.* WHERE last.window_end > statement_timestamp() LIMIT 1) AS w ON true;

-- What is true of holds now; a call whose gateway has told of it, with a price, is settled, whatever is left of its hold.
-- No row: nothing is known.
CREATE FUNCTION hold_states(ids uuid[]) RETURNS TABLE (call_id uuid, state text) LANGUAGE sql STABLE
SET search_path = spend, pg_temp AS $$
SELECT x.id, CASE WHEN c.call_id IS NULL THEN h.state ELSE 'settled' END FROM unnest(ids) AS x (id)
LEFT JOIN hold AS h ON h.call_id = x.id
LEFT JOIN call AS c ON c.call_id = x.id AND c.source = 'gateway' AND c.raw_nanos IS NOT NULL
WHERE h.call_id IS NOT NULL OR c.call_id IS NOT NULL ORDER BY x.id
$$;

-- A call that will not be, or not be billed: whatever comes for it later finds the tombstone.
CREATE OR REPLACE FUNCTION hold_void(ids uuid[]) RETURNS TABLE (call_id uuid, state text) LANGUAGE plpgsql
SET search_path = spend, pg_temp AS $$
BEGIN
    INSERT INTO hold AS h (call_id, state, admitted_at, expires_at)
    SELECT x, 'voided', clock_timestamp(), clock_timestamp() FROM unnest(ids) AS x ORDER BY x ON CONFLICT DO NOTHING;
    PERFORM FROM hold AS h WHERE h.call_id = ANY (ids) ORDER BY h.call_id FOR UPDATE;
    PERFORM hold_close(ids, 'voided');
    RETURN QUERY SELECT s.call_id, s.state FROM hold_states(ids) AS s;
END $$;

DROP FUNCTION hold_renew(uuid[], bigint);

CREATE FUNCTION hold_renew(ids uuid[], lifetime_us bigint) RETURNS TABLE (call_id uuid, state text) LANGUAGE plpgsql
SET search_path = spend, pg_temp AS $$
BEGIN
    PERFORM FROM hold AS h WHERE h.call_id = ANY (ids) ORDER BY h.call_id FOR UPDATE;
    UPDATE hold AS h SET expires_at = clock_timestamp() + lifetime_us * interval '1 us'
    WHERE h.call_id = ANY (ids) AND h.state = 'placed';
    RETURN QUERY SELECT s.call_id, s.state FROM hold_states(ids) AS s;
END $$;

-- When holds were last swept, by whichever ledger.
CREATE TABLE hold_sweep_run (
    is_one boolean PRIMARY KEY DEFAULT true CHECK (is_one),
    ran_at timestamptz NOT NULL,
    spare_until timestamptz NOT NULL DEFAULT '-infinity',  -- after an outage nothing expires before
    after_at timestamptz NOT NULL DEFAULT '-infinity',     -- where the next sweep goes on, behind those that somebody has
    after_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
);
INSERT INTO hold_sweep_run (ran_at) VALUES (clock_timestamp());

DROP FUNCTION hold_sweep(int);

-- Ends those that are open and gives back what they hold; the rows stay as tombstones. What is given back is of the very rows
-- that are closed, as one statement locks them: also of those that the caller had not locked.
CREATE OR REPLACE FUNCTION hold_close(ids uuid[], closed text) RETURNS bigint LANGUAGE plpgsql SET search_path = spend, pg_temp AS $$
DECLARE
    held record;
BEGIN
    WITH o AS MATERIALIZED (SELECT * FROM hold AS h WHERE h.call_id = ANY (ids) AND h.state IN ('placed', 'captured')
        ORDER BY h.call_id FOR UPDATE),
    done AS (UPDATE hold AS h SET state = closed, raw_nanos = 0, billed_nanos = 0, changed_at = clock_timestamp() FROM o
        WHERE h.call_id = o.call_id RETURNING h.call_id),
    owed AS (SELECT o.account, -o.billed_nanos AS nanos FROM o WHERE o.account IS NOT NULL),
    counted AS (SELECT unnest(o.windows_raw) AS id, -o.raw_nanos AS nanos FROM o
        UNION ALL SELECT unnest(o.windows_billed), -o.billed_nanos FROM o)
    SELECT ARRAY(SELECT account FROM owed) AS accounts, ARRAY(SELECT nanos FROM owed) AS amounts, ARRAY(SELECT id FROM counted)
        AS windows, ARRAY(SELECT nanos FROM counted) AS window_amounts, (SELECT count(*) FROM done) AS n INTO held;
    PERFORM held_add(held.accounts, held.amounts, held.windows, held.window_amounts);
    RETURN held.n;
END $$;

-- The same, but for those whose account or a window of theirs somebody has for longer than lock_timeout: they stay.
CREATE FUNCTION hold_close_most(ids uuid[], closed text) RETURNS bigint LANGUAGE plpgsql SET search_path = spend, pg_temp AS $$
DECLARE
    accounts bigint[];
    windows bigint[];
BEGIN
    RETURN hold_close(ids, closed);
EXCEPTION WHEN lock_not_available THEN
    FOR n IN 1..3 LOOP  -- one that is busy and not kept is free now and then
        PERFORM pg_sleep(0.01) WHERE n > 1;
        accounts := ARRAY(SELECT b.account_id FROM balance AS b WHERE b.account_id IN (SELECT h.account FROM hold AS h
            WHERE h.call_id = ANY (ids)) ORDER BY b.account_id FOR UPDATE SKIP LOCKED);
        windows := ARRAY(SELECT w.id FROM budget_window AS w WHERE w.id IN (SELECT unnest(h.windows_raw || h.windows_billed)
            FROM hold AS h WHERE h.call_id = ANY (ids)) ORDER BY w.id FOR UPDATE SKIP LOCKED);
    END LOOP;
    RETURN hold_close(ARRAY(SELECT h.call_id FROM hold AS h WHERE h.call_id = ANY (ids) AND (h.account IS NULL
        OR h.account = ANY (accounts)) AND h.windows_raw <@ windows AND h.windows_billed <@ windows), closed);
END $$;

-- Those whose ingest is gone, and tombstones of an hour ago; at most so many of each. Locked ones are left for later, so that
-- their order is that of what is due. more: there may be others. One ledger at a time. When nobody has swept for more than
-- gap_us, nobody could be asked to renew either: then nothing expires for a lifetime, in which every ingest can.
CREATE FUNCTION hold_sweep(most int, lifetime_us bigint, gap_us bigint, OUT expired bigint, OUT more boolean)
LANGUAGE plpgsql SET search_path = spend, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    now timestamptz := clock_timestamp();
    run hold_sweep_run;
    ids uuid[];
    purged bigint;
BEGIN
    expired := 0;
    more := false;
    SELECT * INTO run FROM hold_sweep_run FOR UPDATE SKIP LOCKED;
    IF run.ran_at IS NULL THEN
        RETURN;
    END IF;
    IF now - run.ran_at > gap_us * interval '1 us' THEN
        run.spare_until := now + lifetime_us * interval '1 us';
    END IF;
    DELETE FROM hold AS h WHERE h.call_id = ANY (ARRAY(SELECT y.call_id FROM hold AS y WHERE y.state NOT IN ('placed', 'captured')
        AND y.changed_at < now - interval '1 hour' ORDER BY y.changed_at LIMIT most FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS purged = ROW_COUNT;
    IF now >= run.spare_until THEN
        ids := ARRAY(SELECT h.call_id FROM hold AS h WHERE h.state = 'placed' AND h.expires_at < now
            AND (h.expires_at, h.call_id) > (run.after_at, run.after_id) ORDER BY h.expires_at, h.call_id
            LIMIT most FOR UPDATE SKIP LOCKED);
    END IF;
    more := cardinality(ids) = most;
    run.after_at := '-infinity';  -- from the first again
    IF more THEN
        SELECT h.expires_at, h.call_id INTO run.after_at, run.after_id FROM hold AS h WHERE h.call_id = ids[most];
    END IF;
    IF ids <> '{}' THEN
        expired := hold_close_most(ids, 'expired');
    END IF;
    more := coalesce(more, false) OR purged = most;
    UPDATE hold_sweep_run SET ran_at = now, spare_until = run.spare_until, after_at = run.after_at, after_id = run.after_id;
END $$;

-- A captured hold ends with its gateway's record. When that has not come for an hour it was lost, with a disk; others may have
-- told what the call cost: not by a failure, which may be of one attempt of several. Returns how many ended.
CREATE INDEX hold_captured ON hold (changed_at) WHERE state = 'captured';
CREATE FUNCTION hold_sweep_captured(most int) RETURNS bigint LANGUAGE plpgsql SET search_path = spend, pg_temp
SET lock_timeout = '100ms' AS $$
DECLARE
    now timestamptz := clock_timestamp();
    ids uuid[] := ARRAY(SELECT h.call_id FROM hold AS h JOIN call AS c ON c.call_id = h.call_id
        WHERE h.state = 'captured' AND h.changed_at < now - interval '1 hour' AND c.raw_nanos IS NOT NULL
            AND c.outcome NOT IN ('rejected', 'failed')
        ORDER BY h.changed_at LIMIT most FOR UPDATE OF h SKIP LOCKED);
BEGIN
    RETURN CASE WHEN ids = '{}' THEN 0 ELSE hold_close_most(ids, 'settled') END;
END $$;

-- Closes the window of now and opens the rest of it anew: nothing is set back. It is closed behind every call that it holds
-- or has by then, so that what is held in it is spent in it. No row: there is no such budget, or it has no such value.
CREATE OR REPLACE FUNCTION budget_reset(budget_id text, wanted text, actor text, reason text) RETURNS SETOF bigint
LANGUAGE plpgsql SET search_path = spend, pg_temp AS $$
DECLARE
    r budget_revision;
    w budget_window;
    now timestamptz;
    at timestamptz;
    fresh bigint;
BEGIN
    PERFORM FROM budget AS b WHERE b.budget_id = budget_reset.budget_id FOR UPDATE;  -- its revision stands from here on
    SELECT x.* INTO r FROM budget AS b JOIN budget_revision AS x ON x.budget = b.id AND x.revision = b.revision
    WHERE b.budget_id = budget_reset.budget_id FOR UPDATE OF x;
    IF r.budget IS NULL OR coalesce(r.value, wanted) IS NULL OR r.value <> wanted OR NOT EXISTS (SELECT FROM budget_value AS v
        WHERE v.budget = r.budget AND v.revision = r.revision AND v.value = coalesce(r.value, wanted)) THEN
        RETURN;
    END IF;
    at := clock_timestamp();
    LOOP
        SELECT o.id INTO fresh FROM window_open(r.budget, r.revision, coalesce(r.value, wanted), at, 0) AS o;
        SELECT * INTO w FROM budget_window AS x WHERE x.id = fresh FOR UPDATE;  -- a statement of its own sees a new one
        now := clock_timestamp();
        -- who calls with a clock that is ahead stays where it is
        SELECT greatest(now, at, w.window_start + interval '1 us', max(h.admitted_at) + interval '1 us',
            CASE WHEN w.last_matched_at <= now THEN w.last_matched_at + interval '1 us' END) INTO at
        FROM (SELECT * FROM hold WHERE state = 'placed' UNION ALL SELECT * FROM hold WHERE state = 'captured') AS h  -- an index each
        WHERE w.id = ANY (h.windows_raw) OR w.id = ANY (h.windows_billed);
        EXIT WHEN at < w.window_end;
    END LOOP;
    INSERT INTO budget_window AS x (budget, revision, value, window_start, window_end)
    VALUES (w.budget, w.revision, w.value, at, w.window_end) RETURNING x.id INTO fresh;
    UPDATE budget_window AS x SET window_end = at, version = x.version + 1 WHERE x.id = w.id;
    -- one that is later is there already when somebody's clock was ahead
    UPDATE budget_value AS v SET newest = fresh
    WHERE v.budget = w.budget AND v.revision = w.revision AND v.value = w.value AND v.newest = w.id;
    UPDATE budget_reset AS x SET closed = fresh
    WHERE x.budget = w.budget AND x.revision = w.revision AND x.value = w.value AND x.closed = w.id;
    INSERT INTO budget_reset AS x (budget, revision, value, at, closed, opened, actor, reason)
    VALUES (w.budget, w.revision, w.value, at, w.id, fresh, budget_reset.actor, budget_reset.reason);
    INSERT INTO outbox (windows) VALUES (ARRAY[fresh]);
    RETURN NEXT fresh;
END $$;
