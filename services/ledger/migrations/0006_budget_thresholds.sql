-- Thresholds are marked in the window whose spend reaches them; and a window's state as others read it has a version that
-- grows with all that changes it: a limit too, over resets, and from one revision to the next.

ALTER TABLE budget_window ADD COLUMN thresholds_crossed int[] NOT NULL DEFAULT '{}';  -- percent, ascending; stays for the window

-- Marks what is reached, of a limit that there is: at limit 0 by whatever is spent. Whoever moved `spent` or the limit has the
-- rows locked, and calls it in a later statement of its transaction: so none is marked twice, and none is forgotten.
-- Returns how many were. Products only, exact: nothing is divided.
CREATE FUNCTION window_mark(ids bigint[]) RETURNS bigint LANGUAGE plpgsql SET search_path = spend, pg_temp AS $$
DECLARE
    n bigint;
BEGIN
    WITH reached AS (
        SELECT w.id, t.percent FROM budget_window AS w JOIN budget AS b ON b.id = w.budget AND b.revision = w.revision
        CROSS JOIN LATERAL unnest(b.thresholds) AS t (percent)
        WHERE w.id = ANY (ids) AND w.spent_nanos > 0 AND t.percent <> ALL (w.thresholds_crossed)
            AND w.spent_nanos * 100::numeric >= b.limit_nanos * t.percent::numeric
    ), marked AS (
        UPDATE budget_window AS w SET thresholds_crossed = (SELECT array_agg(a ORDER BY a)
            FROM unnest(w.thresholds_crossed || x.percents) AS a)
        FROM (SELECT r.id, array_agg(r.percent) AS percents FROM reached AS r GROUP BY r.id) AS x
        WHERE w.id = x.id
    )
    SELECT count(*) INTO n FROM reached;
    RETURN n;
END $$;

-- A budget was changed: what its values' newest windows are is so too. Follows budget_put, in its transaction. Publishes in
-- pieces, for a set goes out in one Kafka transaction. Returns how many thresholds a lower limit has marked.
CREATE FUNCTION budget_tell(budget_id text) RETURNS bigint LANGUAGE plpgsql SET search_path = spend, pg_temp AS $$
DECLARE
    ids bigint[];
BEGIN
    SELECT array_agg(v.newest) INTO ids FROM budget AS b
    JOIN budget_value AS v ON v.budget = b.id AND v.revision = b.revision WHERE b.budget_id = budget_tell.budget_id;
    PERFORM FROM budget_window AS w WHERE w.id = ANY (ids) ORDER BY w.id FOR UPDATE;
    UPDATE budget_window AS w SET version = w.version + 1 WHERE w.id = ANY (ids);
    INSERT INTO outbox (windows) SELECT array_agg(x.id) FROM unnest(ids) WITH ORDINALITY AS x (id, n) GROUP BY (x.n - 1) / 5000;
    RETURN window_mark(ids);
END $$;

-- Functions that are otherwise as they were.
CREATE FUNCTION mend(name text, old text, new text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    before text := pg_get_functiondef(name::regproc);
BEGIN
    IF strpos(before, old) = 0 THEN
        RAISE EXCEPTION '% is not the function that this migration knows', name;
    END IF;
    EXECUTE replace(before, old, new);
END $$;

-- budget_tell does it.
SELECT mend('budget_put', '    INSERT INTO outbox (windows) SELECT array_agg(v.newest) FROM budget_value AS v
    WHERE v.budget = b.id AND v.revision = b.revision HAVING count(*) > 0;
', '');

-- A later revision's first window begins with it: what came before counts elsewhere, and of its value's states the later
-- ones have no earlier start.
SELECT mend('window_open', 'greatest(window_start, before.window_end);',
    'greatest(window_start, before.window_end, CASE WHEN r.revision > 1 AND r.effective_from <= at THEN r.effective_from END);');

-- A window that a call of a clock ahead has opened is newer than what is left of now.
SELECT mend('budget_reset', 'AND v.value = w.value;', 'AND v.value = w.value AND v.newest = w.id;');

DROP FUNCTION mend(text, text, text);

DO $$
DECLARE
    old text := pg_get_viewdef('budget_json'::regclass);
    new text := replace(old, '''ungated''', '''threshold_crossed'', w.thresholds_crossed[cardinality(w.thresholds_crossed)], ''ungated''');
BEGIN
    IF new = old THEN
        RAISE EXCEPTION 'budget_json is not the view that this migration knows';
    END IF;
    EXECUTE 'CREATE OR REPLACE VIEW budget_json AS ' || new;
END $$;

-- What there is already is told and marked once: before, nobody was.
SELECT budget_tell(budget_id) FROM budget ORDER BY id;
