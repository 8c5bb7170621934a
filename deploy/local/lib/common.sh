# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is used by those who read this file
# common: where things are, how the scripts speak, what a state directory remembers (ports, secrets, settings).
# TOOLS is what `install` brings, one for the checkout; STATE is one stack's own directory (up --dir DIR, default .local).
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd -P)
LOCAL=$ROOT/deploy/local
TOOLS=$ROOT/.local
STATE=$TOOLS
BIN=$ROOT/build/release/bin
PG_BIN=/usr/lib/postgresql/15/bin
# Ports are handed out below the kernel's range for outgoing connections, so that none of those can take them.
PORT_FIRST=20000
PORT_BLOCKS=750
PORT_NAMES=(kafka controller postgres ingest ingest_admin attributor_admin ledger ledger_admin
    provider litellm ingest_litellm ingest_litellm_admin ingest_gate ingest_gate_admin)

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# usage_die TEXT: a wrong command line.
usage_die() { printf '%s: %s (see --help)\n' "${0##*/}" "$*" >&2; exit 2; }

# help_print FILE: the comment that opens a script is its help.
help_print() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$1"; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; return; fi
    command -v sudo >/dev/null || die "this needs root, or sudo: $*"
    sudo "$@"
}

random_hex() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

# state_open DIR: makes the directory and takes its lock until the script ends; children must close fd 9.
state_open() {
    mkdir -p "$1"
    STATE=$(cd "$1" && pwd -P)
    mkdir -p "$STATE/run" "$STATE/log"
    exec 9>"$STATE/lock"
    flock -n 9 || { say "another one works on $STATE: waiting for it"; flock 9; }
    if [ ! -e "$STATE/secrets" ]; then
        (umask 077; for name in postgres owner ledger operator reader ingest spend_log litellm; do
            printf '%s=%s\n' "$name" "$(random_hex)"; done >"$STATE/secrets.new")
        mv "$STATE/secrets.new" "$STATE/secrets"
    fi
}

secret() { sed -n "s/^$1=//p" "$STATE/secrets"; }

# port_listens PORT: somebody on this machine listens there (any address). The kernel's tables: no tool needed.
port_listens() {
    local hex
    hex=$(printf '%04X' "$1")
    grep -qs "^ *[0-9]*: [0-9A-F]*:$hex [0-9A-F]*:[0-9A-F]* 0A " /proc/net/tcp /proc/net/tcp6
}

# ports_pick: a block of free ports, remembered, so that clients and Kafka find everything where it was.
ports_pick() {
    local base i try
    for try in $(seq 1 50); do
        base=$((PORT_FIRST + 16 * ((RANDOM * 32768 + RANDOM) % PORT_BLOCKS)))
        for i in "${!PORT_NAMES[@]}"; do port_listens $((base + i)) && continue 2; done
        for i in "${!PORT_NAMES[@]}"; do printf '%s=%s\n' "${PORT_NAMES[i]}" $((base + i)); done >"$STATE/ports.new"
        mv "$STATE/ports.new" "$STATE/ports"
        return
    done
    die "no free block of ports found in $try tries"
}

port() {
    [ -e "$STATE/ports" ] || ports_pick
    grep -q "^$1=" "$STATE/ports" || port_single "$1"
    sed -n "s/^$1=//p" "$STATE/ports"
}

# port_single NAME: a free port beyond the blocks, remembered for NAME from now on.
port_single() {
    local new
    for new in $(seq $((PORT_FIRST + 16 * PORT_BLOCKS)) 32767); do
        if ! port_listens "$new" && ! grep -q "=$new\$" "$STATE/ports"; then
            sed -i "/^$1=/d" "$STATE/ports"
            echo "$1=$new" >>"$STATE/ports"
            return
        fi
    done
    die "no free port for $1"
}

# port_claim NAME: the remembered port of something that is about to start; another one when a stranger sits on it.
port_claim() {
    local old
    old=$(port "$1")
    port_listens "$old" || return 0
    port_single "$1"
    say "port $old of $1 is taken by another program: using $(port "$1")"
}

# wait_for SECONDS COMMAND..: until the command succeeds; 1 when it does not in time.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}
