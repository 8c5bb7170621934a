# shellcheck shell=bash
# kafka: one KRaft broker on loopback, its data in STATE/kafka-data, its topics from deploy/topics/topics.json.

kafka_configure() {
    local data=$STATE/kafka-data
    sed -e "s|@DATA@|$data|g" -e "s|@PORT@|$(port kafka)|g" -e "s|@CONTROLLER@|$(port controller)|g" \
        "$LOCAL/kafka.properties.in" >"$STATE/kafka.properties"
    [ -e "$data/meta.properties" ] && return
    # a cluster id is 16 bytes in URL-safe base64 without padding, and must not look like a flag
    local id
    id=K$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n' | cut -c1-20)A
    kafka_java kafka.tools.StorageTool format -t "$id" -c "$STATE/kafka.properties" >>"$STATE/log/kafka.log" 2>&1 ||
        { tail -n 20 "$STATE/log/kafka.log" >&2; die "Kafka's data directory could not be formatted"; }
}

kafka_java() {
    java -Xmx512m -cp "$TOOLS/kafka/lib/*" "-Dlog4j2.configurationFile=$LOCAL/kafka-log4j2.properties" "$@" 9>&-
}

kafka_start() {
    process_lives kafka && { say "kafka runs (127.0.0.1:$(port kafka))"; return; }
    port_claim kafka
    port_claim controller
    kafka_configure
    process_start kafka java -Xms256m -Xmx512m -cp "$TOOLS/kafka/lib/*" \
        "-Dlog4j2.configurationFile=$LOCAL/kafka-log4j2.properties" kafka.Kafka "$STATE/kafka.properties"
    say "kafka started (127.0.0.1:$(port kafka))"
}

# kafka_topics: waits for the broker, then makes what is missing.
kafka_topics() {
    process_ready kafka 90 port_listens "$(port kafka)"
    "$TOOLS/venv/bin/python3" "$LOCAL/lib/topics.py" --brokers "127.0.0.1:$(port kafka)" --replication 1 --wait 60 \
        "$ROOT/deploy/topics/topics.json" || die "topics: see above"
}
