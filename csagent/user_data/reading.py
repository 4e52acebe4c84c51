"""Read a document in a child that has lost its rights, with limits; what comes back is a plan.

A template that eats memory, a bomb of YAML or gzip costs that child, and the document is refused with why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Container, Dict, Mapping, Optional, Tuple

from csagent.errors import JailError
from csagent.model import NOTHING
from csagent.sandbox import jail
from csagent.sources.user_data_kind import GZIP_MAGIC, classify
from csagent.user_data import plan_codec
from csagent.user_data.message import Fetched, unpack
from csagent.user_data.plan import REFUSED, Part, Plan, Problem
from csagent.user_data.surroundings import Facts

if TYPE_CHECKING:
    from csagent.sandbox.seccomp import Filters
    from csagent.system.seams import System

NAME = "user-data reader"
LIMITS = jail.Limits(cpu=20, memory=512 * jail.MIB, descriptors=64, processes=256, answer=64 * jail.MIB)
PATIENCE = 600.0  # seconds: the CPU limit ends it long before, unless the machine is starved
# Python's email imports its pieces when a message needs them; afterwards they may be unreadable.
WARM_UP = b"""MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b"

--b
Content-Type: text/plain; charset="utf-8"; name*=utf-8''a
Content-Transfer-Encoding: base64
Subject: =?utf-8?q?=C3=BC?=

YQ==
--b
Content-Type: text/plain
Content-Transfer-Encoding: quoted-printable
Content-Disposition: attachment; filename="b"

=61
--b
Content-Transfer-Encoding: x-uuencode

begin 644 c
!80``
`
end
"""
DOCUMENT_LIMIT = 4 << 20  # bytes: CloudStack's own limit is 1 MiB of base64


def read(
    system: "System",
    document: bytes,
    facts: Facts,
    fetched: Mapping[str, Fetched] = NOTHING,
    wanted: Container[str] = plan_codec.ACTIONS,
) -> Plan:
    """The plan of a document. One that cannot be read at all is a plan of one part that is refused.

    Args:
        system: for the child.
        document: as it came.
        facts: the instance and the machine.
        fetched: what came of the URLs that it includes.
        wanted: the classes of actions that are used.
    """
    if len(document) > DOCUMENT_LIMIT:
        return _refused(classify(document[: 1 << 16]), f"larger than {DOCUMENT_LIMIT >> 20} MiB")

    def work(prepared: Tuple[Any, Optional["Filters"]], _say: jail.Send) -> Any:
        from csagent.sandbox import seccomp

        make_plan, filters = prepared
        seccomp.restrict_if_possible(filters)
        found: Dict[str, Fetched] = dict(fetched)
        return plan_codec.encode(make_plan(document, facts, found.get))

    def prepare() -> Tuple[Any, Optional["Filters"]]:
        return _prepare(document, bool(fetched))

    try:
        job = jail.Job(NAME, system, prepare, work, LIMITS, jail.unprivileged())
        return plan_codec.decode(jail.run(job, PATIENCE), wanted)
    except JailError as error:
        text = str(error).replace(f"{NAME}: ", "", 1)
        return _refused(classify(document), f"it cannot be read within limits: its reader {text}")


def _prepare(content: bytes, more: bool) -> Tuple[Any, Optional["Filters"]]:
    """Import what reading needs while it can still be read; email and jinja2 where they may be needed.

    Args:
        content: the document.
        more: something was included, which may be of any kind.
    """
    import base64  # noqa: F401
    import difflib  # noqa: F401
    import gzip  # noqa: F401

    from csagent.sandbox import codec, seccomp  # noqa: F401
    from csagent.user_data import document
    from csagent.user_data.cloud_config import families

    families.families()
    more = more or content.startswith(GZIP_MAGIC) or b"mime-version" in content.lower()
    if more:
        import quopri  # noqa: F401

        unpack(WARM_UP)
    if more or b"template" in content.lower():
        try:
            import encodings.unicode_escape  # noqa: F401  of texts in a template
            import html  # noqa: F401  of the filters
            import textwrap  # noqa: F401

            import jinja2.constants  # of lipsum()
            import jinja2.debug  # of what is wrong
            import jinja2.ext
            import jinja2.sandbox  # noqa: F401
        except ImportError:
            pass  # templates are refused then
    return document.make_plan, seccomp.load_library()


def _refused(kind: str, text: str) -> Plan:
    return Plan(kind, (Part("part-001", kind, outcome=REFUSED, problems=(Problem(text),)),))
