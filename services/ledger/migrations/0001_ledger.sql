-- The ledger's tables. Money is bigint nano-USD (*_nanos), times are timestamptz (micros), text ids stand in `account`
-- alone: what is written once a call names an account by its surrogate. Facts that move money are versions: rows are
-- added, never changed; the one in force is the greatest effective_from, of those the last recorded.

-- Accounts --------------------------------------------------------------------------------------------------------
CREATE TABLE account (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id text NOT NULL UNIQUE,
    name text NOT NULL DEFAULT '',
    overdraft_limit_nanos bigint,  -- null: the balance is not checked
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    config_version bigint NOT NULL
);
CREATE INDEX account_config ON account (config_version);

CREATE TABLE account_version (
    account bigint NOT NULL REFERENCES account,
    effective_from timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    tier text NOT NULL,
    config_version bigint NOT NULL,
    PRIMARY KEY (account, config_version)
);
CREATE INDEX account_version_config ON account_version (config_version);

CREATE TABLE balance (
    account_id bigint PRIMARY KEY,  -- account.id: the surrogate, here and in entry
    amount_nanos bigint NOT NULL DEFAULT 0,
    held_nanos bigint NOT NULL DEFAULT 0,
    seq bigint NOT NULL DEFAULT 0  -- account_seq of its last entry
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0);

-- Every account has a balance, whoever makes it.
CREATE FUNCTION balance_open() RETURNS trigger LANGUAGE plpgsql SET search_path = spend, pg_temp AS $$
BEGIN
    INSERT INTO balance (account_id) VALUES (new.id);
    RETURN NULL;
END $$;
CREATE TRIGGER balance_open AFTER INSERT ON account FOR EACH ROW EXECUTE FUNCTION balance_open();

-- Entries: append-only. No foreign keys and no row triggers on INSERT: they would turn COPY's fast path off.
CREATE TABLE entry (
    account_id bigint NOT NULL,
    account_seq bigint NOT NULL,
    amount_nanos bigint NOT NULL,
    balance_after_nanos bigint NOT NULL,
    raw_nanos bigint,
    markup_ppm bigint,
    price_version bigint,
    admitted_at timestamptz,
    posted_at timestamptz NOT NULL,
    call_id uuid,
    revision int NOT NULL DEFAULT 0,
    kind text NOT NULL,   -- deduction adjustment reversal top_up grant refund opening
    cause text NOT NULL,  -- call correction redrive rebill credit
    external_id text,
    task text,
    conversation text,
    model text,
    PRIMARY KEY (account_id, account_seq)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_freeze_min_age = 0);
-- A call's entries are found by the times in call.posted_at, so that no second btree is kept up:
--   SELECT .. FROM entry WHERE posted_at = ANY (the call's posted_at) AND call_id = ..
CREATE INDEX entry_posted ON entry USING brin (posted_at) WITH (pages_per_range = 32, autosummarize = on);

CREATE FUNCTION entry_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'spend.entry is append-only: % refused', tg_op USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER entry_is_final BEFORE UPDATE OR DELETE OR TRUNCATE ON entry
    FOR EACH STATEMENT EXECUTE FUNCTION entry_is_final();

-- A credit's idempotency: the same external_id again is the same credit.
CREATE TABLE credit (
    account bigint NOT NULL,
    external_id text NOT NULL,
    account_seq bigint NOT NULL,
    kind text NOT NULL,
    amount_nanos bigint NOT NULL,
    note text,
    posted_at timestamptz NOT NULL,
    PRIMARY KEY (account, external_id)
);

-- Calls: one row each, its maxima and its bill ----------------------------------------------------------------------
CREATE TABLE call (
    call_id uuid PRIMARY KEY,
    identity_rank bytea NOT NULL,
    measurement_rank bytea NOT NULL,
    attribution_rank bytea NOT NULL,
    revision int NOT NULL DEFAULT 0,
    conflicted boolean NOT NULL DEFAULT false,  -- its notice was given
    -- the bill
    account bigint NOT NULL,
    raw_nanos bigint,     -- null: unpriced, no entry
    billed_nanos bigint,  -- null with raw_nanos
    markup_ppm bigint NOT NULL,
    posted_at timestamptz[] NOT NULL,  -- when its entries were posted, each time once
    -- identity
    admitted_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    source text NOT NULL,
    source_id text,
    operation text NOT NULL,
    model_requested text,
    key_hash text,
    stream boolean NOT NULL,
    tags text[] NOT NULL,
    tag_origins int[] NOT NULL,  -- beside tags: bits header 1, root 2, metadata 4, litellm_metadata 8, user 16, key 32, event 64
    -- measurement
    hash bytea NOT NULL,
    outcome text NOT NULL,
    quality text NOT NULL,
    model_replied text,
    provider text,
    service_tier text,
    upstream_status int,
    reported_cost_nanos bigint,
    rating text,          -- null: unpriced, or a dead letter
    price_version bigint,
    price_key text,
    rater_version int,
    usage_input bigint,
    usage_cache_read bigint,
    usage_cache_write_5m bigint,
    usage_cache_write_1h bigint,
    usage_output bigint,
    usage_reasoning bigint,
    usage_audio_in bigint,
    usage_audio_out bigint,
    usage_image_in bigint,
    usage_image_out bigint,
    usage_images bigint,
    usage_characters bigint,
    usage_seconds_milli bigint,
    usage_requests bigint,
    origin_topic text NOT NULL,  -- the SpendCall that measured it
    origin_partition int NOT NULL,
    origin_offset bigint NOT NULL,
    -- attribution
    task text,
    conversation text,
    user_id text,
    team text,
    route text,           -- null: no route led to an account
    redrive_id uuid,
    redrive_at timestamptz,
    reason text,          -- null: billed; else why it is a dead letter
    detail text,
    first_seen timestamptz,
    record_topic text NOT NULL,  -- the record of the ledger's own input that attributed it
    record_partition int NOT NULL,
    record_offset bigint NOT NULL
) WITH (fillfactor = 90, autovacuum_vacuum_insert_scale_factor = 0.05);
CREATE INDEX call_dead ON call (reason, call_id) WHERE reason IS NOT NULL;
CREATE INDEX call_task ON call (task) WHERE task IS NOT NULL;
CREATE INDEX call_admitted ON call USING brin (admitted_at) WITH (pages_per_range = 32, autosummarize = on);

-- What has been applied, by stream: the truth about offsets. Kafka's own are for lag tools. --------------------------
CREATE TABLE consumer_offset (
    stream text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    next bigint NOT NULL,
    cluster_id text NOT NULL,
    last_offset bigint,  -- the last record applied, and what it was: another record there is another topic's
    last_sha256 bytea,
    PRIMARY KEY (stream, topic, partition)
) WITH (fillfactor = 20);

-- To be published with account_seq order kept: one row a batch or credit (the entries as ranges), one a parked record.
-- Insert under the lock of the balances concerned: then of two rows about one account the later has the greater id.
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pub_seq bigint,               -- null: not yet taken up by the publisher
    accounts bigint[],            -- entries: account, first account_seq, how many
    first_seqs bigint[],
    counts bigint[],
    topic text,                   -- or one record: where to, key and value as they go out
    key bytea,
    value bytea,
    ce_id text,
    ce_type text,
    ce_time timestamptz,
    CHECK ((accounts IS NULL) <> (topic IS NULL))
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
ALTER TABLE outbox ALTER accounts SET STORAGE EXTERNAL, ALTER first_seqs SET STORAGE EXTERNAL,
    ALTER counts SET STORAGE EXTERNAL, ALTER value SET STORAGE EXTERNAL;

CREATE TABLE publisher (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    pub_seq bigint NOT NULL,  -- the last one given
    cluster_id text           -- the Kafka cluster that everything goes to; null: the next one
);
INSERT INTO publisher (pub_seq) VALUES (0);

-- Configuration with valid time -------------------------------------------------------------------------------------
-- One row. Each write of configuration is one version; watermark and recorded_at only grow, whatever the clock does.
CREATE TABLE config_version (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint NOT NULL,
    changed_at timestamptz NOT NULL,
    watermark timestamptz NOT NULL,
    registry_end bigint,  -- where spend.registry and spend.prices ended when we last wrote; null: never
    prices_end bigint,
    generation bigint NOT NULL DEFAULT 0  -- how often the whole configuration went out
) WITH (fillfactor = 20);
INSERT INTO config_version (version, changed_at, watermark) VALUES (1, clock_timestamp(), clock_timestamp());

-- Opens a write of configuration inside the caller's transaction: takes the configuration lock, then reads the clock.
-- Everything recorded by it carries (recorded_at, version). The lock ends with the transaction.
CREATE FUNCTION config_begin(OUT recorded_at timestamptz, OUT version bigint) LANGUAGE plpgsql
SET search_path = spend, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(8318260036551835649);
    UPDATE config_version AS c SET version = c.version + 1,
        changed_at = greatest(clock_timestamp(), c.changed_at + '1 us'::interval, c.watermark + '1 us'::interval)
    RETURNING c.changed_at, c.version INTO config_begin.recorded_at, config_begin.version;
END $$;

-- The same lock, for the heartbeat: whatever is recorded after it is later than the watermark. The arguments are where
-- the topics end now. No row: one ends before the place it had, or was never written; what is in it is not all there is.
CREATE FUNCTION config_watermark(registry_end bigint, prices_end bigint) RETURNS SETOF timestamptz LANGUAGE plpgsql
SET search_path = spend, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(8318260036551835649);
    RETURN QUERY UPDATE config_version AS c SET watermark = greatest(clock_timestamp(), c.changed_at, c.watermark),
        registry_end = config_watermark.registry_end, prices_end = config_watermark.prices_end
    WHERE c.registry_end <= config_watermark.registry_end AND c.prices_end <= config_watermark.prices_end
    RETURNING c.watermark;
END $$;

-- The cluster that is published to, from now on the given one if there was none: then all of the configuration goes out.
CREATE FUNCTION publisher_cluster(cluster text) RETURNS text LANGUAGE plpgsql SET search_path = spend, pg_temp AS $$
BEGIN
    UPDATE publisher SET cluster_id = cluster WHERE cluster_id IS NULL;
    IF FOUND THEN
        UPDATE config_version SET registry_end = NULL, prices_end = NULL;
    END IF;
    RETURN (SELECT cluster_id FROM publisher);
END $$;

CREATE TABLE tier (
    name text NOT NULL,
    effective_from timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    markup_ppm bigint NOT NULL CHECK (markup_ppm >= 0),
    config_version bigint NOT NULL,
    PRIMARY KEY (name, config_version)
);
CREATE INDEX tier_config ON tier (config_version);

CREATE TABLE api_key (
    key_hash text NOT NULL,  -- SHA-256 hex of the key; the key itself is nowhere
    effective_from timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    account_id text,
    user_id text,
    team text,
    tags text[] NOT NULL DEFAULT '{}',
    tag_policy jsonb,        -- {require: [], trust: "", accounts: []}
    config_version bigint NOT NULL,
    PRIMARY KEY (key_hash, config_version)
);
CREATE INDEX api_key_config ON api_key (config_version);

-- task -> account and conversation -> account are set once.
CREATE TABLE conversation (
    conversation_id text PRIMARY KEY,
    account_id text NOT NULL,
    recorded_at timestamptz NOT NULL,
    config_version bigint NOT NULL
);
CREATE INDEX conversation_config ON conversation (config_version);

CREATE TABLE task (
    task_id text PRIMARY KEY,
    account_id text NOT NULL,
    conversation_id text,
    recorded_at timestamptz NOT NULL,
    finished_at timestamptz,
    config_version bigint NOT NULL
);
CREATE INDEX task_config ON task (config_version);

CREATE TABLE model_alias (
    alias text NOT NULL,
    effective_from timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    price_key text NOT NULL,
    config_version bigint NOT NULL,
    PRIMARY KEY (alias, config_version)
);
CREATE INDEX model_alias_config ON model_alias (config_version);

CREATE TABLE price_book (
    version bigint PRIMARY KEY,  -- 1, 2, 3 ..
    effective_from timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    source text NOT NULL,
    sha256 text NOT NULL,
    report jsonb NOT NULL,       -- what the import said
    record bytea NOT NULL,       -- the very bytes on spend.prices
    config_version bigint NOT NULL
);

CREATE TABLE price (
    version bigint NOT NULL REFERENCES price_book,
    key text NOT NULL,
    provider text,
    mode text,
    names text[] NOT NULL,
    femtos bigint[] NOT NULL,    -- beside names: femto-USD per unit
    PRIMARY KEY (version, key)
);

-- Configuration on its way to Kafka, in the order it was written (ids grow with commits: the configuration lock).
CREATE TABLE config_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    key text NOT NULL,
    value bytea NOT NULL,  -- as it goes out
    recorded_at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

CREATE FUNCTION config_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY spend_config;
    RETURN NULL;
END $$;
CREATE TRIGGER config_notify AFTER INSERT ON config_outbox FOR EACH STATEMENT EXECUTE FUNCTION config_notify();

CREATE TABLE admin_audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    role text NOT NULL,
    action text NOT NULL,
    object text NOT NULL,
    detail jsonb
);

-- What is always there: the tier `default`, the suspense accounts ---------------------------------------------------
INSERT INTO tier (name, effective_from, recorded_at, markup_ppm, config_version)
SELECT 'default', 'epoch', changed_at, 1000000, version FROM config_version;

INSERT INTO account (account_id, name, config_version)
SELECT '~suspense/' || reason, 'calls that are ' || reason, version
FROM config_version, unnest(ARRAY['untagged', 'unknown', 'conflict', 'unpriced']) AS reason;

INSERT INTO account_version (account, effective_from, recorded_at, tier, config_version)
SELECT a.id, 'epoch', c.changed_at, 'default', c.version FROM account AS a, config_version AS c;
