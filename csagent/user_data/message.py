"""A document taken apart: gzip once, MIME messages with all they hold, and what each part is.

The rules are those of cloud-init's UserDataProcessor, and the messages those of JavaMail, as CloudStack's
server makes them, and of people: without names, with folded headers, without the last boundary.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from csagent.model import NOTHING
from csagent.sources.user_data_kind import GZIP_MAGIC, header_kind, is_message
from csagent.user_data.plan import Include

if TYPE_CHECKING:
    from email.message import Message

UNPACKED_LIMIT = 8 << 20  # bytes of a document unpacked, and of all that it includes
PARTS_LIMIT = 1000
INCLUDES_LIMIT = 10
INCLUDES_DEPTH = 2

NO_MESSAGE = "text/x-not-multipart"  # as cloud-init calls what is no message
LOOKED_INTO = ("text/plain", NO_MESSAGE, "text/x-shellscript")
GZIPPED = (
    *("application/gzip", "application/gzip-compressed", "application/gzipped", "application/x-compress"),
    *("application/x-compressed", "application/x-gunzip", "application/x-gzip"),
    "application/x-gzip-compressed",
)
TYPES = {
    "text/x-shellscript": "script",
    "text/x-shellscript-per-boot": "script-per-boot",
    "text/x-shellscript-per-instance": "script-per-instance",
    "text/x-shellscript-per-once": "script-per-once",
    "text/cloud-config": "cloud-config",
    "text/cloud-config-archive": "archive",
    "text/cloud-config-jsonp": "json-patch",
    "text/cloud-boothook": "boothook",
    "text/jinja2": "jinja",
    "text/part-handler": "part-handler",
    "text/x-include-url": "include",
    "text/x-include-once-url": "include",
}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_\-.()]")


class Name(NamedTuple):
    """What a part is called, and whether its Content-Disposition says so or only its Content-Type."""

    text: str
    disposed: bool


NO_NAME = Name("", False)


class Piece(NamedTuple):
    """One part as it came. `kind` is "" where neither its type nor its first words say what it is."""

    name: str
    kind: str
    content: bytes
    type: str = NO_MESSAGE
    headers: Mapping[str, str] = NOTHING
    problem: str = ""  # why it cannot be read
    named: bool = False  # the name is the document's, not ours


class Fetched(NamedTuple):
    """What came of a URL: its content, or why there is none."""

    content: bytes = b""
    problem: str = ""


class Unpacked(NamedTuple):
    """A whole document. `wanted` is what it includes and what was not fetched."""

    pieces: Tuple[Piece, ...]
    wanted: Tuple[Include, ...] = ()


def gunzip(content: bytes) -> Tuple[bytes, str]:
    """What is packed in a gzip file, unpacked once, or the content with why it cannot be."""
    import gzip
    import zlib

    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            unpacked = stream.read(UNPACKED_LIMIT + 1)
    except (OSError, EOFError, zlib.error) as error:
        return content, f"gzip that cannot be unpacked ({_cut(error)})"
    if len(unpacked) > UNPACKED_LIMIT:
        return content, f"gzip of more than {UNPACKED_LIMIT >> 20} MiB"
    return unpacked, ""


def _cut(error: Exception) -> str:
    return "it is cut short" if isinstance(error, EOFError) else "it is damaged"


def includes(text: str) -> List[Include]:
    """The URLs of an include, one a line; the first may stand behind the header."""
    found = []
    once = False
    for line in text.splitlines():
        start = line.lower()
        for header in ("#include-once", "#include"):
            if start.startswith(header):
                line, once = line[len(header) :].lstrip(), header.endswith("once")
                break
        if line.strip() and not line.startswith("#"):
            found.append(Include(line.strip(), once))
    return found


def file_name(name: str) -> str:
    """A part's name as the name of a file: odd characters dropped, as cloud-init drops them."""
    cleaned = _NOT_IN_NAMES.sub("", name.replace("/", "_"))
    return "" if cleaned in (".", "..") else cleaned[:200]


def unpack(document: bytes, fetched: Callable[[str], Optional[Fetched]] = lambda url: None) -> Unpacked:
    """Take a document apart.

    Args:
        document: as it came.
        fetched: what came of a URL; None where nobody has tried.
    """
    work = _Unpacking(fetched)
    work.blob(document, 0)
    return Unpacked(tuple(work.pieces), tuple(work.wanted))


class _Unpacking:
    def __init__(self, fetched: Callable[[str], Optional[Fetched]]) -> None:
        self._fetched = fetched
        self._left = UNPACKED_LIMIT
        self._included = 0
        self._count = 0
        self.pieces: List[Piece] = []
        self.wanted: List[Include] = []

    def blob(self, content: bytes, depth: int) -> None:
        """A document, or what an include brought."""
        if content.startswith(GZIP_MAGIC):
            content, problem = gunzip(content)
            if problem:
                self._add("gzip", content, problem=problem)
                return
        self._left -= len(content)
        if self._left < 0:
            self._add("", b"", problem=f"more than {UNPACKED_LIMIT >> 20} MiB in all")
            return
        if is_message(content):
            import email

            self._message(email.message_from_bytes(content), depth)
        else:
            self._typed(NO_MESSAGE, content, NO_NAME, {}, depth)

    def _message(self, message: "Message", depth: int) -> None:
        before = len(self.pieces) + len(self.wanted)
        for part in _leaves(message):
            if len(self.pieces) >= PARTS_LIMIT:
                self._add(
                    "", b"", problem=f"more than {PARTS_LIMIT} parts; this one and those behind it do not run"
                )
                return
            body = part.get_payload(decode=True)
            headers = {name: str(value) for name, value in part.items()}
            disposed = part.get_param("filename", None, "content-disposition") is not None
            name = Name(part.get_filename() or "", disposed)
            content = body if isinstance(body, bytes) else b""
            self._typed(part.get_content_type(), content, name, headers, depth)
        if len(self.pieces) + len(self.wanted) == before:
            problem = "a multipart message without parts: its boundary is missing, or is not the one in use"
            self._add("multipart", b"", problem=problem)

    def _typed(self, type_: str, content: bytes, name: Name, headers: Dict[str, str], depth: int) -> None:
        if type_ in GZIPPED:
            content, problem = gunzip(content)
            if problem:
                self._add("gzip", content, name.text, type_, problem=problem)
                return
            type_, headers, name = "text/plain", {}, name._replace(disposed=True)
            self._left -= len(content)
        told = TYPES.get(type_, "")
        kind = told
        if type_ in LOOKED_INTO:
            kind = header_kind(content.decode("utf-8", "surrogateescape")) or told
        if kind != told and not name.disposed:
            name = NO_NAME  # cloud-init replaces the whole Content-Type, with the name in it
        if kind == "include":
            self._include(content, name.text, depth)
        else:
            self._add(kind, content, name.text, type_, headers)

    def _include(self, content: bytes, name: str, depth: int) -> None:
        for include in includes(content.decode("utf-8", "replace")):
            url, shown = include.url, include.shown
            self._included += 1
            problem = ""
            if depth >= INCLUDES_DEPTH:
                problem = f"an include inside an include inside an include is not followed ({shown})"
            elif self._included > INCLUDES_LIMIT:
                problem = f"more than {INCLUDES_LIMIT} URLs; {shown} and those behind it are not fetched"
            elif not url.lower().startswith(("https://", "http://")):
                problem = f"only https:// and http:// are fetched, not {shown}"
            if problem:
                self._add("include", b"", name, problem=problem)
                if self._included > INCLUDES_LIMIT:
                    return
                continue
            came = self._fetched(url)
            if came is None:
                self.wanted.append(include)
            elif came.problem:
                self._add("include", b"", name, problem=f"{shown}: {came.problem}")
            else:
                self.blob(came.content, depth + 1)

    def _add(
        self,
        kind: str,
        content: bytes,
        name: str = "",
        type_: str = NO_MESSAGE,
        headers: Mapping[str, str] = NOTHING,
        problem: str = "",
    ) -> None:
        if not problem:
            self._count += 1
        cleaned = file_name(name)
        shown = cleaned or f"part-{max(self._count, 1):03d}"
        self.pieces.append(Piece(shown, kind, content, type_, headers, problem, bool(cleaned)))


def _leaves(message: "Message") -> Iterator["Message"]:
    """The parts that hold something, in their order; containers are walked through."""
    for part in message.walk():
        if not part.is_multipart() and part.get_content_maintype() != "multipart":
            yield part
