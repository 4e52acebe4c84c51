"""Repositories: files of apt's sources, keys from a key server, answers that packages will ask for."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, List, NamedTuple, Tuple

from csagent.model import Secret
from csagent.user_data.execute.packages import InstallPackages, RefreshIndex

if TYPE_CHECKING:
    from csagent.user_data.machine import Machine

SECONDS = 60.0
FETCH_PAUSES = (1.0, 1.0)  # seconds; key servers are unreliable
LIST_LIMIT = 1 << 20
PUBLIC = 0o644
_CREDENTIALS = re.compile(r"://[^/\s]*@")
PRIMARY, SECURITY = "\ue000primary\ue001", "\ue000security\ue001"  # private use: nothing that is typed


class MirrorSearch(NamedTuple):
    """Mirrors of which the first one is taken whose name is known.

    In a text they stand as `PRIMARY` and `SECURITY`. What is found as the first serves as the second, too;
    `otherwise` has what serves where nothing is found.
    """

    primary: Tuple[str, ...] = ()
    security: Tuple[str, ...] = ()
    otherwise: Tuple[str, str] = ("", "")

    def fill(self, machine: "Machine", text: str) -> str:
        """The text with what was found."""
        if PRIMARY not in text and SECURITY not in text:
            return text
        primary = _first_known(machine, self.primary)
        security = _first_known(machine, self.security) or primary or self.otherwise[1]
        return text.replace(PRIMARY, primary or self.otherwise[0]).replace(SECURITY, security)


def _first_known(machine: "Machine", urls: Tuple[str, ...]) -> str:
    import socket
    from urllib.parse import urlsplit

    for url in urls:
        if not machine.system.live:
            return url
        try:
            socket.getaddrinfo(urlsplit(url).hostname, None)
        except (OSError, ValueError):
            continue
        return url
    return ""


class SourcesFile(NamedTuple):
    """A file of apt's sources, written anew, or with this at its end where it does not have it yet."""

    path: str
    content: Secret
    search: MirrorSearch = MirrorSearch()
    append: bool = True
    removes: str = ""  # the file that it takes the place of

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        text = self.search.fill(machine, self.content.reveal().decode("utf-8", "surrogateescape"))
        if self.append and machine.system.tree.exists(self.path):
            before = machine.system.tree.read_text(self.path, LIST_LIMIT) or ""
            mode = _mode(before + text)
            machine.change(
                self.path, lambda now: now if text in now else now + text, mode, keep=mode == PUBLIC
            )
        else:
            machine.write(self.path, text.encode("utf-8", "surrogateescape"), _mode(text))
        if self.removes:
            machine.remove(self.removes)


def _mode(text: str) -> int:
    """A password in a URL is for apt alone."""
    return 0o600 if _CREDENTIALS.search(text) else PUBLIC


class FetchKey(NamedTuple):
    """Fetch a key with gpg, into a key ring of its own, and write it for apt."""

    key_id: str
    server: str
    path: str

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        import shutil
        import tempfile

        fetch = ["--keyserver", self.server, "--recv-keys", self.key_id]
        if not machine.system.live:
            machine.shown_commands.append(" ".join(["gpg", *fetch]))
            return
        if not machine.system.runner.available("gpg"):
            RefreshIndex("debian").carry_out(machine)
            InstallPackages("debian", ("gnupg",)).carry_out(machine)
        home = tempfile.mkdtemp(prefix="csagent-gpg-")
        try:
            gpg = ["gpg", "--batch", "--quiet", "--homedir", home]
            self._received(machine, [*gpg, *fetch])
            ring = os.path.join(home, "key")
            machine.command([*gpg, "--output", ring, "--export", self.key_id])
            with open(ring, "rb") as stream:
                machine.write(self.path, stream.read(1 << 20), 0o644)
        except OSError as error:
            machine.fail(f"gpg has exported no key: {error.strerror}")
        finally:
            machine.tries(lambda: machine.command(["gpgconf", "--homedir", home, "--kill", "all"]))
            shutil.rmtree(home, ignore_errors=True)

    @staticmethod
    def _received(machine: "Machine", words: List[str]) -> None:
        for pause in FETCH_PAUSES:
            if machine.tries(lambda: machine.command(words)):
                return
            machine.system.clock.sleep(pause)
        machine.command(words)


class SetSelections(NamedTuple):
    """Answer questions of packages beforehand. They may be passwords: they go in on standard input."""

    text: Secret

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        if not machine.system.live:
            machine.shown_commands.append("debconf-set-selections")
            return
        words = ["debconf-set-selections"]
        done = machine.system.runner.run(words, stdin=self.text.reveal(), timeout=SECONDS)
        if done.code != 0:
            machine.fail("debconf-set-selections does not accept the answers", done.code)
