"""A hostile document costs one child: it is refused with the reason, and nothing else suffers."""

from __future__ import annotations

import gzip
import io
import resource
from pathlib import Path

import pytest
from support.user_data_plans import DEBIAN

from csagent.system.seams import System
from csagent.user_data import reading
from csagent.user_data.message import Fetched
from csagent.user_data.plan import Plan


def read(tree: Path, document: bytes, fetched: object = None) -> Plan:
    return reading.read(System.at(str(tree)), document, DEBIAN, fetched or {})  # type: ignore[arg-type]


def said(plan: Plan) -> str:
    return " / ".join(problem.text for part in plan.parts for problem in part.problems)


def yaml_bomb() -> bytes:
    lines = ["#cloud-config", "a: &a [x,x,x,x,x,x,x,x,x]"]
    lines += [f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]" for n in range(20)]
    return "\n".join(lines).encode()


def gzip_of(size: int, content: bytes = b"\0" * (1 << 20)) -> bytes:
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb") as packed:
        for _ in range(size // len(content)):
            packed.write(content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (yaml_bomb(), "more than 200000 values"),
        (gzip_of(1 << 30), "gzip of more than 8 MiB"),
        (b"#cloud-config\na: " + b"[" * 30000, "nested deeper than 64 levels"),
        (b"## template: jinja\n#cloud-config\na: {{ 'a' * 10**10 }}\n", "memory"),
        (
            b"## template: jinja\n#cloud-config\n"
            b"{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}",
            "more than 5 s of the processor",
        ),
        (b"## template: jinja\n#cloud-config\na: {{ ''.__class__.__mro__ }}\n", "SecurityError"),
        (b"#cloud-config\n" + b"x" * (5 << 20), "larger than 4 MiB"),
    ],
    ids=["aliases", "gzip", "depth", "memory", "time", "escape", "size"],
)
def test_bombs(tree: Path, document: bytes, text: str) -> None:
    """Refused, with what was too much; the parent has read nothing of it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    plan = read(tree, document)
    assert plan.outcome == "nothing"
    assert text in said(plan)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


def test_ten_thousand_parts(tree: Path) -> None:
    """A thousand are read, and the rest is named."""
    part = b"--b\nContent-Type: text/x-shellscript\n\n#!/bin/sh\n"
    document = (
        b'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n\n' + part * 10_000 + b"--b--"
    )
    plan = read(tree, document)
    assert len(plan.parts) == 1001
    assert "more than 1000 parts" in said(plan)


def test_nested_messages(tree: Path) -> None:
    """Python's email recurses: the document is refused, or read, and nothing is raised."""
    document = b"#!/bin/sh\n"
    for number in range(200):
        head = f'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b{number}"\n\n--b{number}\n'
        document = head.encode() + document + f"\n--b{number}--\n".encode()
    assert read(tree, document).outcome in ("nothing", "runs")


def test_an_include_of_itself(tree: Path) -> None:
    """Followed twice, then refused."""
    url = "http://192.0.2.1/a"
    document = f"#include\n{url}\n".encode()
    plan = read(tree, document, {url: Fetched(document)})
    assert plan.includes == ()
    assert "an include inside an include inside an include is not followed" in said(plan)


def test_many_includes(tree: Path) -> None:
    """Ten URLs in all."""
    urls = "\n".join(f"http://192.0.2.1/{number}" for number in range(500))
    plan = read(tree, f"#include\n{urls}\n".encode())
    assert len(plan.includes) == 10
    assert "more than 10 URLs" in said(plan)


UNQUOTED = ("*EXAMPLEpass", "!EXAMPLEpass", "!!EXAMPLEpass x", "!EXAMPLE!pass x", "!<EXAMPLEpass> x")
UNQUOTED += ("&EXAMPLEpass a\nb: &EXAMPLEpass c", "!!int EXAMPLEpass", "!!float EXAMPLEpass")
UNQUOTED += ("!!bool EXAMPLEpass", "!!timestamp EXAMPLEpass", "[EXAMPLEpass", "EXAMPLE: pass", "'EXAMPLEpass")


@pytest.mark.parametrize("value", UNQUOTED)
@pytest.mark.parametrize("header", ["#cloud-config\n", "## template: jinja\n#cloud-config\n"])
def test_a_password_without_quotes(tree: Path, header: str, value: str) -> None:
    """Everybody reads why a document was refused: its line is named, and no word of it."""
    plan = read(tree, f"{header}password: {value}\n".encode())
    (problem,) = [problem for part in plan.parts for problem in part.problems]
    assert problem.line in (header.count("\n") + 1, header.count("\n") + 2)
    assert "EXAMPLE" not in problem.text and "within limits" not in problem.text


def test_a_template_that_is_cut_by_a_secret(tree: Path) -> None:
    """Nor where jinja2 has come upon a word that it did not expect."""
    plan = read(tree, b"## template: jinja\n#cloud-config\npassword: {{ a EXAMPLEpass }}\n")
    assert said(plan) == "jinja2: expected token 'end of print statement'"
