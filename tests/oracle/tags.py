"""The tag set: a union over every source, the same bytes once, order and origins kept. And the checks of a record."""

RESERVED = {"account": "account_id", "task": "task", "conversation": "conversation"}
TAGS = 64
TAG_BYTES = 256
ORIGINS = ("header", "root", "metadata", "litellm_metadata", "user", "key", "event")


def octets(text):
    return text.encode("utf-8", "surrogateescape")


def split(raw):
    """(key, value): before and after the first '=', else ':'; (None, None) without either."""
    for separator in "=:":
        key, found, value = raw.partition(separator)
        if found:
            return key, value
    return None, None


def is_bound(tag):
    """Only the registry's: the caller did not send it."""
    return set(tag["origins"]) == {"key"}


def is_utf8(text):
    """No lone bytes (surrogateescape shows them as surrogates) and no surrogates."""
    return not any(0xD800 <= ord(c) <= 0xDFFF for c in text)


def has_control(text):
    return any(ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F for c in text)


class TagSet:
    """What capture makes of the places a tag can stand in."""

    def __init__(self):
        self.tags = []
        self.empty = self.non_string = self.refused = 0
        self.fault = None

    def add_list(self, text, origin):
        for item in text.split(","):
            self._add(item.strip(" \t"), origin)

    def add_item(self, text, origin):
        self._add(text, origin)

    def add_user(self, user):
        if user:
            self._add(f"end_user={user}", "user")
        else:
            self.empty += 1

    def _add(self, raw, origin):
        if raw == "":
            self.empty += 1
            return
        fault = self._fault(raw)
        for tag in self.tags:
            if fault is None and tag["raw"] == raw:
                if origin not in tag["origins"]:
                    tag["origins"] = [o for o in ORIGINS if o in (*tag["origins"], origin)]
                return
        if fault is None and len(self.tags) == TAGS:
            fault = "too_many"
        if fault:
            self.refused += 1
            self.fault = self.fault or fault
            return
        key, value = split(raw)
        self.tags.append({"raw": raw, "key": key, "value": value, "origins": [origin]})

    @staticmethod
    def _fault(raw):
        if len(octets(raw)) > TAG_BYTES:
            return "too_long"
        if not is_utf8(raw):
            return "encoding"
        return "control" if has_control(raw) else None


def named(tags, key):
    """The different values a reserved key has, in order; empty ones name nothing."""
    values = []
    for tag in tags:
        if tag["key"] == key and tag["value"] and tag["value"] not in values:
            values.append(tag["value"])
    return values
