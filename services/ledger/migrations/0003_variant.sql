-- What was asked of a model whose price depends on it: an image's quality and size.
ALTER TABLE call ADD COLUMN variant text;

-- As before, and the variant.
CREATE OR REPLACE VIEW call_json AS
SELECT c.call_id, (SELECT row_to_json(x) FROM (SELECT c.call_id,
    CASE WHEN c.reason IS NULL THEN 'billed' ELSE 'dead' END AS state, c.reason, c.detail,
    rfc3339(c.first_seen) AS first_seen, c.conflicted, c.source, c.source_id, c.operation, c.stream,
    c.model_requested, c.model_replied, c.provider, c.service_tier, c.variant, c.outcome, c.quality, c.upstream_status,
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
