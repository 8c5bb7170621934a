"""common/kafka against a real broker: runs spend-kafka-broker-test, whose tests stand in services/common/kafka/broker_test.c."""

import os
import subprocess

from stack import SANITIZER_SIGNS, Stack


def test_the_kafka_room_against_a_real_broker():
    with Stack(parts=("kafka",)) as stack:
        env = stack.clean_env({"SPEND_KAFKA_BROKERS": stack.brokers, "CMOCKA_MESSAGE_OUTPUT": "TAP"})
        done = subprocess.run([os.fspath(stack.bin_dir / "spend-kafka-broker-test")], env=env, capture_output=True, text=True,
                              timeout=600, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert not any(sign in output for sign in SANITIZER_SIGNS), output
    assert done.stdout.count("\nok ") >= 14, done.stdout
