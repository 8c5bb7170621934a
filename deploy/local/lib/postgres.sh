# shellcheck shell=bash
# postgres: a cluster of our own on loopback TCP, password only, no socket. Postgres refuses to run as root: then it
# runs as the user `postgres`, and its data lies under /var/lib/spendline when that user cannot reach STATE.

POSTGRES_AS=()
[ "$(id -u)" != 0 ] || POSTGRES_AS=(setpriv --reuid=postgres --regid=postgres --init-groups)

# postgres_data: the cluster's directory, decided once and remembered.
postgres_data() {
    if [ ! -e "$STATE/postgres.dir" ]; then
        local data=$STATE/postgres
        [ ${#POSTGRES_AS[@]} -eq 0 ] || "${POSTGRES_AS[@]}" test -x "$STATE" ||
            data=/var/lib/spendline/$(printf %s "$STATE" | sha256sum | cut -c1-12)/postgres
        echo "$data" >"$STATE/postgres.dir"
    fi
    cat "$STATE/postgres.dir"
}

# postgres_url ROLE SECRET
postgres_url() { echo "postgresql://$1:$(secret "$2")@127.0.0.1:$(port postgres)/spend"; }

postgres_init() {
    local data=$1 pw
    [ ! -e "$data/spendline" ] || return 0
    say "postgres: making a cluster in $data"
    rm -rf "$data"
    mkdir -p "$data"
    chmod 700 "$data"
    pw=$(mktemp)
    secret postgres >"$pw"
    [ ${#POSTGRES_AS[@]} -eq 0 ] || chown postgres "$pw" "$data"
    env -C / "${POSTGRES_AS[@]}" "$PG_BIN/initdb" -D "$data" -U postgres --pwfile="$pw" --auth=scram-sha-256 \
        --encoding=UTF8 --locale=C.UTF-8 --data-checksums >>"$STATE/log/postgres.log" 2>&1 9>&- ||
        { rm -f "$pw"; tail -n 20 "$STATE/log/postgres.log" >&2; die "initdb failed"; }
    rm -f "$pw"
    cat "$LOCAL/postgresql.conf" >>"$data/postgresql.conf"
    # the mark of a finished one: a cluster cut off in the middle is made again
    "${POSTGRES_AS[@]}" touch "$data/spendline"
}

# postgres_unused DATA: no process has its working directory there (a killed postmaster's children may, for a moment).
postgres_unused() {
    local cwd
    for cwd in /proc/[0-9]*/cwd; do
        [ "$(readlink "$cwd" 2>/dev/null)" != "$1" ] || return 1
    done
}

postgres_start() {
    process_lives postgres && { say "postgres runs (127.0.0.1:$(port postgres))"; return; }
    local data
    data=$(postgres_data)
    port_claim postgres
    postgres_init "$data"
    wait_for 20 postgres_unused "$data" || die "another Postgres works in $data"
    # after a kill or a reboot its pid may be somebody else's by now
    rm -f "$data/postmaster.pid"
    process_start postgres env -C / "${POSTGRES_AS[@]}" "$PG_BIN/postgres" -D "$data" -p "$(port postgres)"
    say "postgres started (127.0.0.1:$(port postgres))"
}

# postgres_sql DATABASE: runs its input as the superuser.
postgres_sql() {
    PGPASSWORD=$(secret postgres) "$PG_BIN/psql" -X -q -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$(port postgres)" \
        -U postgres -d "$1"
}

# postgres_roles: the owner (migrations), the ledger's own role, the database; what is there stays.
postgres_roles() {
    process_ready postgres 60 "$PG_BIN/pg_isready" -q -h 127.0.0.1 -p "$(port postgres)"
    OWNER_PASSWORD=$(secret owner) LEDGER_PASSWORD=$(secret ledger) postgres_sql postgres <<'SQL'
\getenv owner_password OWNER_PASSWORD
\getenv ledger_password LEDGER_PASSWORD
SELECT format('CREATE ROLE spend_owner LOGIN PASSWORD %L', :'owner_password')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'spend_owner') \gexec
SELECT format('CREATE ROLE spend_ledger LOGIN PASSWORD %L', :'ledger_password')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'spend_ledger') \gexec
SELECT 'CREATE DATABASE spend OWNER spend_owner'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'spend') \gexec
SQL
}

postgres_purge() {
    local data
    [ -e "$STATE/postgres.dir" ] || return 0
    data=$(postgres_data)
    rm -rf "$data"
    case $data in /var/lib/spendline/*) rmdir "${data%/*}" 2>/dev/null || true ;; esac
}
