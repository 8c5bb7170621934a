"""Turns schemas/*.avsc into one C file: each schema's text, shape and CRC-64-AVRO fingerprint (embedded.h).

Follows "Parsing Canonical Form" and "Schema Fingerprints" of the Avro specification. With --print it lists the fingerprints.
"""

import argparse
import json
import pathlib
import sys

PRIMITIVES = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
CRC_EMPTY = 0xC15D213AA4D7A795
C_LINE = 16


def crc_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (CRC_EMPTY if value & 1 else 0)
        table.append(value)
    return table


TABLE = crc_table()


def fingerprint(data):
    """CRC-64-AVRO of bytes."""
    crc = CRC_EMPTY
    for byte in data:
        crc = (crc >> 8) ^ TABLE[(crc ^ byte) & 0xFF]
    return crc


def full_name(name, namespace):
    return name if "." in name or not namespace else f"{namespace}.{name}"


def canonical(schema, namespace=""):
    """The schema in Parsing Canonical Form."""
    if isinstance(schema, str):
        return json.dumps(schema if schema in PRIMITIVES else full_name(schema, namespace))
    if isinstance(schema, list):
        return "[" + ",".join(canonical(branch, namespace) for branch in schema) + "]"
    kind = schema["type"]
    if kind in PRIMITIVES:
        return json.dumps(kind)
    if kind == "array":
        return f'{{"type":"array","items":{canonical(schema["items"], namespace)}}}'
    if kind == "map":
        return f'{{"type":"map","values":{canonical(schema["values"], namespace)}}}'
    name = full_name(schema["name"], schema.get("namespace", namespace))
    inner = name.rpartition(".")[0]
    head = f'{{"name":{json.dumps(name)},"type":"{kind}"'
    if kind == "fixed":
        return f'{head},"size":{schema["size"]}}}'
    if kind == "enum":
        return head + ',"symbols":[' + ",".join(json.dumps(s) for s in schema["symbols"]) + "]}"
    fields = ",".join(
        f'{{"name":{json.dumps(f["name"])},"type":{canonical(f["type"], inner)}}}' for f in schema["fields"]
    )
    return f'{head},"fields":[{fields}]}}'


def shape(schema, named):
    """Types in the order of their bytes, without names of types: what a codec must agree with."""
    if isinstance(schema, str):
        return schema if schema in PRIMITIVES else named[schema]
    if isinstance(schema, list):
        if len(schema) != 2 or schema[0] != "null":
            sys.exit(f"{schema}: the only unions we use are [null, something], null first")
        return "?" + shape(schema[1], named)
    kind = schema["type"]
    if kind == "array":
        return f"[{shape(schema['items'], named)}]"
    if kind == "fixed":
        text = f"fixed{schema['size']}"
    elif kind == "enum":
        text = "enum(" + ",".join(schema["symbols"]) + ")"
    elif kind == "record":
        fields = ",".join(f"{f['name']}:{shape(f['type'], named)}" for f in schema["fields"])
        text = "{" + fields + "}"
    else:
        return kind
    named[schema["name"]] = text
    return text


def c_bytes(text):
    """A char array: C promises string literals of 4,095 characters only."""
    values = [str(byte) if byte < 128 else f"(char){byte}" for byte in text.encode()] + ["0"]
    lines = [", ".join(values[i : i + C_LINE]) for i in range(0, len(values), C_LINE)]
    return "{\n    " + ",\n    ".join(lines) + ",\n}"


def generate(schemas):
    out = ["/* Made by schemas/generate.py. */", '#include "schemas/embedded.h"', ""]
    rows = []
    for text, schema in schemas:
        name = schema["name"]
        out += [f"static const char text_{name}[] = {c_bytes(text)};", ""]
        out += [f"static const char shape_{name}[] = {c_bytes(shape(schema, {}))};", ""]
        print_ = fingerprint(canonical(schema).encode())
        rows.append(f'    {{"{name}", text_{name}, shape_{name}, 0x{print_:016x}ULL}},')
    out += ["const struct embedded_schema embedded_schemas[] = {", *rows, "};"]
    out += [f"const size_t embedded_schema_count = {len(rows)};", ""]
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, help="the C file to write")
    parser.add_argument("--print", action="store_true", help="list name and fingerprint")
    parser.add_argument("schema", nargs="+", type=pathlib.Path)
    args = parser.parse_args()
    texts = [path.read_text(encoding="utf-8") for path in sorted(args.schema)]
    schemas = [(text, json.loads(text)) for text in texts]
    if args.out:
        args.out.write_text(generate(schemas), encoding="utf-8")
    if args.print:
        for _, schema in schemas:
            print(f"{fingerprint(canonical(schema).encode()):016x} {schema['name']}")


if __name__ == "__main__":
    main()
