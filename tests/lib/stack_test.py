"""The stack that tests stand on: parts come back with their data, and a foreign process is never taken for ours."""

import json
import subprocess
import sys
import time

import psycopg
import pytest
from confluent_kafka.admin import AdminClient

from stack import BOOT_ID, LOCAL, ROOT, Stack, process_birth, wait_until


@pytest.fixture(scope="module")
def stack():
    with Stack() as one:
        yield one


def test_topics_are_those_of_the_file(stack):
    wanted = json.loads((ROOT / "deploy/topics/topics.json").read_text())["topics"]
    found = AdminClient({"bootstrap.servers": stack.brokers}).list_topics(timeout=10).topics
    assert {t["name"]: t["partitions"] for t in wanted} == {
        name: len(t.partitions) for name, t in found.items() if name.startswith("spend.")}


def test_the_runtime_role_is_not_the_owner_and_no_superuser(stack):
    for role in ("spend_owner", "spend_ledger"):
        with psycopg.connect(stack.database_url(role)) as connection:
            assert connection.execute("SELECT current_user, usesuper FROM pg_user WHERE usename = current_user"
                                      ).fetchone() == (role, False)


def test_no_password_no_entry(stack):
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://postgres@127.0.0.1:{stack.port('postgres')}/spend")


@pytest.mark.parametrize("part", ["postgres", "provider"])
def test_a_killed_part_comes_back_on_its_port(stack, part):
    before = (stack.part_pid(part), stack.port(part))
    stack.kill_part(part)
    stack.up(part)
    assert stack.port(part) == before[1] and stack.part_pid(part) != before[0]


def test_killed_postgres_keeps_what_was_committed(stack):
    with psycopg.connect(stack.database_url()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
    stack.kill_part("postgres")
    stack.up("postgres")
    with psycopg.connect(stack.database_url()) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (42,)


def test_up_again_starts_nothing_that_lives(stack):
    before = [stack.part_pid(part) for part in stack.parts]
    stack.up(*stack.parts)
    assert [stack.part_pid(part) for part in stack.parts] == before


@pytest.mark.parametrize("wrong", ["birth", "boot"])
def test_down_leaves_a_stranger_who_has_the_old_pid_alone(tmp_path, wrong):
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    birth = process_birth(stranger.pid)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "kafka.pid").write_text(
        f"{stranger.pid} {int(birth) - 1 if wrong == 'birth' else birth} {BOOT_ID if wrong == 'birth' else 'x'}\n")
    subprocess.run([LOCAL / "down", "--dir", tmp_path], check=True, capture_output=True)
    assert stranger.poll() is None and not (tmp_path / "run" / "kafka.pid").exists()
    stranger.communicate(b"\n")


def test_wait_until_says_what_it_waited_for():
    started = time.monotonic()
    with pytest.raises(TimeoutError, match="the moon: not within 0.2 s"):
        wait_until(lambda: False, 0.2, "the moon")
    assert time.monotonic() - started < 5
