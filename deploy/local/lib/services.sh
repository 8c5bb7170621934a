# shellcheck shell=bash
# services: Spendline's own three, the provider they call, and LiteLLM. Each gets every SPEND_* that `up` was given,
# but for the few that wire this stack together: those are set here, each service's own.

WIRED='SPEND_(LISTEN|ADMIN_LISTEN|KAFKA_BROKERS|DATABASE_URL|LEDGER_URL|LEDGER_TOKEN|INGEST_URL|OPERATOR_TOKEN|READER_TOKEN|INGEST_TOKEN)'

# settings_load: what this `up` and earlier ones were given (until `down`), so that a service that died comes back as
# it was. A new value counts for what is started from now on.
settings_load() {
    local given=$STATE/given name line
    [ -e "$given" ] || (umask 077; : >"$given")
    # what a sourced env told of its own stack is nobody's wish
    [ "${SPEND_UPSTREAM_URL-}" != "${SPENDLINE_ENV_UPSTREAM_URL-}" ] || unset SPEND_UPSTREAM_URL
    for name in $(compgen -e | grep '^SPEND_' | grep -vxE "$WIRED"); do
        line=$(printf '%s=%q' "$name" "${!name}")
        grep -qxF "$line" "$given" && continue
        ! process_lives ingest || say "$name: what already runs keeps its setting; to have it count: down, then up with it again"
        sed -i "/^$name=/d" "$given"
        echo "$line" >>"$given"
    done
    while IFS='=' read -r name _; do
        [ -n "${!name+set}" ] || say "$name: as an earlier up was given it; down forgets it"
    done <"$given"
    set -a
    # shellcheck disable=SC1090
    . "$given"
    set +a
    for name in $(compgen -e | grep -xE "$WIRED"); do unset "$name"; done
}

provider_url() { echo "http://127.0.0.1:$(port provider)"; }
upstream_url() { echo "${SPEND_UPSTREAM_URL-$(provider_url)}"; }
ledger_url() { echo "http://127.0.0.1:$(port ledger)"; }
brokers() { echo "127.0.0.1:$(port kafka)"; }

# listens NAME PORT: the process lives and its port is open.
listens() { process_lives "$1" && port_listens "$2"; }

# answers URL: 200 there.
answers() { curl -fsS -o /dev/null --max-time 2 "$1"; }

# service_start NAME PROGRAM ADMIN_PORT_NAME ENV..: a Spendline service, until it says it is ready.
service_start() {
    local name=$1 program=$2 admin=$3
    shift 3
    process_lives "$name" && { say "$name runs"; return; }
    port_claim "$admin"
    process_start "$name" env "SPEND_ADMIN_LISTEN=127.0.0.1:$(port "$admin")" "SPEND_KAFKA_BROKERS=$(brokers)" \
        "$@" "$BIN/$program"
    process_ready "$name" 60 answers "http://127.0.0.1:$(port "$admin")/readyz"
    say "$name started"
}

provider_start() {
    process_lives provider && { say "provider runs ($(provider_url))"; return; }
    port_claim provider
    process_start provider /usr/bin/python3 "$ROOT/tests/integration/fake_provider.py" \
        --listen "127.0.0.1:$(port provider)" --log "$STATE/log/provider-calls.jsonl" \
        --callbacks "$STATE/log/litellm-callbacks.jsonl"
    process_ready provider 20 answers "$(provider_url)/v1/models"
    say "provider started ($(provider_url))"
}

litellm_start() {
    process_lives litellm && { say "litellm runs (127.0.0.1:$(port litellm))"; return; }
    port_claim litellm
    process_start litellm env -u DEBUG LITELLM_LOCAL_MODEL_COST_MAP=True "LITELLM_MASTER_KEY=sk-$(secret litellm)" \
        "PROVIDER_URL=$(provider_url)/v1" PROVIDER_KEY=fake NO_PROXY=127.0.0.1 \
        "GENERIC_LOGGER_ENDPOINT=$(provider_url)/callbacks" "GENERIC_LOGGER_HEADERS=x-from=litellm" \
        "$TOOLS/litellm/bin/litellm" --config "$LOCAL/litellm/config.yaml" \
        --host 127.0.0.1 --port "$(port litellm)" --telemetry False
    process_ready litellm 120 answers "http://127.0.0.1:$(port litellm)/health/liveliness"
    say "litellm started (http://127.0.0.1:$(port litellm))"
}

ledger_migrate() {
    SPEND_DATABASE_URL=$(postgres_url spend_owner owner) "$BIN/spend-ledger" migrate >>"$STATE/log/migrate.log" 2>&1 ||
        { tail -n 20 "$STATE/log/migrate.log" >&2; die "migrations failed"; }
}

ledger_start() {
    process_lives ledger || { ledger_migrate; port_claim ledger; }
    service_start ledger spend-ledger ledger_admin "SPEND_LISTEN=127.0.0.1:$(port ledger)" \
        "SPEND_DATABASE_URL=$(postgres_url spend_ledger ledger)" "SPEND_OPERATOR_TOKEN=$(secret operator)" \
        "SPEND_READER_TOKEN=$(secret reader)" "SPEND_INGEST_TOKEN=$(secret ingest)"
}

attributor_start() {
    service_start attributor spend-attributor attributor_admin "SPEND_REPLICA=${SPEND_REPLICA-local}"
}

# ingest_start [NAME PORT UPSTREAM]: a second one has a port of its own and the same journal directory.
ingest_start() {
    local name=${1-ingest} port=${2-ingest}
    process_lives "$name" || port_claim "$port"
    mkdir -p "$STATE/journal"
    service_start "$name" spend-ingest "${port}_admin" "SPEND_LISTEN=127.0.0.1:$(port "$port")" \
        "SPEND_JOURNAL_DIR=${SPEND_JOURNAL_DIR-$STATE/journal}" "SPEND_UPSTREAM_URL=${3-$(upstream_url)}" \
        "SPEND_SPEND_LOG_SECRET=${SPEND_SPEND_LOG_SECRET-$(secret spend_log)}" \
        "SPEND_LEDGER_URL=$(ledger_url)" "SPEND_LEDGER_TOKEN=$(secret ingest)" "SPEND_OPERATOR_TOKEN=$(secret operator)"
}

# env_write: what a shell needs to use this stack. Only names in WIRED, and the upstream, said twice: `up` takes any other SPEND_* of
# such a shell for a wish, also when it starts another stack, or this one after --purge gave it other ports.
env_write() {
    (
        umask 077
        cat >"$STATE/env.new" <<ENV
export SPEND_INGEST_URL='http://127.0.0.1:$(port ingest)'
export SPEND_LEDGER_URL='$(ledger_url)'
export SPEND_LEDGER_TOKEN='$(secret operator)'
export SPEND_KAFKA_BROKERS='$(brokers)'
export SPEND_DATABASE_URL='$(postgres_url postgres postgres)'
export SPEND_UPSTREAM_URL='$(upstream_url)'
export SPENDLINE_ENV_UPSTREAM_URL='$(upstream_url)'
export PATH='$BIN':"\$PATH"
ENV
        ! process_lives litellm || cat >>"$STATE/env.new" <<ENV
export LITELLM_URL='http://127.0.0.1:$(port litellm)'
export LITELLM_INGEST_URL='http://127.0.0.1:$(port ingest_litellm)'
export LITELLM_KEY='sk-$(secret litellm)'
ENV
        ! process_lives ingest_gate || echo "export GATE_INGEST_URL='http://127.0.0.1:$(port ingest_gate)'" >>"$STATE/env.new"
    )
    mv "$STATE/env.new" "$STATE/env"
}
