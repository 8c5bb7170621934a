-- How long a model's replies are: what a hold counts for output, of models that are used enough to tell.

CREATE TABLE model_output (
    model text PRIMARY KEY,        -- as it is asked for
    calls bigint NOT NULL,         -- of the last day, whose usage is known
    p95_output bigint NOT NULL,    -- tokens out of a call, those of reasoning among them: 95 of 100 have no more
    at timestamptz NOT NULL
);

-- By one ledger at a time, and not again within half of every_us. Reads a day of calls by call_admitted, a BRIN index: they
-- lie together. Returns how many models there are, null when it was not ours to do.
CREATE FUNCTION model_output_refresh(lock bigint, every_us bigint) RETURNS bigint LANGUAGE plpgsql
SET search_path = spend, pg_temp AS $$
DECLARE
    now timestamptz := clock_timestamp();
    n bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(lock)
        OR EXISTS (SELECT FROM model_output WHERE at > now - every_us / 2 * interval '1 us') THEN
        RETURN NULL;
    END IF;
    INSERT INTO model_output AS m (model, calls, p95_output, at)
    SELECT c.model_requested, count(*),
        percentile_disc(0.95) WITHIN GROUP (ORDER BY least(c.usage_output, 1000000000)
            + least(coalesce(c.usage_reasoning, 0), 1000000000)), now
    FROM call AS c
    WHERE c.admitted_at > now - interval '1 day' AND c.admitted_at <= now AND c.usage_output IS NOT NULL AND c.quality = 'final'
        AND c.model_requested IS NOT NULL
    GROUP BY c.model_requested HAVING count(*) >= 100
    ON CONFLICT (model) DO UPDATE SET calls = excluded.calls, p95_output = excluded.p95_output, at = excluded.at;
    GET DIAGNOSTICS n = ROW_COUNT;
    DELETE FROM model_output WHERE at < now;
    RETURN n;
END $$;
