"""Avro, from the schema text alone: canonical form, CRC-64-AVRO fingerprint, single-object framing, decode and encode.

Refuses what avro-c must never see: bytes left over, lengths past the end, unknown enum or union branches, counts over a
cap, numbers that do not fit, texts that are no UTF-8 or have a NUL.
"""

import json
from pathlib import Path

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
PRIMITIVES = {"null", "boolean", "int", "long", "bytes", "string"}
EMPTY = 0xC15D213AA4D7A795
MAGIC = b"\xc3\x01"
# A record of ours has at most some hundred thousand items (the rates of a price book).
COUNT_CAP = 1_000_000


class AvroError(ValueError):
    """The bytes are no datum of this schema."""


def _crc_table():
    table = []
    for n in range(256):
        fp = n
        for _ in range(8):
            fp = (fp >> 1) ^ (EMPTY if fp & 1 else 0)
        table.append(fp)
    return table


_TABLE = _crc_table()


def crc64(data):
    fp = EMPTY
    for byte in data:
        fp = (fp >> 8) ^ _TABLE[(fp ^ byte) & 0xFF]
    return fp


def canonical(schema, namespace=None):
    """Parsing Canonical Form of a schema, as text."""
    if isinstance(schema, str):
        if schema in PRIMITIVES or "." in schema:
            return json.dumps(schema)
        return json.dumps(f"{namespace}.{schema}" if namespace else schema)
    if isinstance(schema, list):
        return "[" + ",".join(canonical(branch, namespace) for branch in schema) + "]"
    kind = schema["type"]
    if kind in PRIMITIVES:
        return json.dumps(kind)
    if kind == "array":
        return '{"type":"array","items":' + canonical(schema["items"], namespace) + "}"
    name, space = _fullname(schema, namespace)
    head = f'{{"name":{json.dumps(name)},"type":{json.dumps(kind)}'
    if kind == "record":
        fields = ",".join(f'{{"name":{json.dumps(f["name"])},"type":{canonical(f["type"], space)}}}'
                          for f in schema["fields"])
        return f'{head},"fields":[{fields}]}}'
    if kind == "enum":
        return f'{head},"symbols":[{",".join(json.dumps(s) for s in schema["symbols"])}]}}'
    if kind == "fixed":
        return f'{head},"size":{schema["size"]}}}'
    raise AvroError(f"schema of kind {kind}")


def _fullname(schema, namespace):
    name = schema["name"]
    if "." in name:
        return name, name.rpartition(".")[0]
    space = schema.get("namespace", namespace)
    return (f"{space}.{name}" if space else name), space


class Schema:
    """One schema of ours, ready to read and write."""

    def __init__(self, text):
        self.root = json.loads(text)
        self.names = {}
        self._collect(self.root, None)
        self.fingerprint = crc64(canonical(self.root).encode())
        self.frame = MAGIC + self.fingerprint.to_bytes(8, "little")

    def _collect(self, schema, namespace):
        if isinstance(schema, list):
            for branch in schema:
                self._collect(branch, namespace)
        elif isinstance(schema, dict):
            if schema["type"] == "array":
                self._collect(schema["items"], namespace)
            elif schema["type"] in ("record", "enum", "fixed"):
                full, space = _fullname(schema, namespace)
                self.names[full] = self.names[schema["name"]] = schema
                for field in schema.get("fields", ()):
                    self._collect(field["type"], space)

    def decode(self, data):
        """A framed datum as dicts, lists, int, str, bytes, bool and None."""
        if data is None or data[:10] != self.frame:
            raise AvroError("not framed as this record")
        reader = _Reader(data, 10)
        value = self._read(self.root, reader)
        if reader.at != len(data):
            raise AvroError(f"{len(data) - reader.at} bytes left over")
        return value

    def encode(self, value):
        out = bytearray(self.frame)
        self._write(self.root, value, out)
        return bytes(out)

    def _read(self, schema, reader):
        if isinstance(schema, list):
            branch = reader.long()
            if not 0 <= branch < len(schema):
                raise AvroError(f"union branch {branch}")
            return self._read(schema[branch], reader)
        if isinstance(schema, str) and schema not in PRIMITIVES:
            schema = self.names[schema]
        kind = schema if isinstance(schema, str) else schema["type"]
        if kind == "record":
            return {f["name"]: self._read(f["type"], reader) for f in schema["fields"]}
        if kind == "array":
            return self._read_array(schema["items"], reader)
        if kind == "enum":
            index = reader.long()
            if not 0 <= index < len(schema["symbols"]):
                raise AvroError(f"enum symbol {index}")
            return schema["symbols"][index]
        if kind == "fixed":
            return reader.take(schema["size"])
        return reader.primitive(kind)

    def _read_array(self, items, reader):
        out = []
        while (count := reader.long()) != 0:
            end = None
            if count < 0:
                count, size = -count, reader.long()
                if size < 0:
                    raise AvroError("negative block size")
                end = reader.at + size
            if len(out) + count > COUNT_CAP or count > len(reader.data) - reader.at:
                raise AvroError(f"{count} items")
            out += [self._read(items, reader) for _ in range(count)]
            if end is not None and end != reader.at:
                raise AvroError("a block of another size than it says")
        return out

    def _write(self, schema, value, out):
        if isinstance(schema, list):
            index = schema.index("null") if value is None else next(i for i, b in enumerate(schema) if b != "null")
            _write_long(index, out)
            return self._write(schema[index], value, out)
        if isinstance(schema, str) and schema not in PRIMITIVES:
            schema = self.names[schema]
        kind = schema if isinstance(schema, str) else schema["type"]
        if kind == "record":
            for field in schema["fields"]:
                self._write(field["type"], value[field["name"]], out)
        elif kind == "array":
            if value:
                _write_long(len(value), out)
                for item in value:
                    self._write(schema["items"], item, out)
            out.append(0)
        elif kind == "enum":
            _write_long(schema["symbols"].index(value), out)
        elif kind == "fixed":
            assert len(value) == schema["size"], schema
            out += value
        elif kind in ("int", "long"):
            _write_long(value, out)
        elif kind == "boolean":
            out.append(1 if value else 0)
        elif kind in ("string", "bytes"):
            data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
            _write_long(len(data), out)
            out += data
        return None


class _Reader:
    def __init__(self, data, at):
        self.data, self.at = data, at

    def take(self, size):
        if size < 0 or size > len(self.data) - self.at:
            raise AvroError(f"{size} bytes wanted at {self.at}")
        self.at += size
        return bytes(self.data[self.at - size:self.at])

    def long(self):
        value, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if shift == 63 and byte > 1:
                raise AvroError("number over 64 bits")
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7

    def primitive(self, kind):
        if kind == "null":
            return None
        if kind == "boolean":
            byte = self.take(1)[0]
            if byte > 1:
                raise AvroError(f"boolean {byte}")
            return byte == 1
        if kind == "int":
            value = self.long()
            if not -2**31 <= value < 2**31:
                raise AvroError("number over 32 bits")
            return value
        if kind == "long":
            return self.long()
        data = self.take(self.long())
        if kind == "bytes":
            return data
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise AvroError("a text that is no UTF-8") from error
        if "\0" in text:
            raise AvroError("a text with a NUL")
        return text


def _write_long(value, out):
    assert -2**63 <= value < 2**63, value
    number = (value << 1) ^ (value >> 63)
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def load(name):
    """The schema of schemas/<name>.avsc."""
    return Schema((SCHEMAS / f"{name}.avsc").read_text(encoding="utf-8"))


CALL = load("spend_call")
ATTRIBUTED = load("attributed_call")
DEAD_LETTER = load("dead_letter")
ENTRY = load("ledger_entry")
REGISTRY = load("registry_record")
PRICES = load("price_book")
INSTANCE = load("instance")
BUDGET = load("budget_state")
