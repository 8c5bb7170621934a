"""A TCP relay that writes down what passes: put between ingest and what stands behind it, it tells what ingest was really given."""

import contextlib
import io
import socket
import threading
from http.client import HTTPResponse


class Recorded(io.BytesIO):
    """What http.client takes for a socket: several replies are read from one."""

    def makefile(self, *_):
        return self

    def close(self):
        pass


def read_requests(raw):
    """[headers, names in lower case] of the requests on a connection; each body has a Content-Length or none."""
    found = []
    while raw:
        head, _, raw = raw.partition(b"\r\n\r\n")
        lines = [line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:]]
        found.append({name.lower(): value.strip() for name, _, value in lines})
        raw = raw[int(found[-1].get("content-length", 0)):]
    return found


class Tee:
    def __init__(self, port):
        self.port, self.passed = port, []  # [(bytes sent, bytes answered)], of each connection
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self.listener.accept()
                behind = socket.create_connection(("127.0.0.1", self.port))
                self.passed.append((bytearray(), bytearray()))
                for source, sink, room in ((caller, behind, self.passed[-1][0]), (behind, caller, self.passed[-1][1])):
                    threading.Thread(target=self.relay, args=(source, sink, room), daemon=True).start()

    def relay(self, source, sink, room):
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                room += part  # before it goes on: who has got it can look it up
                sink.sendall(part)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self):
        self.listener.close()

    def replies(self):
        """{x-litellm-call-id of the request: (status, headers, body)}; the body without its framing."""
        found = {}
        for sent, answered in list(self.passed):
            stream = Recorded(bytes(answered))
            for headers in read_requests(bytes(sent)):
                reply = HTTPResponse(stream)
                reply.begin()
                found[headers.get("x-litellm-call-id")] = (reply.status, reply.headers, reply.read())
        return found
