"""What the simulated CloudStack knows of a VM, and ways to look at what came of it."""

from __future__ import annotations

from csagent.apply import libcrypt
from csagent.lab.router import Cloud, LabRouter
from csagent.lab.vm.media import make_drive
from csagent.model import Secret
from support.samples import make_key

__all__ = ["PASSWORD", "describe", "hash_verifies", "make_drive", "told_after_change"]

PASSWORD = "marker-Pw1EXAMPLE"
NEXT_PASSWORD = "marker-Pw2EXAMPLE"
MARKER = "/marker/shadow-changed"  # requested by tests/vm/guest/csagent-test-shadow


def hash_verifies(password: str, value: str) -> bool:
    """Whether a shadow field is this password's, by this machine's libcrypt."""
    return bool(libcrypt.matches(Secret(password.encode()), value))


def describe(hostname: str, number: int) -> Cloud:
    """A VM with two keys and a password that waits for it."""
    return Cloud(
        instance_id=f"3f0c9a52-7c1e-4a55-9f0e-6d1b2c3d4e{number:02x}",
        hostname=hostname,
        ssh_keys=(make_key(number, f"alice@{hostname}"), make_key(number + 100, f"bob@{hostname}")),
        password=PASSWORD,
        user_data=b"#!/bin/sh\necho EXAMPLE\n",
    )


def told_after_change(router: LabRouter) -> bool:
    """Whether PAM reported the new shadow entry before the password was acknowledged."""
    asked = [request.what for request in router.requests]
    return (
        MARKER in asked
        and "saved_password" in asked[asked.index(MARKER) :]
        and ("saved_password" not in asked[: asked.index(MARKER)])
    )
