-- The gate beside holds: what a repeat answers, what would be if it asked, and what nothing stood for.

ALTER TABLE hold ADD COLUMN priced boolean,  -- of the decision; null: none was made
    ADD COLUMN warnings jsonb;               -- shadow budgets that it took over their limit; blocking: also of forced

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
