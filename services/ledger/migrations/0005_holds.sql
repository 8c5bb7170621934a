-- Holds: what a call under way may cost, before it is known what it does. One row a call, inserted first: its idempotency
-- key and its tombstone. placed -> captured -> (deleted with the call's bill) | voided | refused | expired | settled.
-- Amounts are what is held now: zero once it is closed. Locks: hold, then balance, then budget_window; each in order.

CREATE TABLE hold (
    call_id uuid PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('placed', 'captured', 'settled', 'voided', 'refused', 'expired')),
    forced boolean NOT NULL DEFAULT false,  -- let through while the ledger was away, told afterwards
    account bigint,                -- null: nothing led to one
    raw_nanos bigint NOT NULL DEFAULT 0,
    billed_nanos bigint NOT NULL DEFAULT 0,
    markup_ppm bigint NOT NULL DEFAULT 1000000,
    windows_raw bigint[] NOT NULL DEFAULT '{}',
    windows_billed bigint[] NOT NULL DEFAULT '{}',
    admitted_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,   -- of placed; renewed while the call goes on
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    blocking jsonb                 -- of refused: what was answered
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0);
CREATE INDEX hold_expiry ON hold (expires_at) WHERE state = 'placed';
CREATE INDEX hold_closed ON hold (changed_at) WHERE state NOT IN ('placed', 'captured');

-- Adds to what accounts and windows hold, locked in order. Inside the transaction that changes the holds.
CREATE FUNCTION held_add(accounts bigint[], amounts bigint[], windows bigint[], window_amounts bigint[]) RETURNS void
LANGUAGE plpgsql SET search_path = spend, pg_temp AS $$
BEGIN
    PERFORM FROM balance AS b WHERE b.account_id = ANY (accounts) ORDER BY b.account_id FOR UPDATE;
    UPDATE balance AS b SET held_nanos = b.held_nanos + x.amount
    FROM (SELECT a.account, sum(a.amount)::bigint AS amount FROM unnest(accounts, amounts) AS a (account, amount)
        GROUP BY a.account) AS x
    WHERE b.account_id = x.account;
    PERFORM FROM budget_window AS w WHERE w.id = ANY (windows) ORDER BY w.id FOR UPDATE;
    UPDATE budget_window AS w SET held_nanos = w.held_nanos + x.amount, version = w.version + 1
    FROM (SELECT a.id, sum(a.amount)::bigint AS amount FROM unnest(windows, window_amounts) AS a (id, amount)
        GROUP BY a.id) AS x
    WHERE w.id = x.id;
    INSERT INTO outbox (windows) SELECT array_agg(DISTINCT a) FROM unnest(windows) AS a HAVING count(*) > 0;
END $$;

-- Ends open holds and gives back what they hold; the rows stay as tombstones. Those named must be locked by the caller.
CREATE FUNCTION hold_close(ids uuid[], closed text) RETURNS bigint LANGUAGE plpgsql SET search_path = spend, pg_temp AS $$
DECLARE
    accounts bigint[];
    amounts bigint[];
    windows bigint[];
    window_amounts bigint[];
    n bigint;
BEGIN
    SELECT array_agg(h.account) FILTER (WHERE h.account IS NOT NULL),
        array_agg(-h.billed_nanos) FILTER (WHERE h.account IS NOT NULL), count(*)
    INTO accounts, amounts, n FROM hold AS h WHERE h.call_id = ANY (ids) AND h.state IN ('placed', 'captured');
    SELECT array_agg(x.w), array_agg(x.amount) INTO windows, window_amounts FROM (
        SELECT unnest(h.windows_raw) AS w, -h.raw_nanos AS amount FROM hold AS h
        WHERE h.call_id = ANY (ids) AND h.state IN ('placed', 'captured')
        UNION ALL
        SELECT unnest(h.windows_billed), -h.billed_nanos FROM hold AS h
        WHERE h.call_id = ANY (ids) AND h.state IN ('placed', 'captured')) AS x;
    PERFORM held_add(coalesce(accounts, '{}'), coalesce(amounts, '{}'), coalesce(windows, '{}'),
        coalesce(window_amounts, '{}'));
    UPDATE hold AS h SET state = closed, raw_nanos = 0, billed_nanos = 0, changed_at = clock_timestamp()
    WHERE h.call_id = ANY (ids) AND h.state IN ('placed', 'captured');
    RETURN n;
END $$;

-- What calls that are over have cost takes the place of what was held for them.
CREATE FUNCTION hold_amend(ids uuid[], raw bigint[], billed bigint[]) RETURNS void LANGUAGE plpgsql
SET search_path = spend, pg_temp AS $$
DECLARE
    accounts bigint[];
    amounts bigint[];
    windows bigint[];
    window_amounts bigint[];
BEGIN
    SELECT array_agg(h.account), array_agg(x.billed - h.billed_nanos) INTO accounts, amounts
    FROM unnest(ids, billed) AS x (call_id, billed) JOIN hold AS h ON h.call_id = x.call_id WHERE h.account IS NOT NULL;
    SELECT array_agg(y.w), array_agg(y.amount) INTO windows, window_amounts FROM (
        SELECT unnest(h.windows_raw) AS w, x.raw - h.raw_nanos AS amount
        FROM unnest(ids, raw) AS x (call_id, raw) JOIN hold AS h ON h.call_id = x.call_id
        UNION ALL
        SELECT unnest(h.windows_billed), x.billed - h.billed_nanos
        FROM unnest(ids, billed) AS x (call_id, billed) JOIN hold AS h ON h.call_id = x.call_id) AS y;
    PERFORM held_add(coalesce(accounts, '{}'), coalesce(amounts, '{}'), coalesce(windows, '{}'),
        coalesce(window_amounts, '{}'));
    UPDATE hold AS h SET state = 'captured', raw_nanos = x.raw, billed_nanos = x.billed, changed_at = clock_timestamp()
    FROM unnest(ids, raw, billed) AS x (call_id, raw, billed) WHERE h.call_id = x.call_id;
END $$;

-- A call that will not be, or not be billed: whatever comes for it later finds the tombstone.
CREATE FUNCTION hold_void(ids uuid[]) RETURNS TABLE (call_id uuid, state text) LANGUAGE plpgsql
SET search_path = spend, pg_temp AS $$
BEGIN
    INSERT INTO hold AS h (call_id, state, admitted_at, expires_at)
    SELECT x, 'voided', clock_timestamp(), clock_timestamp() FROM unnest(ids) AS x ORDER BY x ON CONFLICT DO NOTHING;
    PERFORM FROM hold AS h WHERE h.call_id = ANY (ids) ORDER BY h.call_id FOR UPDATE;
    PERFORM hold_close(ids, 'voided');
    RETURN QUERY SELECT h.call_id, h.state FROM hold AS h WHERE h.call_id = ANY (ids) ORDER BY h.call_id;
END $$;

CREATE FUNCTION hold_renew(ids uuid[], lifetime_us bigint) RETURNS TABLE (call_id uuid, state text) LANGUAGE sql
SET search_path = spend, pg_temp AS $$
WITH mine AS (SELECT h.call_id FROM hold AS h WHERE h.call_id = ANY (ids) ORDER BY h.call_id FOR UPDATE),
renewed AS (UPDATE hold AS h SET expires_at = clock_timestamp() + lifetime_us * interval '1 us' FROM mine
    WHERE h.call_id = mine.call_id AND h.state = 'placed' RETURNING h.call_id)
SELECT h.call_id, h.state FROM hold AS h WHERE h.call_id = ANY (ids) ORDER BY h.call_id
$$;

-- Those whose ingest is gone, and tombstones of an hour ago. Returns how many expired.
CREATE FUNCTION hold_sweep(most int) RETURNS bigint LANGUAGE plpgsql SET search_path = spend, pg_temp AS $$
DECLARE
    ids uuid[];
BEGIN
    SELECT array_agg(x.call_id) INTO ids FROM (SELECT h.call_id FROM hold AS h
        WHERE h.state = 'placed' AND h.expires_at < clock_timestamp() ORDER BY h.call_id LIMIT most
        FOR UPDATE SKIP LOCKED) AS x;
    DELETE FROM hold AS h USING (SELECT y.call_id FROM hold AS y WHERE y.state NOT IN ('placed', 'captured')
        AND y.changed_at < clock_timestamp() - interval '1 hour' ORDER BY y.call_id LIMIT most FOR UPDATE SKIP LOCKED) AS x
    WHERE h.call_id = x.call_id;
    RETURN CASE WHEN ids IS NULL THEN 0 ELSE hold_close(ids, 'expired') END;
END $$;
