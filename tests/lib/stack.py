"""A private Spendline for a test: its own Kafka, Postgres, provider and state directory, and as many of each service as
the test wants, to be killed and restarted one by one.

Kafka, Postgres, the provider and LiteLLM come from deploy/local/up --dir DIR; the services are started here, since tests
need several of one kind, other binaries (build/asan/bin) and other flags. All of them leave the pid files that
deploy/local/down reads, so `down --dir DIR` clears up whatever a test left.

    with Stack(bin_dir=ROOT / "build/release/bin") as stack:
        stack.start_services()
        ...
"""

import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / "deploy" / "local"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
# Beyond the blocks that `up` hands out, and below the kernel's range for outgoing connections.
REPLICA_PORTS = range(32000, 32768)
PORT_CLAIMS = Path(tempfile.gettempdir()) / "spendline-ports"  # one lock file a port
CLAIMS = []  # those that are open here
SANITIZER_SIGNS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:", "WARNING: ThreadSanitizer")


def wait_until(condition, timeout_s=30.0, what="a condition", every_s=0.05):
    """The condition's first true value. Raises TimeoutError with its last value or error."""
    end = time.monotonic() + timeout_s
    last = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except (OSError, urllib.error.URLError, KeyError, LookupError, AssertionError) as error:
            last = error
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {timeout_s} s (last: {last!r})")
        time.sleep(every_s)


def free_port():
    """A port that nobody uses, ours until this process ends: a service that is down keeps it, also from other runs."""
    PORT_CLAIMS.mkdir(exist_ok=True)
    for _ in range(500):
        port = random.choice(REPLICA_PORTS)
        claim = os.open(PORT_CLAIMS / str(port), os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(claim)
            continue
        CLAIMS.append(claim)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise OSError("no free port")


def install_and_build(*parts, programs=("spend-ingest", "spend-bench-provider", "spend-bench-produce")):
    """Whatever is missing of these parts of deploy/local/install, and these programs of the release build: those that a bench of ingest needs."""
    for step in (*(["deploy/local/install", part, "--quiet"] for part in parts),
                 ["cmake", "--preset", "release", "--log-level=WARNING"],
                 ["cmake", "--build", "--preset", "release", "--target", *programs]):
        subprocess.run(step, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def unread_bytes(port):
    """What a local port has sent and the readers of its connections have not taken yet."""
    count, end = 0, f":{port:04X}"
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, here, there, _, queues, *_ = line.split()
        unsent, unread = (int(number, 16) for number in queues.split(":"))
        count += (unsent if here.endswith(end) else 0) + (unread if there.endswith(end) else 0)
    return count


def process_birth(pid):
    """Start time of a living process, None for none or a zombie (the same rule as lib/process.sh)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def http(method, url, body=None, headers=None, timeout_s=30):
    """(status, headers, bytes); an error status is an answer like any other. Never through a proxy."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers=dict(headers or {}))
    if data is not None and not isinstance(body, bytes):
        request.add_header("Content-Type", "application/json")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


class Service:
    """One process of ours. Its log goes on over restarts; its ports stay."""

    def __init__(self, stack, name, program, env, flags=(), listens=False):
        self.stack, self.name, self.program, self.flags = stack, name, program, list(flags)
        self.admin_port = free_port()
        self.port = free_port() if listens else None
        self.env = {**env, "SPEND_ADMIN_LISTEN": f"127.0.0.1:{self.admin_port}"}
        if listens:
            self.env["SPEND_LISTEN"] = f"127.0.0.1:{self.port}"
        self.log_path = stack.dir / "log" / f"{name}.log"
        self.pid_path = stack.dir / "run" / f"{name}.pid"
        self.process = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin_url(self):
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    def start(self, wait=True, env=None, flags=None):
        """Starts it (again), with other variables or flags from now on if given."""
        assert not self.alive, f"{self.name} runs"
        self.env.update(env or {})
        self.flags = self.flags if flags is None else list(flags)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [str(self.stack.bin_dir / self.program), *self.flags], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env=self.stack.clean_env(self.env), start_new_session=True)
        self.pid_path.write_text(f"{self.process.pid} {process_birth(self.process.pid)} {BOOT_ID}\n", encoding="ascii")
        if wait:
            self.wait_ready()
        return self

    def ready(self):
        try:
            return http("GET", self.admin_url + "/readyz", timeout_s=2)[0] == 200
        except OSError:
            return False

    def wait_ready(self, timeout_s=60):
        def ready_or_dead():
            if not self.alive:
                raise RuntimeError(f"{self.name} ended with {self.process.returncode}:\n{self.log_tail()}")
            return self.ready()
        try:
            wait_until(ready_or_dead, timeout_s, f"{self.name} ready")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.log_tail()}") from None

    def kill(self, number=signal.SIGKILL):
        """Sends a signal to this very process; after SIGKILL waits until it is gone."""
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait(30)
            self.pid_path.unlink(missing_ok=True)

    def restart(self, **how):
        self.kill()
        return self.start(**how)

    def stop(self, timeout_s=60):
        """SIGTERM; it must drain, leave with 0, and no sanitizer may have spoken."""
        if self.process is None:
            return
        if self.alive:
            self.process.send_signal(signal.SIGTERM)
            try:
                code = self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"{self.name} did not stop in {timeout_s} s\n{self.log_tail()}") from None
            self.check_log()
            assert code == 0, f"{self.name} left with {code}\n{self.log_tail()}"
        self.pid_path.unlink(missing_ok=True)
        self.check_log()

    def check_log(self):
        log = self.log()
        for sign in SANITIZER_SIGNS:
            assert sign not in log, f"{self.name}: {sign}\n{log[log.index(sign) - 200:][:4000]}"

    def log(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines=20):
        return "\n".join(self.log().splitlines()[-lines:])

    def metrics(self):
        """{"name{labels}": value} of /metrics."""
        text = http("GET", self.admin_url + "/metrics")[2].decode()
        rows = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}


class Stack:
    def __init__(self, directory=None, bin_dir=None, parts=("kafka", "postgres", "provider"), env=None):
        """env: SPEND_* for every service. STACKS_DIR (set by tests/run) says where directories are made."""
        parent = os.environ.get("STACKS_DIR")
        self.dir = Path(directory or tempfile.mkdtemp(prefix="spendline-", dir=parent)).resolve()
        self.dir.mkdir(parents=True, exist_ok=True)
        self.dir.chmod(0o711)  # Postgres may run as another user
        self.bin_dir = Path(bin_dir or os.environ.get("SPENDLINE_BIN") or ROOT / "build/release/bin").resolve()
        self.parts, self.env = list(parts), dict(env or {})
        self.services = {}

    def __enter__(self):
        self.up(*self.parts)
        return self

    def __exit__(self, kind, *_):
        # a failed test keeps its logs, when the one who runs the tests asked for that
        self.close(purge=not (kind and os.environ.get("KEEP_FAILED")))

    # -- what deploy/local starts

    def clean_env(self, more=()):
        """The environment without anybody's SPEND_*, and then ours."""
        base = {name: value for name, value in os.environ.items() if not name.startswith("SPEND_")}
        return {**base, **dict(more)}

    def up(self, *parts):
        """Starts what has died of these parts: kafka, postgres, provider, litellm."""
        command = [str(LOCAL / "up"), "--dir", str(self.dir), "--bin", str(self.bin_dir), "--only", ",".join(parts)]
        self.bin_dir.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(command, env=self.clean_env(), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")

    def part_pid(self, part):
        pid, birth, boot = (self.dir / "run" / f"{part}.pid").read_text(encoding="ascii").split()
        assert boot == BOOT_ID and process_birth(pid) == birth, f"{part} does not run"
        return int(pid)

    def kill_part(self, part, number=signal.SIGKILL):
        """Kills kafka, postgres, provider or litellm by its own pid; up(part) brings it back with its data."""
        pid = self.part_pid(part)
        birth = process_birth(pid)
        os.kill(pid, number)
        if number != signal.SIGSTOP:
            wait_until(lambda: process_birth(pid) != birth, 60, f"{part} gone")

    def port(self, name):
        lines = (self.dir / "ports").read_text(encoding="ascii").split()
        return int(dict(line.split("=") for line in lines)[name])

    def secret(self, name):
        lines = (self.dir / "secrets").read_text(encoding="ascii").split()
        return dict(line.split("=") for line in lines)[name]

    @property
    def brokers(self):
        return f"127.0.0.1:{self.port('kafka')}"

    def database_url(self, role="postgres"):
        """postgres is the superuser; spend_owner migrates; spend_ledger is the ledger's own."""
        secret = {"postgres": "postgres", "spend_owner": "owner", "spend_ledger": "ledger"}[role]
        return f"postgresql://{role}:{self.secret(secret)}@127.0.0.1:{self.port('postgres')}/spend"

    @property
    def provider_url(self):
        return f"http://127.0.0.1:{self.port('provider')}"

    @property
    def litellm_url(self):
        return f"http://127.0.0.1:{self.port('litellm')}"

    @property
    def litellm_key(self):
        return f"sk-{self.secret('litellm')}"

    def log_path(self, name):
        return self.dir / "log" / f"{name}.log"

    def provider_calls(self):
        """The provider's own account: one object for each answer it gave."""
        return self._json_lines("provider-calls.jsonl")

    def litellm_callbacks(self):
        return self._json_lines("litellm-callbacks.jsonl")

    def _json_lines(self, name):
        path = self.dir / "log" / name
        if not path.exists():
            return []
        whole = path.read_text(encoding="utf-8")
        # a line that is being written has no end yet
        return [json.loads(line) for line in whole[:whole.rfind("\n") + 1].splitlines()]

    def deadlocks(self):
        return self._postgres_said("deadlock detected")

    def long_waits(self):
        """How often something has waited for a lock for over deadlock_timeout, 100 ms here."""
        return self._postgres_said(" still waiting for ")

    def _postgres_said(self, text):
        return self.log_path("postgres").read_text(encoding="utf-8", errors="replace").count(text)

    # -- our services

    def migrate(self):
        done = subprocess.run([str(self.bin_dir / "spend-ledger"), "migrate"], capture_output=True, text=True, check=False,
                              env=self.clean_env({"SPEND_DATABASE_URL": self.database_url("spend_owner")}))
        assert done.returncode == 0, done.stderr
        return done

    def _service(self, name, program, env, more_env, flags, listens=False):
        assert name not in self.services, f"{name} is there already"
        all_env = {"SPEND_KAFKA_BROKERS": self.brokers, **env, **self.env, **(more_env or {})}
        self.services[name] = Service(self, name, program, all_env, flags, listens)
        return self.services[name]

    def ledger(self, name="ledger", env=None, flags=()):
        """A ledger, not started yet."""
        return self._service(name, "spend-ledger", {
            "SPEND_DATABASE_URL": self.database_url("spend_ledger"), "SPEND_OPERATOR_TOKEN": self.secret("operator"),
            "SPEND_READER_TOKEN": self.secret("reader"), "SPEND_INGEST_TOKEN": self.secret("ingest"),
            "SPEND_REPLICA": name}, env, flags, listens=True)

    def attributor(self, name="attributor", env=None, flags=()):
        return self._service(name, "spend-attributor", {"SPEND_REPLICA": name}, env, flags)

    def ingest(self, name="ingest", upstream=None, env=None, flags=(), journal=None):
        """An ingest; all of a stack share one journal directory unless told otherwise."""
        ledger = self.services.get("ledger")
        wiring = {
            "SPEND_UPSTREAM_URL": upstream or self.provider_url, "SPEND_SPEND_LOG_SECRET": self.secret("spend_log"),
            "SPEND_JOURNAL_DIR": str(journal or self.dir / "journal"), "SPEND_LEDGER_TOKEN": self.secret("ingest"),
            "SPEND_OPERATOR_TOKEN": self.secret("operator")}
        if ledger:
            wiring["SPEND_LEDGER_URL"] = ledger.url
        Path(wiring["SPEND_JOURNAL_DIR"]).mkdir(parents=True, exist_ok=True)
        return self._service(name, "spend-ingest", wiring, env, flags, listens=True)

    def start_services(self, upstream=None, ingest=True):
        """Migrations, then one of each (ingest where it is wanted), ready; upstream: of ingest, the provider unless told otherwise."""
        self.migrate()
        self.ledger().start()
        self.attributor().start()
        if ingest:
            self.ingest(upstream=upstream).start()

    def api(self, method, path, body=None, token="operator", ledger="ledger"):
        """(status, document) of a ledger's API; ids in the path are the caller's to encode."""
        status, _, raw = http(method, self.services[ledger].url + path, body,
                              {"Authorization": f"Bearer {self.secret(token)}"})
        return status, json.loads(raw) if raw else None

    def spendctl(self, *args, check=True):
        """Runs spendctl with this stack's connections."""
        env = self.clean_env({
            "SPEND_LEDGER_URL": self.services["ledger"].url, "SPEND_LEDGER_TOKEN": self.secret("operator"),
            "SPEND_KAFKA_BROKERS": self.brokers, "SPEND_DATABASE_URL": self.database_url()})
        return subprocess.run([str(self.bin_dir / "spendctl"), *args], env=env, capture_output=True, text=True, check=check)

    # -- the end

    def stop_services(self):
        """Callers first; each must drain and leave with 0. Raises the first complaint after all have stopped."""
        complaint = None
        for service in reversed(list(self.services.values())):
            try:
                service.stop()
            except AssertionError as error:
                complaint = complaint or error
        if complaint:
            raise complaint

    def close(self, purge=True):
        try:
            self.stop_services()
        finally:
            command = [str(LOCAL / "down"), "--dir", str(self.dir)] + (["--purge"] if purge else [])
            subprocess.run(command, check=True, capture_output=True, env=self.clean_env())
            if purge:
                shutil.rmtree(self.dir, ignore_errors=True)
