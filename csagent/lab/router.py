"""A virtual router to try csagent on, no cloud needed: ``csagent lab router``.

Metadata as Apache on a VR serves it (field/cloudstack#2) and the password server in each of
the shapes that are still met (field/cloudstack#4). Both listen on loopback.
"""

from __future__ import annotations

import socketserver
import threading
import time
from dataclasses import replace
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from csagent import validation
from csagent.lab.cloud import Cloud
from csagent.lab.http_servers import Metadata, Password, Request, Server
from csagent.lab.password_replies import SHAPES

__all__ = ["SHAPES", "Cloud", "LabRouter", "Request"]

OLD = 3600.0  # seconds
ENDING = 60.0  # seconds, for what takes none


class LabRouter:
    """Two servers on one address. Start it, or use it as a context manager.

    Args:
        cloud: what it knows.
        address: where it listens; other loopback addresses stand in for other routers.
        port: of the metadata, 0 for a free one; afterwards `port` is the real one.
        password_port: of the passwords, in the same way.
        shape: of the password server's replies, one of `SHAPES`.
        latency: seconds before each reply.
        style: flat, as a VR, or directory, as EC2 and newer providers (field/cloudstack#2.8).
        log: called with one line for each request.
    """

    def __init__(
        self,
        cloud: Optional[Cloud] = None,
        address: str = "127.0.0.1",
        port: int = 0,
        password_port: int = 0,
        shape: str = "python3",
        latency: float = 0.0,
        *,
        style: str = "flat",
        log: Optional[Callable[[str], None]] = None,
    ) -> None:
        self.address = address
        self.port = port
        self.password_port = password_port
        self.shape = shape
        self.latency = latency
        self.style = style
        self.requests: List[Request] = []
        self.acknowledged: List[str] = []  # the sources, in the order in which they did
        self._cloud = cloud if cloud is not None else Cloud()
        # CloudStack writes the files of a VM before it starts the VM, and again where something is reset.
        self.written: Optional[float] = time.time() - OLD
        self._done: Set[Tuple[str, str]] = set()
        self._log = log
        self._lock = threading.RLock()
        self._servers: List[socketserver.TCPServer] = []
        self._threads: List[threading.Thread] = []

    # --- what it knows --------------------------------------------------------------------------

    @property
    def cloud(self) -> Cloud:
        """What it knows; assign another `Cloud` at any time. A password that is new is waiting again."""
        with self._lock:
            return self._cloud

    @cloud.setter
    def cloud(self, cloud: Cloud) -> None:
        with self._lock:
            before, self._cloud = self._cloud, cloud
            if self.written is not None:
                self.written = time.time()
            self._done = {
                (source, password)
                for source, password in self._done
                if before.seen_from(source).password == cloud.seen_from(source).password
            }

    def change(self, **changes: Any) -> None:
        """Replace fields of the cloud, as a reset in the management server does."""
        with self._lock:
            self.cloud = replace(self._cloud, **changes)

    def waiting(self, source: str) -> Optional[str]:
        """The password that waits for a source."""
        with self._lock:
            password = self._cloud.seen_from(source).password
            return None if password is None or (source, password) in self._done else password

    def answer(self, request: str, source: str) -> Tuple[str, str]:
        """(kind, body) for a request of the password protocol (field/cloudstack#4.2)."""
        with self._lock:
            password = self.waiting(source)
            if request == "send_my_password":
                return ("password", password) if password is not None else ("nothing", "saved_password")
            if request == "saved_password":
                self.acknowledged.append(source)
                if password is not None:
                    self._done.add((source, password))
                return "acknowledged", "saved_password"
            return "bad request", "bad_request"

    def record(self, request: Request) -> None:
        """Keep a request for who is interested, and log it."""
        with self._lock:
            self.requests.append(request)
        what = validation.excerpt(request.what, 200)
        self.say(f"{request.server} {what} from {request.source}: {request.status}")

    def say(self, line: str) -> None:
        """Log a line, where anybody reads the log."""
        if self._log is not None:
            self._log(line)

    def page(self, path: str, source: str) -> Tuple[int, bytes]:
        """Status and body for a path below /latest (field/cloudstack#2.2 and #2.3)."""
        vm = self.cloud.seen_from(source)
        if path == "/latest/user-data":
            return 200, vm.user_data
        tree = vm.tree()
        if self.style == "directory":
            tree = _as_directories(tree)
        for base in ("/latest/meta-data/", "/latest/"):
            if path.startswith(base):
                name = path[len(base) :]
                break
        else:
            return 404, b""
        if name == "" and base == "/latest/meta-data/":
            return 200, listing(tree, self.style)
        if name in tree:
            return 200, tree[name]
        inside = {key[len(name) :]: value for key, value in tree.items() if key.startswith(name)}
        if name.endswith("/") and inside:
            if name == "public-keys/":
                numbers = sorted({key.split("/")[0] for key in inside})
                return 200, "\n".join(f"{number}=key{number}" for number in numbers).encode()
            return 200, listing(inside, self.style)
        return 404, b""

    # --- its servers ----------------------------------------------------------------------------

    def start(self) -> None:
        """Listen and serve, in threads.

        Raises:
            OSError: an address or a port cannot be had.
        """
        try:
            metadata = Server((self.address, self.port), Metadata, self)
            self._servers.append(metadata)
            passwords = Server((self.address, self.password_port), Password, self)
            self._servers.append(passwords)
        except OSError:
            self.stop()
            raise
        self.port, self.password_port = metadata.server_address[1], passwords.server_address[1]
        for server in self._servers:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Stop serving; connections that are kept alive are cut."""
        for server in self._servers[: len(self._threads)]:
            server.shutdown()
        for thread in self._threads:
            thread.join(ENDING)
        for server in self._servers:
            server.server_close()
        self._servers, self._threads = [], []

    def __enter__(self) -> "LabRouter":
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()


def listing(tree: Dict[str, bytes], style: str) -> bytes:
    """The listing, without keys whose name is part of the text so far (field/cloudstack#2.3)."""
    if style == "directory":
        entries = sorted({key.split("/")[0] + ("/" if "/" in key else "") for key in tree})
        return "".join(f"{entry}\n" for entry in entries).encode()
    text = ""
    for key in tree:
        if key not in text:
            text += f"{key}\n"
    return text.encode()


def _as_directories(tree: Dict[str, bytes]) -> Dict[str, bytes]:
    """As the providers that list directories have it: public keys in one each, the other spelling."""
    made = dict(tree)
    for number, line in enumerate(made.pop("public-keys", b"").split(b"\n")):
        if line:
            made[f"public-keys/{number}/openssh-key"] = line + b"\n"
    if "hypervisor-host-name" in made:
        made["hypervisor-hostname"] = made.pop("hypervisor-host-name")
    return made
