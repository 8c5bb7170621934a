"""schemas/*.avsc against a second implementation, and against the record table of the design.

A trailing ? in FIELDS says nullable: a union with null first and null as its default, so that readers and writers may differ.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import fastavro
import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = {schema["name"]: schema for schema in
           (json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "schemas").glob("*.avsc")))}

FIELDS = {
    "SpendCall": """call_id source source_id? instance? boot? seq? admitted_at received_at finished_at? operation path upstream
        model_requested? model_replied? provider? service_tier? stream tags tags_truncated body_unparsed key_hash? user_agent?
        gate upstream_call_id? upstream_status? upstream_retries? upstream_fallbacks? outcome usage provider_usage? quality
        reported_cost_nanos? ttfb_us? duration_us? request_bytes reply_bytes dispute? variant?""",
    "AttributedCall": """call hash origin account_id task_id? conversation_id? user? team? route redrive? raw_nanos? rating
        price_version? price_key? rater_version config_watermark""",
    "DeadLetter": """kind reason detail call_id? original origin first_seen attempts call? hash? raw_nanos? estimated
        price_version? rater_version? redrive?""",
    "LedgerEntry": """account_id account_seq kind amount_nanos balance_after_nanos call_id? external_id? task_id?
        conversation_id? model? raw_nanos? markup_ppm? price_version? revision admitted_at? posted_at cause""",
    "RegistryRecord": "kind id versions watermark? price_version?",
    "PriceBook": "version effective_from recorded_at source sha256 entries",
    "Instance": "instance boot next_seq oldest_open_seq state at",
    "BudgetState": """budget_id scope value revision window_start window_end? n limit_nanos? measure mode spent_nanos
        held_nanos threshold_crossed?""",
}
INNER_FIELDS = {
    "Usage": """input? cache_read? cache_write_5m? cache_write_1h? output? reasoning? audio_in? audio_out? image_in? image_out?
        images? characters? seconds_milli? requests?""",
    "Tag": "raw key? value? origins",
    "Redrive": "id at set?",
    "Origin": "topic partition offset",
    "RegistryVersion": """effective_from recorded_at account_id? tier? markup_ppm? user? team? tags tag_policy? price_key?
        conversation_id?""",
}
SYMBOLS = {
    "Source": "proxy_log events_api gateway",
    "Outcome": "rejected failed unknown aborted completed",
    "Quality": "unknown estimated partial final",
    "Gate": "off observe held forced",
    "Route": "tag task conversation key redrive",
    "Rating": "exact assumed free",
    "DeadLetterKind": "call notice",
    "InstanceState": "alive closed",
}


def generated():
    """{name: fingerprint} as the build embeds them."""
    paths = sorted(str(path) for path in (ROOT / "schemas").glob("*.avsc"))
    done = subprocess.run([sys.executable, str(ROOT / "schemas/generate.py"), "--print", *paths], capture_output=True, text=True,
                          check=True)
    return {name: number for number, name in (line.split() for line in done.stdout.splitlines())}


def named_types(schema, found=None):
    """Every record, enum and fixed inside, by name, at its first appearance."""
    found = {} if found is None else found
    if isinstance(schema, list):
        for branch in schema:
            named_types(branch, found)
    elif isinstance(schema, dict):
        if "name" in schema:
            found.setdefault(schema["name"], schema)
        for field in schema.get("fields", []):
            named_types(field["type"], found)
        named_types(schema.get("items"), found)
    return found


def expanded(schema, named):
    """The schema with every reference to a named type replaced by its definition."""
    if isinstance(schema, str):
        return expanded(named[schema], named) if schema in named else schema
    if isinstance(schema, list):
        return [expanded(branch, named) for branch in schema]
    out = dict(schema)
    if "fields" in out:
        out["fields"] = [{**field, "type": expanded(field["type"], named)} for field in out["fields"]]
    if "items" in out:
        out["items"] = expanded(out["items"], named)
    return out


def written(fields):
    """FIELDS' notation for a record's fields; a union that is not [null, X] default null stands out."""
    words = []
    for field in fields:
        kind = field["type"]
        if not isinstance(kind, list):
            assert "default" not in field, f"{field['name']}: only nullable fields have a default"
            words.append(field["name"])
            continue
        assert len(kind) == 2 and kind[0] == "null", f"{field['name']}: {kind}"
        assert "default" in field and field["default"] is None, f"{field['name']}: its default is not null"
        words.append(field["name"] + "?")
    return words


def test_the_schemas_are_those_of_the_design():
    assert SCHEMAS.keys() == FIELDS.keys()


@pytest.mark.parametrize("name", FIELDS)
def test_the_fingerprint_is_what_a_second_implementation_computes(name):
    # fastavro prints the bytes in the order in which they stand in a record: little endian
    theirs = fingerprint(to_parsing_canonical_form(SCHEMAS[name]), "CRC-64-AVRO")
    ours = int(generated()[name], 16)
    assert ours.to_bytes(8, "little").hex() == theirs


def test_the_fingerprints_differ():
    assert len(set(generated().values())) == len(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_the_fields_are_those_of_the_design(name):
    assert written(SCHEMAS[name]["fields"]) == FIELDS[name].split()


@pytest.mark.parametrize("name", INNER_FIELDS)
def test_inner_records_are_those_of_the_design(name):
    holders = [named[name] for named in map(named_types, SCHEMAS.values()) if name in named]
    assert holders
    for record in holders:
        assert written(record["fields"]) == INNER_FIELDS[name].split()


@pytest.mark.parametrize("name", SYMBOLS)
def test_enums_stand_in_rank_order(name):
    holders = [named[name] for named in map(named_types, SCHEMAS.values()) if name in named]
    assert holders
    for enum in holders:
        assert enum["symbols"] == SYMBOLS[name].split()


@pytest.mark.parametrize("name", ["SpendCall", "Origin", "Redrive", "CallHash", "CallId"])
def test_a_type_that_several_files_hold_is_the_same_in_each(name):
    copies = {}
    for schema in SCHEMAS.values():
        named = named_types(schema)
        if name in named:
            copies[schema["name"]] = expanded(named[name], named)
    assert len(copies) >= 2
    first = next(iter(copies.values()))
    for holder, copy in copies.items():
        without_space = {key: value for key, value in copy.items() if key not in ("namespace", "doc")}
        assert without_space == {key: value for key, value in first.items() if key not in ("namespace", "doc")}, holder


def test_money_is_nanos_and_times_are_long():
    for schema in SCHEMAS.values():
        for record in named_types(schema).values():
            for field in record.get("fields", []):
                if re.search(r"(_nanos|_at|_from|window_start|window_end|watermark|first_seen|femtos)$", field["name"]):
                    assert field["type"] in ("long", ["null", "long"]), f"{record['name']}.{field['name']}"


def test_there_is_no_float_anywhere():
    assert not re.search(r'"(float|double)"', json.dumps(list(SCHEMAS.values())))


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_says_what_it_is(name):
    for record in named_types(SCHEMAS[name]).values():
        for field in record.get("fields", []):
            assert field.get("doc"), f"{record['name']}.{field['name']}"


@pytest.mark.parametrize("name", FIELDS)
def test_a_second_implementation_accepts_the_schema(name):
    assert fastavro.parse_schema(SCHEMAS[name])["name"] == f"spend.{name}"
