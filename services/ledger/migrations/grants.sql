-- What the runtime role may do: its name is in the setting spend.runtime_role. Runs after every migration, as the owner.
-- Entries can be added and read, nothing else: a trigger stops the owner too.
DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = current_setting('spend.runtime_role')) THEN
        RAISE EXCEPTION 'the schema is there, but role % is not: create it and run migrate again',
            current_setting('spend.runtime_role') USING ERRCODE = 'undefined_object';
    END IF;
    EXECUTE replace($grants$
GRANT USAGE ON SCHEMA spend TO :role;
GRANT SELECT ON ALL TABLES IN SCHEMA spend TO :role;
GRANT INSERT ON account, account_version, entry, credit, call, consumer_offset, outbox, tier, api_key, task,
    conversation, model_alias, price_book, price, config_outbox, admin_audit, budget, budget_revision, budget_window,
    budget_value, budget_reset, hold TO :role;
GRANT UPDATE ON budget, budget_revision, budget_window, budget_value, budget_reset, hold TO :role;
GRANT DELETE ON hold TO :role;
GRANT UPDATE ON hold_sweep_run TO :role;
GRANT INSERT, UPDATE, DELETE ON model_output TO :role;
GRANT UPDATE (name, overdraft_limit_nanos, config_version) ON account TO :role;
GRANT UPDATE (amount_nanos, held_nanos, seq) ON balance TO :role;
GRANT INSERT ON balance TO :role;
GRANT UPDATE ON call TO :role;
GRANT UPDATE (next, last_offset, last_sha256) ON consumer_offset TO :role;
GRANT UPDATE (pub_seq), DELETE ON outbox TO :role;
GRANT UPDATE (pub_seq, cluster_id) ON publisher TO :role;
GRANT UPDATE (version, changed_at, watermark, registry_end, prices_end, generation) ON config_version TO :role;
GRANT UPDATE (finished_at, conversation_id, config_version) ON task TO :role;
GRANT DELETE ON config_outbox TO :role;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA spend TO :role;
REVOKE UPDATE, DELETE, TRUNCATE ON entry FROM :role, PUBLIC;
$grants$, ':role', quote_ident(current_setting('spend.runtime_role')));
END $do$;
