# shellcheck shell=bash
# process: background processes of one state directory. run/NAME.pid holds pid, start time and boot: a pid that
# another process got since, or that is older than this boot, is not ours and is never signalled.

# process_birth PID: the start time (clock ticks since boot); fails when there is none or it is a zombie.
process_birth() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # the name in brackets may hold blanks: count fields after the last bracket
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    [ "$1" != Z ] && echo "${20}"
}

# process_pid NAME: our living process of that name.
process_pid() {
    local pid birth boot
    read -r pid birth boot 2>/dev/null <"$STATE/run/$1.pid" || return 1
    [ "$boot" = "$(cat /proc/sys/kernel/random/boot_id)" ] && [ "$(process_birth "$pid")" = "$birth" ] && echo "$pid"
}

process_lives() { process_pid "$1" >/dev/null; }

# process_start NAME COMMAND..: in a session of its own, so that closing the terminal does not end it.
process_start() {
    local name=$1 pid
    shift
    setsid "$@" </dev/null >>"$STATE/log/$name.log" 2>&1 9>&- &
    pid=$!
    echo "$pid $(process_birth "$pid") $(cat /proc/sys/kernel/random/boot_id)" >"$STATE/run/$name.pid"
}

# process_ready NAME SECONDS COMMAND..: waits until the command succeeds; dies with the log's end when it does not.
process_ready() {
    local name=$1 end=$((SECONDS + $2))
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ! process_lives "$name" || [ "$SECONDS" -ge "$end" ]; then
            printf '%s\n' "--- the end of $STATE/log/$name.log" >&2
            tail -n 20 "$STATE/log/$name.log" >&2
            die "$name is not ready"
        fi
        sleep 0.1
    done
}

# process_stop NAME [SIGNAL]: asks once, waits (an ingest lets running calls end, up to 120 s), kills what does not go.
process_stop() {
    local name=$1 pid
    if pid=$(process_pid "$name"); then
        kill -s "${2-TERM}" "$pid"
        if ! wait_for 130 process_gone "$name"; then
            say "$name ($pid) did not stop in 130 s: killing it"
            kill -s KILL "$pid"
            wait_for 10 process_gone "$name" || die "$name ($pid) cannot be stopped"
        fi
        say "$name stopped"
    fi
    rm -f "$STATE/run/$name.pid"
}

process_gone() { ! process_lives "$1"; }
