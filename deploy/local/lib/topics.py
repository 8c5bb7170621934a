"""Creates the topics of topics.json that a cluster lacks, and brings the settings of the others in line.

Refuses to change a partition count: keys would move to other partitions and lose their order.
"""

import argparse
import json
import sys
import time

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

TIMEOUT_S = 60


def settings(topic, definitions, replication):
    """The topic's own settings, and how many replicas must have a record before it counts as written."""
    config = {name: str(value) for name, value in topic["config"].items()}
    config["min.insync.replicas"] = str(min(definitions["min_insync_replicas"], replication))
    return config


def metadata_when_up(admin, brokers, wait_s):
    """The cluster's topics; waits for a broker that is still starting."""
    end = time.monotonic() + wait_s
    while True:
        try:
            found = admin.list_topics(timeout=2)
            if found.brokers:
                return found.topics
        except KafkaException:
            pass
        if time.monotonic() > end:
            sys.exit(f"topics: no broker answers at {brokers}: is --brokers right, and does Kafka run?")
        time.sleep(0.1)


def create(admin, missing, definitions, replication):
    new = [
        NewTopic(t["name"], num_partitions=t["partitions"], replication_factor=replication,
                 config=settings(t, definitions, replication))
        for t in missing
    ]
    for done in admin.create_topics(new, request_timeout=TIMEOUT_S).values():
        done.result()
    print(f"topics: created {', '.join(t['name'] for t in missing)}")


def align(admin, present, definitions, there):
    """Sets what differs, and only that. True: something did. A topic keeps the replicas that it has."""
    wanted = {t["name"]: settings(t, definitions, len(there[t["name"]].partitions[0].replicas)) for t in present}
    asked = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in wanted]
    changes = []
    for resource, answer in admin.describe_configs(asked, request_timeout=TIMEOUT_S).items():
        have = answer.result()
        differing = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in wanted[resource.name].items() if have[name].value != value
        ]
        if differing:
            changes.append(ConfigResource(ConfigResource.Type.TOPIC, resource.name, incremental_configs=differing))
    for resource, done in (admin.incremental_alter_configs(changes) if changes else {}).items():
        done.result()
        print(f"topics: {resource.name} settings changed")
    return bool(changes)


def fault(error, replication):
    """One line for a person, of what the broker refused."""
    reason = error.args[0]
    hint = ""
    if reason.code() in (KafkaError.INVALID_REPLICATION_FACTOR, KafkaError.POLICY_VIOLATION):
        hint = f"; {replication} replicas were asked for: give --replication, 1 for a single broker"
    return f"topics: {reason.str()}{hint}"


def align_all(admin, there, definitions, replication):
    missing = [t for t in definitions["topics"] if t["name"] not in there]
    present = [t for t in definitions["topics"] if t["name"] in there]
    if missing:
        create(admin, missing, definitions, replication)
    if not (present and align(admin, present, definitions, there)) and not missing:
        print("topics: all are there and set as they should be: nothing to do")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--replication", type=int, help="replicas a partition (default: the file's)")
    parser.add_argument("--wait", type=float, default=10, help="seconds for a broker that is starting (default: 10)")
    parser.add_argument("--kafka-conf", action="append", default=[], metavar="NAME=VALUE",
                        help="a setting of librdkafka's, as the services' own option: security.protocol=SASL_SSL ..")
    parser.add_argument("file")
    args = parser.parse_args()
    try:
        with open(args.file, encoding="utf-8") as f:
            definitions = json.load(f)
    except (OSError, ValueError) as error:
        sys.exit(f"topics: cannot read {args.file}: {error}")
    replication = definitions["replication_factor"] if args.replication is None else args.replication
    if replication < 1:
        sys.exit(f"topics: --replication {replication}: give 1 or more")
    if not all("=" in setting for setting in args.kafka_conf):
        sys.exit("topics: --kafka-conf wants NAME=VALUE")
    settings = dict(setting.split("=", 1) for setting in args.kafka_conf)
    admin = AdminClient({"log_level": 0, **settings, "bootstrap.servers": args.brokers})
    there = metadata_when_up(admin, args.brokers, args.wait)
    for t in definitions["topics"]:
        if t["name"] in there and len(there[t["name"]].partitions) != t["partitions"]:
            sys.exit(f"topics: {t['name']} has {len(there[t['name']].partitions)} partitions, "
                     f"topics.json says {t['partitions']}: changing that would break the order of its keys")
    try:
        align_all(admin, there, definitions, replication)
    except KafkaException as error:
        sys.exit(fault(error, replication))


if __name__ == "__main__":
    main()
