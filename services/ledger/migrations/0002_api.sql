-- What the API answers with: every resource is a row of a view, as JSON with an id to find it by and to list it after.
-- And the one shape of all facts. Nothing is rounded here: usd() and factor() only move the decimal point.

-- Nano-USD as the shortest decimal text: 1500 -> 0.0000015.
CREATE FUNCTION usd(nanos bigint) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN trim_scale(nanos * 0.000000001)::text;

-- A price, femto-USD a unit.
CREATE FUNCTION usd_of_femtos(femtos bigint) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN trim_scale(femtos * 0.000000000000001)::text;

-- A factor in parts per million: 1300000 -> 1.3.
CREATE FUNCTION factor(ppm bigint) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN trim_scale(ppm * 0.000001)::text;

-- RFC 3339 in UTC, to the microsecond.
CREATE FUNCTION rfc3339(t timestamptz) RETURNS text LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN to_char(t AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- Facts -------------------------------------------------------------------------------------------------------------
-- Every version of every fact in one shape; kind is enum registry_kind. What is set once holds from the start.
CREATE VIEW fact (kind, id, config_version, effective_from, recorded_at, account_id, tier, markup_ppm, user_id, team,
    price_key, conversation_id, account, tags, tag_policy) AS
SELECT 0, a.account_id, v.config_version, v.effective_from, v.recorded_at, NULL::text, v.tier, NULL::bigint,
    NULL::text, NULL::text, NULL::text, NULL::text, a.id, NULL::text[], NULL::jsonb
FROM account_version AS v JOIN account AS a ON a.id = v.account
UNION ALL
SELECT 1, key_hash, config_version, effective_from, recorded_at, account_id, NULL, NULL, user_id, team, NULL, NULL,
    NULL, tags, tag_policy
FROM api_key
UNION ALL
SELECT 2, name, config_version, effective_from, recorded_at, NULL, NULL, markup_ppm, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL
FROM tier
UNION ALL
SELECT 3, task_id, config_version, 'epoch'::timestamptz, recorded_at, account_id, NULL, NULL, NULL, NULL, NULL,
    conversation_id, NULL, NULL, NULL
FROM task
UNION ALL
SELECT 4, conversation_id, config_version, 'epoch'::timestamptz, recorded_at, account_id, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL
FROM conversation
UNION ALL
SELECT 5, alias, config_version, effective_from, recorded_at, NULL, NULL, NULL, NULL, NULL, price_key, NULL, NULL,
    NULL, NULL
FROM model_alias;

-- For a conversation that is being registered: who has named it already.
CREATE INDEX task_conversation ON task (conversation_id) WHERE conversation_id IS NOT NULL;

-- Adds one version; inside the transaction of config_begin().
CREATE FUNCTION fact_add(kind int, id text, effective_from timestamptz, recorded_at timestamptz, config_version bigint,
    account_id text, tier text, markup_ppm bigint, user_id text, team text, price_key text, conversation_id text,
    tags text[], tag_policy jsonb) RETURNS void LANGUAGE plpgsql SET search_path = spend, pg_temp AS $$
BEGIN
    CASE kind
    WHEN 0 THEN
        INSERT INTO account_version (account, effective_from, recorded_at, tier, config_version)
        SELECT a.id, fact_add.effective_from, fact_add.recorded_at, fact_add.tier, fact_add.config_version
        FROM account AS a WHERE a.account_id = fact_add.id;
    WHEN 1 THEN
        INSERT INTO api_key VALUES (id, effective_from, recorded_at, account_id, user_id, team, tags, tag_policy,
            config_version);
    WHEN 2 THEN INSERT INTO tier VALUES (id, effective_from, recorded_at, markup_ppm, config_version);
    WHEN 3 THEN
        INSERT INTO task VALUES (id, account_id, conversation_id, recorded_at, NULL, config_version);
    WHEN 4 THEN INSERT INTO conversation VALUES (id, account_id, recorded_at, config_version);
    WHEN 5 THEN INSERT INTO model_alias VALUES (id, effective_from, recorded_at, price_key, config_version);
    END CASE;
END $$;

-- Resources: (id, json) -----------------------------------------------------------------------------------------------
-- An account's tier and markup are those in force now.
CREATE VIEW account_json AS
SELECT a.account_id AS id, json_build_object('account_id', a.account_id, 'name', a.name, 'tier', t.tier,
    'markup', factor(m.markup_ppm), 'overdraft_limit', usd(a.overdraft_limit_nanos), 'balance', usd(b.amount_nanos),
    'held', usd(b.held_nanos), 'entries', b.seq, 'created_at', rfc3339(a.created_at),
    'versions', (SELECT json_agg(json_build_object('effective_from', rfc3339(v.effective_from),
        'recorded_at', rfc3339(v.recorded_at), 'tier', v.tier) ORDER BY v.config_version)
        FROM account_version AS v WHERE v.account = a.id)) AS json
FROM account AS a
JOIN balance AS b ON b.account_id = a.id
CROSS JOIN LATERAL (SELECT v.tier FROM account_version AS v
    WHERE v.account = a.id AND v.effective_from <= clock_timestamp()
    ORDER BY v.effective_from DESC, v.recorded_at DESC LIMIT 1) AS t
CROSS JOIN LATERAL (SELECT x.markup_ppm FROM tier AS x
    WHERE x.name = t.tier AND x.effective_from <= clock_timestamp()
    ORDER BY x.effective_from DESC, x.recorded_at DESC LIMIT 1) AS m;

-- A fact's members are its newest version's, which may hold from later on only; versions has all.
CREATE VIEW tier_json AS
SELECT x.name AS id, json_build_object('name', x.name, 'markup', factor(x.markup_ppm), 'effective_from',
    rfc3339(x.effective_from), 'recorded_at', rfc3339(x.recorded_at), 'versions',
    (SELECT json_agg(json_build_object('effective_from', rfc3339(v.effective_from), 'recorded_at',
        rfc3339(v.recorded_at), 'markup', factor(v.markup_ppm)) ORDER BY v.config_version)
    FROM tier AS v WHERE v.name = x.name)) AS json
FROM (SELECT DISTINCT ON (name) * FROM tier ORDER BY name, config_version DESC) AS x;

CREATE VIEW api_key_json AS
SELECT x.key_hash AS id, json_build_object('key_hash', x.key_hash, 'account_id', x.account_id, 'user', x.user_id,
    'team', x.team, 'tags', x.tags, 'tag_policy', x.tag_policy, 'effective_from', rfc3339(x.effective_from),
    'recorded_at', rfc3339(x.recorded_at), 'versions',
    (SELECT json_agg(json_build_object('effective_from', rfc3339(v.effective_from), 'recorded_at',
        rfc3339(v.recorded_at), 'account_id', v.account_id, 'user', v.user_id, 'team', v.team, 'tags', v.tags,
        'tag_policy', v.tag_policy) ORDER BY v.config_version)
    FROM api_key AS v WHERE v.key_hash = x.key_hash)) AS json
FROM (SELECT DISTINCT ON (key_hash) * FROM api_key ORDER BY key_hash, config_version DESC) AS x;

CREATE VIEW model_alias_json AS
SELECT x.alias AS id, json_build_object('alias', x.alias, 'price_key', x.price_key, 'effective_from',
    rfc3339(x.effective_from), 'recorded_at', rfc3339(x.recorded_at), 'versions',
    (SELECT json_agg(json_build_object('effective_from', rfc3339(v.effective_from), 'recorded_at',
        rfc3339(v.recorded_at), 'price_key', v.price_key) ORDER BY v.config_version)
    FROM model_alias AS v WHERE v.alias = x.alias)) AS json
FROM (SELECT DISTINCT ON (alias) * FROM model_alias ORDER BY alias, config_version DESC) AS x;

CREATE VIEW task_json AS
SELECT task_id AS id, json_build_object('task_id', task_id, 'account_id', account_id, 'conversation_id',
    conversation_id, 'recorded_at', rfc3339(recorded_at), 'finished_at', rfc3339(finished_at)) AS json
FROM task;

CREATE VIEW conversation_json AS
SELECT conversation_id AS id, json_build_object('conversation_id', conversation_id, 'account_id', account_id,
    'recorded_at', rfc3339(recorded_at)) AS json
FROM conversation;

CREATE VIEW price_book_json AS
SELECT b.version AS id, json_build_object('version', b.version, 'effective_from', rfc3339(b.effective_from),
    'recorded_at', rfc3339(b.recorded_at), 'source', b.source, 'sha256', b.sha256, 'added', b.report->'added',
    'changed', b.report->'changed', 'removed', b.report->'removed',
    'entries', (SELECT count(*) FROM price AS p WHERE p.version = b.version)) AS json
FROM price_book AS b;

CREATE VIEW price_json AS
SELECT p.version, p.key, json_build_object('version', p.version, 'effective_from', rfc3339(b.effective_from),
    'price_key', p.key, 'provider', p.provider, 'mode', p.mode, 'rates', (SELECT coalesce(json_agg(json_build_object(
        'name', r.name, 'price', usd_of_femtos(r.femtos)) ORDER BY r.name COLLATE "C"), '[]')
        FROM unnest(p.names, p.femtos) AS r (name, femtos))) AS json
FROM price AS p JOIN price_book AS b ON b.version = p.version;

CREATE VIEW entry_json AS
SELECT a.account_id, e.account_id AS account, e.account_seq, e.call_id, e.posted_at, json_build_object('account_id', a.account_id,
    'account_seq', e.account_seq, 'call_id', e.call_id, 'kind', e.kind, 'cause', e.cause, 'amount',
    usd(e.amount_nanos), 'balance_after', usd(e.balance_after_nanos), 'external_id', e.external_id, 'task', e.task,
    'conversation', e.conversation, 'model', e.model, 'raw', usd(e.raw_nanos), 'markup', factor(e.markup_ppm),
    'price_version', e.price_version, 'revision', e.revision, 'admitted_at', rfc3339(e.admitted_at), 'posted_at',
    rfc3339(e.posted_at)) AS json
FROM entry AS e JOIN account AS a ON a.id = e.account_id;

CREATE VIEW credit_json AS
SELECT c.account, c.external_id, c.kind, c.amount_nanos, json_build_object('account_id', a.account_id, 'account_seq',
    c.account_seq, 'external_id', c.external_id, 'kind', c.kind, 'amount', usd(c.amount_nanos), 'note', c.note,
    'balance_after', usd(e.balance_after_nanos), 'posted_at', rfc3339(c.posted_at)) AS json
FROM credit AS c
JOIN account AS a ON a.id = c.account
JOIN entry AS e ON e.account_id = c.account AND e.account_seq = c.account_seq;

CREATE VIEW dead_letter_json AS
SELECT c.reason, c.call_id, json_build_object('call_id', c.call_id, 'reason', c.reason, 'detail', c.detail, 'raw',
    usd(c.raw_nanos), 'first_seen', rfc3339(c.first_seen), 'admitted_at', rfc3339(c.admitted_at), 'account_id',
    a.account_id) AS json
FROM call AS c JOIN account AS a ON a.id = c.account
WHERE c.reason IS NOT NULL;

-- A call's entries are found by time, for that table's own index on it. Lines of the price and the hint are added by C.
CREATE VIEW call_json AS
SELECT c.call_id, (SELECT row_to_json(x) FROM (SELECT c.call_id,
    CASE WHEN c.reason IS NULL THEN 'billed' ELSE 'dead' END AS state, c.reason, c.detail,
    rfc3339(c.first_seen) AS first_seen, c.conflicted, c.source, c.source_id, c.operation, c.stream,
    c.model_requested, c.model_replied, c.provider, c.service_tier, c.outcome, c.quality, c.upstream_status,
    c.key_hash, rfc3339(c.admitted_at) AS admitted_at, rfc3339(c.received_at) AS received_at, c.tags,
    -- beside tags: where each stood (enum tag_origin's bits)
    (SELECT coalesce(json_agg((SELECT coalesce(json_agg(w.word ORDER BY w.bit), '[]')
        FROM unnest(ARRAY['header', 'root', 'metadata', 'litellm_metadata', 'user', 'key', 'event'])
            WITH ORDINALITY AS w (word, bit)
        WHERE (o.bits >> (w.bit - 1)::int) & 1 = 1) ORDER BY o.n), '[]')
        FROM unnest(c.tag_origins) WITH ORDINALITY AS o (bits, n)) AS tag_origins,
    a.account_id, c.task, c.conversation, c.user_id AS "user", c.team, c.route,
    json_build_object('input', c.usage_input, 'cache_read', c.usage_cache_read, 'cache_write_5m',
        c.usage_cache_write_5m, 'cache_write_1h', c.usage_cache_write_1h, 'output', c.usage_output, 'reasoning',
        c.usage_reasoning, 'audio_in', c.usage_audio_in, 'audio_out', c.usage_audio_out, 'image_in',
        c.usage_image_in, 'image_out', c.usage_image_out, 'images', c.usage_images, 'characters',
        c.usage_characters, 'seconds_milli', c.usage_seconds_milli, 'requests', c.usage_requests) AS usage,
    usd(c.raw_nanos) AS raw, usd(c.billed_nanos) AS billed, factor(c.markup_ppm) AS markup,
    usd(c.reported_cost_nanos) AS reported_cost, c.rating, c.price_version, c.price_key, c.rater_version, c.revision,
    (SELECT coalesce(json_agg(e.json ORDER BY e.posted_at, e.account, e.account_seq), '[]') FROM entry_json AS e
        WHERE e.posted_at = ANY (c.posted_at) AND e.call_id = c.call_id) AS entries,
    '[]'::json AS windows, '[]'::json AS holds,  -- no budget and no gate yet: none has charged or held anything
    json_build_object('topic', c.origin_topic, 'partition', c.origin_partition, 'offset', c.origin_offset) AS origin,
    json_build_object('topic', c.record_topic, 'partition', c.record_partition, 'offset', c.record_offset) AS record
) AS x) AS json
FROM call AS c JOIN account AS a ON a.id = c.account;

-- A task's bill so far: of a registered task, or of a label that calls of `account` carry. No row: neither is there.
CREATE FUNCTION task_bill(task text, label_account text, OUT registered boolean, OUT account_id text,
    OUT finished boolean, OUT calls bigint, OUT billed_nanos bigint, OUT json json)
RETURNS SETOF record LANGUAGE sql STABLE AS $$
SELECT t.task_id IS NOT NULL, a.account_id, t.finished_at IS NOT NULL, s.calls, s.billed,
    json_build_object('task_id', $1, 'account_id', a.account_id, 'conversation_id', t.conversation_id,
        'finished_at', rfc3339(t.finished_at), 'raw', usd(s.raw), 'billed', usd(s.billed), 'first_at',
        rfc3339(s.first_at), 'last_at', rfc3339(s.last_at), 'recent', coalesce(l.recent, '[]'))
FROM (SELECT) AS one
LEFT JOIN task AS t ON t.task_id = $1
JOIN account AS a ON a.account_id = coalesce(t.account_id, $2)
CROSS JOIN LATERAL (SELECT count(*) AS calls, coalesce(sum(c.raw_nanos), 0)::bigint AS raw,
    coalesce(sum(c.billed_nanos), 0)::bigint AS billed, min(c.admitted_at) AS first_at, max(c.admitted_at) AS last_at
    FROM call AS c WHERE c.task = $1 AND c.account = a.id AND c.reason IS NULL) AS s
CROSS JOIN LATERAL (SELECT json_agg(json_build_object('call_id', c.call_id, 'admitted_at', rfc3339(c.admitted_at),
    'model', coalesce(c.model_replied, c.model_requested), 'outcome', c.outcome, 'raw', usd(c.raw_nanos), 'billed',
    usd(c.billed_nanos))) AS recent
    FROM (SELECT * FROM call AS k WHERE k.task = $1 AND k.account = a.id AND k.reason IS NULL
        ORDER BY k.admitted_at DESC, k.call_id LIMIT 20) AS c) AS l
WHERE t.task_id IS NOT NULL OR s.calls > 0
$$;
