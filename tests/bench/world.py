"""What the measured commands work on: a scratch machine, a router in a process of its own, a config drive."""

from __future__ import annotations

import base64
import json
import os
import shutil
import struct
import subprocess
import tempfile
from typing import List, Optional

from measure import PYTHON

from csagent.lab import drive
from csagent.lab.cloud import Cloud

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROUTER = """
import json, sys
from support.replace_fields import replace
from csagent.lab.cloud import Cloud
from csagent.lab.router import LabRouter
given = json.loads(sys.argv[1])
more = {f"key-{number}": "value" for number in range(given["metadata"])}
cloud = Cloud(ssh_keys=tuple(given["keys"]), user_data=b"#!/bin/sh\\n".ljust(given["user_data"], b"#"))
cloud = replace(cloud, metadata={**cloud.metadata, **more})
router = LabRouter(cloud)
router.start()
print(router.port, router.password_port, flush=True)
for number, _line in enumerate(sys.stdin):
    router.change(password=f"EXAMPLE-{number}")
    router.written -= 60  # a machine boots for longer than its files count as just being written
    print(len(router.requests), flush=True)
"""


def public_key(number: int) -> str:
    """A well-formed line whose private half nobody has."""
    kind = b"ssh-ed25519"
    blob = struct.pack(">I11sI28xI", len(kind), kind, 32, number)
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} key-{number}@example"


class Router:
    """A lab router in a process of its own.

    Args:
        keys: how many SSH keys it has.
        metadata: how many metadata keys of an operator's own.
        user_data: how many bytes of it.
    """

    def __init__(self, keys: int = 3, metadata: int = 0, user_data: int = 1024) -> None:
        lines = [public_key(number) for number in range(keys)]
        given = json.dumps({"keys": lines, "metadata": metadata, "user_data": user_data})
        self.process = subprocess.Popen(
            [PYTHON, "-c", ROUTER, given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": TESTS},
        )
        self.port, self.password_port = map(int, self._line().split())
        self.places = ["--router", f"127.0.0.1:{self.port}", "--password-port", str(self.password_port)]

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def reset_password(self) -> int:
        """Offer a new password; the number of requests so far."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self._line())

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(600)
        self.process.stdout.close()


# As systemd-networkd and dhclient write them (tests/fixtures/leases has the originals).
LEASES = {
    "run/systemd/netif/leases/2": "ADDRESS=10.1.1.42\nNETMASK=255.255.255.0\nROUTER=10.1.1.1\n"
    "SERVER_ADDRESS=10.1.1.1\nT1=43200\nT2=75600\nLIFETIME=86400\nDNS=10.1.1.1\nDOMAINNAME=lab.example\n",
    "var/lib/dhcp/dhclient.eth1.leases": 'lease {\n  interface "eth1";\n  fixed-address 10.1.2.42;\n'
    "  option subnet-mask 255.255.255.0;\n  option dhcp-server-identifier 10.1.2.1;\n"
    "  renew 2 2098/01/07 00:00:00;\n  rebind 2 2098/01/07 00:00:00;\n  expire 2 2098/01/07 00:00:00;\n}\n",
}


class Machine:
    """A scratch tree with one account, whose keys and password may be set by whoever runs this."""

    def __init__(self) -> None:
        self.root = tempfile.mkdtemp(prefix="csagent-bench-")
        self.renew()

    def renew(self) -> None:
        """As it was before its first boot."""
        shutil.rmtree(self.root)
        for directory in ("etc", "root", "run", "var/lib"):
            os.makedirs(f"{self.root}/{directory}")
        with open(f"{self.root}/etc/passwd", "w") as stream:
            stream.write(f"root:x:{os.getuid()}:{os.getgid()}:root:/root:/bin/sh\n")
        with open(f"{self.root}/etc/shadow", "w") as stream:
            stream.write("root:*:20000::::::\n")
        for path, text in LEASES.items():
            os.makedirs(os.path.dirname(f"{self.root}/{path}"), exist_ok=True)
            with open(f"{self.root}/{path}", "w") as stream:
                stream.write(text)

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.root)


def config_drive(path: str, password: Optional[str] = "EXAMPLE-drive") -> List[str]:
    """Build an image; the options that name it."""
    keys = tuple(public_key(number) for number in range(3))
    drive.build(
        path, drive.files_for(Cloud(ssh_keys=keys, password=password, user_data=b"#!/bin/sh\n" * 100))
    )
    return ["--drive", path]
