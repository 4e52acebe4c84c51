"""The kinds of user-data."""

from __future__ import annotations

import base64
import gzip
import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csagent.sources.user_data_kind import KINDS, classify, describe

MIME = b"Content-Type: multipart/mixed; boundary=b\r\nMIME-Version: 1.0\r\n\r\n--b\r\n"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty"),
        (b" \r\n\t\n", "empty"),
        (b"\xef\xbb\xbf", "unknown"),
        (b"#!/bin/sh\ntrue\n", "script"),
        (b"#!/bin/sh\r\ntrue\r\n", "script"),
        (b"\xef\xbb\xbf#!/bin/sh\n", "unknown"),
        (b"\n\n#!/bin/sh\n", "script"),
        (b"#cloud-config\npackages: []\n", "cloud-config"),
        (b"#cloud-config\r\n", "cloud-config"),
        (b"#Cloud-Config", "cloud-config"),
        (b"#cloud-config  # ours\n", "cloud-config"),
        (b" #cloud-config: mine", "cloud-config"),
        (b"#cloud-config-archive\n", "archive"),
        (b"#cloud-config-jsonp\n", "json-patch"),
        (b"#cloud-configuration\n", "cloud-config"),
        (b"# cloud-config\n", "unknown"),
        (b"#part-handler\n", "part-handler"),
        (b"# a comment\n#cloud-config\n", "unknown"),
        (b"#cloud-boothook\n", "boothook"),
        (b"#include\nhttp://x.example/\n", "include"),
        (b"#include-once http://x.example/\n", "include"),
        (b"## template: jinja\n#cloud-config\n", "jinja"),
        (b"\n## Template: Jinja2\n#cloud-config\n", "jinja"),
        (b"##template:jinja\r\n#!/bin/sh", "unknown"),
        (b"## template:jinja\n#!/bin/sh", "unknown"),
        (b"## about this\n", "unknown"),
        (MIME, "multipart"),
        (b"MIME-Version: 1.0\nContent-Type: multipart/mixed;\n boundary=b\n\n--b", "multipart"),
        (b"content-type: text/cloud-config\n\n", "unknown"),
        (b"packages: [a]\nMIME-Version: 1.0\n\n", "multipart"),
        (b"\nMIME-Version: 1.0\nContent-Type: text/plain\n\n#!/bin/sh\n", "unknown"),
        (b"#!/bin/sh\n# MIME-Version: 1.0\n", "script"),
        (b"#cloud-config\n#" + b"x" * 4096 + b"\nMIME-Version: 1.0\n", "cloud-config"),
        (b"hello there, world", "unknown"),
        (b"key: value\n", "unknown"),
        (gzip.compress(b"#!/bin/sh\n"), "gzip"),
        (b"\x1f\x8b", "unknown"),
        (b"\0\xff\xfe binary", "unknown"),
        (base64.b64encode(b"#!/bin/sh\ntrue\n"), "base64"),
        (base64.encodebytes(b"#cloud-config\n" + b"x: 1\n" * 100), "base64"),
        (base64.b64encode(b"#cloud-config\n").rstrip(b"="), "base64"),
        (base64.b64encode(gzip.compress(b"hello")), "base64"),
        (base64.b64encode(MIME), "base64"),
        (base64.b64encode(b"hello there, world"), "unknown"),
        (base64.b64encode(base64.b64encode(b"#!/bin/sh\n")), "unknown"),
        (b"abcdefgh", "unknown"),
    ],
)
def test_each_kind_is_recognised(content: bytes, kind: str) -> None:
    """The header rules of cloud-init: a prefix, in any case, after white space; no byte order mark."""
    assert classify(content) == kind


def test_the_bytes_stay_as_they_are() -> None:
    """Content, size and hash are of the raw bytes, and the content does not show in the repr."""
    content = b"\xef\xbb\xbf#!/bin/sh\r\necho marker\r\n\0"
    described = describe(content)
    assert described.content.reveal() == content
    assert described.size == len(content)
    assert described.sha256 == hashlib.sha256(content).hexdigest()
    assert "marker" not in repr(described)


@pytest.mark.parametrize(
    "content", [b"a" + b" " * 700_000 + b"!", b"a" * 700_000 + b"!", b"A: b\n" * 150_000]
)
def test_a_long_text_takes_no_long_time(content: bytes) -> None:
    """No pattern backtracks over the whole of 768 KiB."""
    start = time.process_time()
    classify(content)
    assert time.process_time() - start < 5.0


@given(st.binary(max_size=300))
def test_any_bytes_have_a_kind(content: bytes) -> None:
    """Nothing makes it raise."""
    assert classify(content) in KINDS


@given(
    st.sampled_from([b"#!", b"#cloud-config\n", b"#include\n", b"MIME-Version: 1.0\n\n"]),
    st.binary(max_size=300),
)
def test_base64_of_anything_known_is_base64(header: bytes, rest: bytes) -> None:
    """A known header, encoded once more, is seen through."""
    kind = classify(header + rest)
    encoded = base64.encodebytes(header + rest)
    assert kind not in ("unknown", "empty")
    assert classify(encoded) == ("base64" if len(encoded.strip()) >= 8 else "unknown")
