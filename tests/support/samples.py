"""What many tests use: an instance id, keys that are keys but nobody's, a guest's tree."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from csagent.lab.cloud import Cloud

INSTANCE = "3f0c9a52-7c1e-4a55-9f0e-6d1b2c3d4e5f"

# Of a repository that nobody has; made for these tests.
PUBLIC_KEY = """\
-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawfGJhYJKwYBBAHaRw8BAQdAh/5nyKBDCHyHwKu3YYiqO17PWTZBSBbUtu7t
P6ZzE0y0IWNzYWdlbnQgdGVzdHMgPHRlc3RzQGV4YW1wbGUuY29tPoiQBBMWCAA4
FiEEKi6Mm1F4q//CQ7ezEh3LsBsC+DcFAmsHxiYCGwMFCwkIBwIGFQoJCAsCBBYC
AwECHgECF4AACgkQEh3LsBsC+DfgwgEApMSTw0JSLslwjW0PtsBcSs+oHMbGWd8p
EWpMwtrGv6MBAOu7V5CdMPTotCxGgO8m7egu/WlP6zhzW/MBvbkLuNUC
=kS3F
-----END PGP PUBLIC KEY BLOCK-----
"""


def make_key(number: int, comment: str = "ops@example") -> str:
    """A well-formed ed25519 public key; the same number gives the same key."""
    kind = b"ssh-ed25519"
    body = number.to_bytes(4, "big") * 8
    blob = len(kind).to_bytes(4, "big") + kind + len(body).to_bytes(4, "big") + body
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} {comment}".strip()


def make_tree(root: Path) -> Path:
    """A guest's tree: accounts root and alice, both owned by whoever runs the test."""
    uid, gid = os.getuid(), os.getgid()
    for directory in ("etc", "root", "home/alice", "var", "run"):
        (root / directory).mkdir(parents=True)
    (root / "etc/passwd").write_text(
        f"root:x:{uid}:{gid}:root:/root:/bin/bash\nalice:x:{uid}:{gid}::/home/alice:/bin/sh\n"
    )
    (root / "etc/group").write_text(f"root:x:{gid}:\n")
    (root / "etc/shadow").write_text("root:*:19000:0:99999:7:::\nalice:!:19000:0:99999:7:::\n")
    (root / "etc/shadow").chmod(0o640)
    (root / "etc/hostname").write_text("debian\n")
    (root / "etc/hosts").write_text("127.0.0.1\tlocalhost\n127.0.1.1\tdebian\n::1\tlocalhost\n")
    return root


PASSWORD = "EXAMPLE-marker-1"
CLOUD = Cloud(
    instance_id=INSTANCE,
    hostname="web01",
    ssh_keys=(make_key(1), make_key(2)),
    password=PASSWORD,
    user_data=b"#!/bin/sh\necho marker-EXAMPLE\n",
)
