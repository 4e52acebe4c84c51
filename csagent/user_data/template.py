"""Templates: jinja2 in its sandbox, rendered as cloud-init renders them.

The sandbox keeps a template from reaching into Python. It bounds neither memory nor time: the child in which
this runs has limits for both, and a template has a share of the time.
"""

from __future__ import annotations

import difflib
import re
import signal
from contextlib import contextmanager
from types import FrameType
from typing import Any, Dict, Iterator, NamedTuple, Optional

from csagent.errors import DocumentError

SECONDS = 5.0  # of CPU for one template
RENDERED_LIMIT = 4 << 20  # characters that may come out
LINES_COMPARED = 5000
FILE = "<template>"  # as jinja2 calls a template that was no file
HEADER = re.compile(r"##\s*template:(.*)", re.IGNORECASE)


class _TooLong(BaseException):
    """The CPU time is up. Nothing in a template can catch it."""


class Rendered(NamedTuple):
    """What came out, and what it came from (without the header)."""

    text: str
    template: str

    def line(self, number: Optional[int]) -> Optional[int]:
        """The line of the template that a line of the text came from: the same, or the nearest before it."""
        if number is None:
            return None
        before, after = self.template.splitlines(), self.text.splitlines()
        if before == after or len(before) + len(after) > LINES_COMPARED:
            return min(number, max(len(before), 1)) + 1
        for _tag, low, high, at, end in difflib.SequenceMatcher(None, before, after).get_opcodes():
            if at < number <= end:
                return min(low + number - 1 - at, max(high - 1, low), len(before) - 1) + 2
        return len(before) + 1


def render(text: str, names: Dict[str, Any]) -> Rendered:
    """Render a text whose first line is the header.

    Raises:
        DocumentError: the header is not the first line, jinja2 is missing, or it cannot be rendered.
    """
    first, _, rest = text.partition("\n")
    header = HEADER.match(first)
    if header is None:
        raise DocumentError("the header ## template: jinja must be the first line", 1)
    kind = header.group(1).strip()
    if kind.lower() != "jinja":
        raise DocumentError(f'templates are written as "## template: jinja", not "{kind[:40]}"', 1)
    try:
        from jinja2 import exceptions
    except ImportError:
        raise DocumentError(
            "jinja2 is not installed (python3-jinja2; with pip: jinja2), which templates need", 1
        ) from None
    try:
        with _limited():
            made = _environment().from_string(rest).render(names)
    except _TooLong:
        raise DocumentError(f"it takes more than {SECONDS:g} s of the processor to render") from None
    except exceptions.TemplateSyntaxError as error:
        said = _short(error.message).partition(", got '")[0]  # a word that may be a piece of a secret
        raise DocumentError(f"jinja2: {said}", (error.lineno or 0) + 1) from None
    except MemoryError:
        raise DocumentError("it takes more memory than a template may have") from None
    except RecursionError:
        raise DocumentError("it is nested too deeply") from None
    except exceptions.UndefinedError as error:
        raise DocumentError(_short(error.message), _line_of(error)) from None
    except Exception as error:  # whatever a filter makes of its arguments; the text may quote metadata
        raise DocumentError(f"it cannot be rendered ({type(error).__name__})", _line_of(error)) from None
    if len(made) > RENDERED_LIMIT:
        raise DocumentError(f"it renders to more than {RENDERED_LIMIT} characters")
    made += "\n" if rest.endswith("\n") else ""
    return Rendered(made, rest)


def _environment() -> Any:
    from jinja2 import Undefined, exceptions
    from jinja2.sandbox import SandboxedEnvironment

    class Unknown(Undefined):
        """A name that the metadata does not have: it may be asked for, and not be written."""

        def __str__(self) -> str:
            name = self._undefined_name if isinstance(self._undefined_name, str) else "?"
            raise exceptions.UndefinedError(f'the metadata has no "{name[:80]}"')

    return SandboxedEnvironment(trim_blocks=True, extensions=["jinja2.ext.do"], undefined=Unknown)


@contextmanager
def _limited() -> Iterator[None]:
    """Break off when the process has used `SECONDS` of CPU in here."""

    def end(_number: int, _frame: Optional[FrameType]) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _line_of(error: BaseException) -> Optional[int]:
    """The template's line in which an error came up: jinja2 gives its frames the numbers of the template."""
    found, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == FILE:
            found = trace.tb_lineno + 1  # the header stands before it
        trace = trace.tb_next
    return found


def _short(text: Optional[str]) -> str:
    return " ".join((text or "").split())[:200]
