"""What the fake provider answers on the operations beside chat completions, as the providers themselves write it.

The numbers are an order's (see fake_provider.py): prompt, cached, written (of it hour), completion, reasoning, images, audio, seconds,
units; each 0 where it is not given.
"""

import base64
import json
import time

AUDIO = b"ID3\x04\x00fake audio" + bytes(range(256))


class Shape:
    """One operation's answer: a plain body, or the events of a stream as (event name or None, document)."""

    done = None  # what ends the stream, where something does

    def __init__(self, document, order, number):
        self.document, self.order, self.id = document, order, f"{number:08d}"
        self.model = order.get("model", document.get("model"))
        self.created = int(time.time())

    def n(self, name):
        return int(self.order.get(name, 0))

    def plain(self):
        """(content type, body)."""
        return "application/json", json.dumps(self.whole()).encode()

    def stream(self):
        return None


class Completion(Shape):
    done = "[DONE]"

    def usage(self):
        return {"prompt_tokens": self.n("prompt"), "completion_tokens": self.n("completion"),
                "total_tokens": self.n("prompt") + self.n("completion")}

    def piece(self, text, **more):
        return {"id": f"cmpl-{self.id}", "object": "text_completion", "created": self.created, "model": self.model,
                "choices": [{"text": text, "index": 0, "logprobs": None, "finish_reason": None}], **more}

    def whole(self):
        return self.piece("This is a fake answer.", usage=self.usage())

    def stream(self):
        options = self.document.get("stream_options")
        asked = isinstance(options, dict) and options.get("include_usage") is True
        events = [(None, self.piece(text)) for text in ("This is ", "a fake ", "answer.")]
        return events + ([(None, {**self.piece(""), "choices": [], "usage": self.usage()})] if asked else [])


class Responses(Shape):
    def usage(self):
        return {"input_tokens": self.n("prompt"), "input_tokens_details": {"cached_tokens": self.n("cached")},
                "output_tokens": self.n("completion"), "output_tokens_details": {"reasoning_tokens": self.n("reasoning")},
                "total_tokens": self.n("prompt") + self.n("completion")}

    def whole(self, status="completed", usage=True):
        text = {"type": "output_text", "text": "This is a fake answer.", "annotations": []}
        return {"id": f"resp_{self.id}", "object": "response", "created_at": self.created, "status": status, "error": None,
                "incomplete_details": None, "model": self.model, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
                "output": [{"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [text]}] if usage else [],
                "usage": self.usage() if usage else None}

    def stream(self):
        events = [("response.created", {"response": self.whole("in_progress", usage=False)})]
        events += [("response.output_text.delta", {"item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": text})
                   for text in ("This is ", "a fake ", "answer.")]
        events.append(("response.completed", {"response": self.whole()}))
        return [(name, {"type": name, "sequence_number": i, **document}) for i, (name, document) in enumerate(events)]


class Messages(Shape):
    def usage(self, output):
        return {"input_tokens": self.n("prompt"), "cache_creation_input_tokens": self.n("written"),
                "cache_read_input_tokens": self.n("cached"),
                "cache_creation": {"ephemeral_5m_input_tokens": self.n("written") - self.n("hour"),
                                   "ephemeral_1h_input_tokens": self.n("hour")},
                "output_tokens": output, "service_tier": self.order.get("tier", "standard")}

    def whole(self, content=True):
        return {"id": f"msg_{self.id}", "type": "message", "role": "assistant", "model": self.model,
                "content": [{"type": "text", "text": "This is a fake answer."}] if content else [],
                "stop_reason": "end_turn" if content else None, "stop_sequence": None,
                "usage": self.usage(self.n("completion") if content else 1)}

    def stream(self):
        events = [("message_start", {"message": self.whole(content=False)}),
                  ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}), ("ping", {})]
        events += [("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": text}})
                   for text in ("This is ", "a fake ", "answer.")]
        events += [("content_block_stop", {"index": 0}),
                   ("message_delta", {"delta": {"stop_reason": "end_turn", "stop_sequence": None},
                                      "usage": {"output_tokens": self.n("completion")}}),
                   ("message_stop", {})]
        return [(name, {"type": name, **document}) for name, document in events]


class CountTokens(Shape):
    def whole(self):
        return {"input_tokens": self.n("prompt")}


class Embeddings(Shape):
    def whole(self):
        return {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.1, -0.2, 0.3]}], "model": self.model,
                "usage": {"prompt_tokens": self.n("prompt"), "total_tokens": self.n("prompt")}}


class Rerank(Shape):
    def whole(self):
        return {"id": self.id, "results": [{"index": 0, "relevance_score": 0.9}],
                "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": self.n("units")}}}


class Images(Shape):
    def usage(self):
        return {"input_tokens": self.n("prompt"), "output_tokens": self.n("completion"),
                "total_tokens": self.n("prompt") + self.n("completion"),
                "input_tokens_details": {"text_tokens": self.n("prompt") - self.n("images"), "image_tokens": self.n("images")}}

    def whole(self):
        image = {"b64_json": base64.b64encode(b"fake image").decode()}
        return {"created": self.created, "data": [image] * int(self.document.get("n") or 1),
                **({"usage": self.usage()} if self.n("prompt") else {})}


class Speech(Shape):
    def plain(self):
        return "audio/mpeg", AUDIO


class Transcription(Shape):
    def whole(self):
        if self.n("prompt"):
            usage = {"type": "tokens", "input_tokens": self.n("prompt"), "output_tokens": self.n("completion"),
                     "total_tokens": self.n("prompt") + self.n("completion"),
                     "input_token_details": {"text_tokens": self.n("prompt") - self.n("audio"), "audio_tokens": self.n("audio")}}
            return {"text": "fake words", "usage": usage}
        if "seconds" in self.order:
            return {"task": "transcribe", "language": "english", "duration": float(self.order["seconds"]), "text": "fake words"}
        return {"text": "fake words"}


# The first that fits: longer ends before their own tails.
SHAPES = (("/completions", Completion), ("/responses", Responses), ("/messages", Messages), ("/count_tokens", CountTokens),
          ("/embeddings", Embeddings), ("/rerank", Rerank), ("/images/generations", Images), ("/images/edits", Images),
          ("/audio/speech", Speech), ("/audio/transcriptions", Transcription))


def find(path):
    return next((shape for end, shape in SHAPES if path.endswith(end)), None)


def sse(name, document):
    return (f"event: {name}\n" if name else "").encode() + f"data: {json.dumps(document)}\n\n".encode()
