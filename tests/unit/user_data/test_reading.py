"""The child that reads a document: what it needs is imported before it may read no file any more."""

from __future__ import annotations

import base64
import gzip
import zlib
from typing import Dict

import pytest
from support.fresh_interpreter import printed

TEMPLATE = b"## template: jinja\n#cloud-config\nhostname: {{ v1.local_hostname }}\n"
MESSAGE = b"""MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b"

--b
Content-Type: text/cloud-config
Content-Transfer-Encoding: quoted-printable

#cloud-config
runcmd: [[echo, a=3Db]]
--b
Content-Type: text/x-shellscript; charset="latin-1"
Content-Transfer-Encoding: base64

IyEvYmluL3NoCg==
--b--
"""
PACKED = b"write_files:\n  - {path: /etc/a, encoding: gz+b64, content: %s}\n"
DOCUMENTS: Dict[str, bytes] = {
    "script": b"#!/bin/sh\ntrue\n",
    "template": TEMPLATE,
    "template, packed": gzip.compress(TEMPLATE),
    "template with texts and filters": TEMPLATE
    + b"{# 'a' #}locale: \"{{ 'a<b>' | striptags | wordwrap(9) }}\"\ntimezone: \"{{ lipsum() }}\"\n",
    "template with a name that nobody knows": TEMPLATE + b"locale: {{ nobody.knows }}\n",
    "message": MESSAGE,
    "message, packed": gzip.compress(MESSAGE),
    "packed and damaged": gzip.compress(TEMPLATE)[:-9],
    "a file, packed": b"#cloud-config\n" + PACKED % base64.b64encode(gzip.compress(b"x")),
    "a file, packed and damaged": b"#cloud-config\n" + PACKED % base64.b64encode(zlib.compress(b"x")),
    "keys that nobody knows": b"#cloud-config\nruncmds: [x]\nwrite_file: 1\nusers: {a: 1}\n",
    "broken": b"#cloud-config\na: [\n",
    "neither": b"\xff\xfe\0",
}
# As the child does it, and what has been imported since it was prepared.
READ = """
from csagent.system.seams import System
from csagent.settings import Settings
from csagent.user_data import plan_codec, reading, surroundings
facts = surroundings.gather(System.at("/"), Settings(), {{"local-hostname": "web-01"}})
raw = {raw!r}
make_plan, _filters = reading._prepare(raw, False)
before = set(sys.modules)
plan_codec.encode(make_plan(raw, facts, {{}}.get))
print(*sorted(set(sys.modules) - before))
"""


@pytest.mark.parametrize("name", DOCUMENTS)
def test_nothing_is_imported_once_the_child_is_confined(name: str) -> None:
    """Where Python lies in somebody's home, as pyenv's does, its modules cannot be read by then."""
    assert printed(READ.format(raw=DOCUMENTS[name])) == [""]
