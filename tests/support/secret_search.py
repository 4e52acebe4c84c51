"""Searches everything that a run of csagent leaves behind for a secret, in any spelling it could have.

A run takes place in a box: this machine's own root file system under an overlay, in namespaces of its own.
So the overlay's upper directory is the exact list of the files written anywhere, and strace(1), which stops
every process at its execve(2), gives argv and environment of every process ever started, not a sample.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape, quoteattr

from csagent.lab.vm.namespace import Namespace, end_holder
from support.printed_lines import line_of

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE = 600.0
LOG = "/audit"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SABOTEUR = REPOSITORY / "tests/support/faulty_csagent.py"

# What an operator may have set, thinking of Python and not of us.
ENVIRONMENT = {
    "PATH": PATH,
    "HOME": "/root",
    "COLUMNS": "200",
    "PYTHONDEVMODE": "1",
    "PYTHONFAULTHANDLER": "1",
    "PYTHONTRACEMALLOC": "1",
}


# --- the forms of a secret --------------------------------------------------------------------------


def forms(secret: bytes, *, known: Sequence[str] = ()) -> Dict[str, bytes]:
    """Every spelling that is searched for, by name; `known` are those that may be there."""
    text = secret.decode()
    found = {
        "text": secret,
        "utf-16": text.encode("utf-16-le"),
        "utf-16-be": text.encode("utf-16-be"),
        "latin-1": text.encode("latin-1", "replace"),
        "quote": quote(text, safe="").encode(),
        "quote, some safe": quote(text).encode(),
        "quote_plus": quote_plus(text).encode(),
        "quote, lower": re.sub("%[0-9A-F]{2}", lambda one: one[0].lower(), quote(text, safe="")).encode(),
        "json": json.dumps(text)[1:-1].encode(),
        "json, not ascii": json.dumps(text, ensure_ascii=False)[1:-1].encode(),
        "xml": escape(text).encode(),
        "xml attribute": quoteattr(text)[1:-1].encode(),
        "html": html.escape(text).encode(),
        "repr": repr(text)[1:-1].encode(),
        "repr of bytes": repr(secret)[2:-1].encode(),
        "shell": shlex.quote(text).encode(),
        "hex": secret.hex().encode(),
        "HEX": secret.hex().upper().encode(),
    }
    for name in ("md5", "sha1", "sha256", "sha512"):
        for ending, what in ((b"", name), (b"\n", f"{name} with a newline")):
            digest = hashlib.new(name, secret + ending, usedforsecurity=False).digest()
            found[what] = digest.hex().encode()
            found[f"{what}, upper"] = digest.hex().upper().encode()
            found[f"{what}, short"] = digest.hex().lstrip("0").encode()
            found[f"{what}, base64"] = base64.b64encode(digest).rstrip(b"=")
    for offset in range(3):
        for what, encode in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)):
            whole = encode(b"\0" * offset + secret)
            # The first characters hold bits of what stands before, the last of what stands behind.
            found[f"{what} at {offset}"] = whole[(0, 2, 3)[offset] : (offset + len(secret)) * 8 // 6]
    return {name: form for name, form in found.items() if name not in known}


def leaks(raw: bytes, searched: Dict[str, bytes]) -> List[str]:
    """The names of the forms that are in there."""
    return [name for name, form in searched.items() if form in raw]


# --- the box ----------------------------------------------------------------------------------------

SCRIPT = r"""
set -e
mount --make-rprivate /
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
rm -rf dev/* run/* 2>/dev/null || true
for device in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 0666 "dev/${device%:*}" c 1 "${device#*:}"
done
ln -s /proc/self/fd dev/fd
mkdir -p dev/shm cores audit run/old
chmod 1777 dev/shm cores
hostname template
pivot_root . run/old
exec env -i PATH="$2" sh -c 'umount -l /run/old && rmdir /run/old && echo up && exec cat >/dev/null'
"""


class Ran(NamedTuple):
    """One run of a command in the box."""

    code: int
    out: bytes
    err: bytes


class Box:
    """This machine, but nothing that happens in it stays."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.namespace = Namespace()
        flags = ["--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]
        words = ["unshare", *flags, "sh", "-c", SCRIPT, "box", str(directory), PATH]
        self._holder = subprocess.Popen(
            self.namespace.command(words), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        if line_of(self._holder) != b"up\n":
            self.close()
            raise RuntimeError("no box: the error of its script is above")
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
        self.pid = int(children[0])
        self.traces = 0
        self.logged: List[bytes] = []  # by PAM, for example
        self._syslog = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._syslog.bind(f"/proc/{self.pid}/root/dev/log")
        os.chmod(f"/proc/{self.pid}/root/dev/log", 0o666)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.logged.append(self._syslog.recv(65536))

    def inside(self, words: Sequence[str], env: Optional[Dict[str, str]] = None) -> List[str]:
        """The command line that runs `words` inside."""
        enter = ["nsenter", f"--target={self.pid}", "--net", "--mount", "--uts", "--ipc", "--pid", "--"]
        settings = [f"{name}={value}" for name, value in {**ENVIRONMENT, **(env or {})}.items()]
        return [*enter, "env", "-i", *settings, *words]

    def traced(self, words: Sequence[str]) -> List[str]:
        """The command line that runs `words` inside and notes each execve and connect of its whole family."""
        self.traces += 1
        strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-v", "-xx", "-s", "1000000", "-e", "signal=none"]
        return self.inside(
            [*strace, "-e", "trace=execve,execveat,connect", "-o", f"{LOG}/{self.traces}", *words]
        )

    def run(self, *words: str, traced: bool = True) -> Ran:
        """Run a command to its end, with core dumps as large as they like."""
        shell = ["sh", "-c", 'ulimit -c unlimited; cd /cores; exec "$@"', "sh", *words]
        command = self.traced(shell) if traced else self.inside(shell)
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE, check=False
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def csagent(self, *words: str, traced: bool = True) -> Ran:
        """Run csagent, on the box's own root."""
        return self.run(sys.executable, "-m", "csagent", *words, traced=traced)

    @contextlib.contextmanager
    def background(self, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a command for as long as the block, which must end it."""
        with open(self.directory / "background", "wb") as output:
            process = subprocess.Popen(
                self.traced(list(words)), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait(600)

    def pids(self, words: str) -> List[int]:
        """The processes in the box, by the number they have outside, whose command line begins so."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                mine = os.readlink(path.parent / "ns/mnt") == os.readlink(f"/proc/{self.pid}/ns/mnt")
                if mine and line.startswith(words):
                    found.append(int(path.parent.name))
        return sorted(found)

    # --- what came of it ---

    @property
    def upper(self) -> Path:
        return self.directory / "upper"

    def written(self) -> Iterator[Path]:
        """Every file that was written anywhere, but for the notes of strace."""
        for base, directories, names in os.walk(self.upper):
            if base == str(self.upper):
                directories.remove("audit")
            for name in names:
                path = Path(base) / name
                if path.is_file() and not path.is_symlink():
                    yield path

    def cores(self) -> List[Path]:
        named = [path for path in self.written() if path.name.startswith("core")]
        return [path for path in named if path.read_bytes()[:4] == b"\x7fELF"]

    def executions(self) -> bytes:
        """argv and environment of every process, decoded, one execve a line; a line for each connect."""
        lines = []
        for path in sorted((self.upper / LOG.lstrip("/")).iterdir()):
            for line in path.read_bytes().splitlines():
                lines.append(re.sub(rb"\\x([0-9a-f]{2})", lambda one: bytes.fromhex(one[1].decode()), line))
        return b"\n".join(lines)

    def close(self) -> None:
        """End it and everything in it."""
        end_holder(self._holder)
        self.namespace.close()


def until(condition: "object", seconds: float = 120.0) -> bool:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


def stop(pid: int) -> None:
    """Ask a process to end."""
    os.kill(pid, signal.SIGTERM)
