"""`./dev demo`: the main job, step by step, on a virtual router and a config drive of its own.

Everything happens in a scratch directory and on loopback: no root, no cloud, no network.
"""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, List

if TYPE_CHECKING:
    import argparse

    from csagent.lab.cloud import Cloud

STEP_TIMEOUT = 60.0
# The .rpm has its modules where no Python looks by itself.
MODULES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ITSELF = "import sys; sys.path.insert(0, sys.argv.pop(1)); from csagent.cli.main import entry; entry()"
INSTANCE = "5f8e8c2e-7a4b-4a52-9d0c-0f6b3f5c1e01"


def add_arguments(parser: "argparse.ArgumentParser") -> None:
    """`csagent lab demo`."""
    parser.add_argument("--keep", action="store_true", help="keep the scratch directory and say where it is")


def run(args: "argparse.Namespace") -> int:
    """Show it; 0 where every step did what it should."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the scratch directory goes, too
    start = time.monotonic()
    scratch = tempfile.mkdtemp(prefix="csagent-demo-")
    try:
        wrong = _Demo(scratch).run()
    finally:
        if args.keep:
            print(f"kept: {scratch}")
        else:
            import shutil

            shutil.rmtree(scratch, ignore_errors=True)
    print()
    took = f"{time.monotonic() - start:.1f} s"
    if wrong:
        print(f"{len(wrong)} step(s) did not do what they should ({took}):")
        for line in wrong:
            print(f"  {line}")
        return 1
    print(f"All steps did what they should ({took}).")
    return 0


def example_key(number: int, comment: str) -> str:
    """A public key that belongs to nobody."""
    kind = b"ssh-ed25519"
    blob = len(kind).to_bytes(4, "big") + kind + (32).to_bytes(4, "big") + bytes([number]) * 32
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} {comment}"


OLD_KEY = example_key(1, "alice@laptop")
NEW_KEY = example_key(2, "alice@new-laptop")
OWNERS_KEY = example_key(3, "added-by-hand")
DOCUMENT = f"""\
#cloud-config
package-update: true
users:
  - name: deploy
    groups: [web]
    ssh_authorized_keys: ["{example_key(4, "deploy@ci")}"]
write_files:
  - path: /etc/web.conf
    permissions: "0640"
    content: |
      listen = 8080
runcmd:
  - systemctl enable --now web
"""


class _Demo:
    """The scratch machine, the lab, and the story."""

    def __init__(self, scratch: str) -> None:
        self.scratch = scratch
        self.wrong: List[str] = []
        self.root = ""

    def run(self) -> List[str]:
        from csagent.lab.cloud import Cloud
        from csagent.lab.router import LabRouter

        cloud = Cloud(
            instance_id=INSTANCE,
            hostname="web-01",
            ssh_keys=(OLD_KEY,),
            password="EXAMPLE-first",
            user_data=DOCUMENT.encode(),
        )
        self._tell("A machine: a scratch tree with accounts, as an image ships them.")
        self.root = self._machine("vm")
        with LabRouter(cloud) as router:
            places = ["--router", f"127.0.0.1:{router.port}", "--password-port", str(router.password_port)]
            self._tell(
                f"A virtual router now listens on 127.0.0.1, ports {router.port} (metadata) and "
                f"{router.password_port} (passwords). What does CloudStack say about this VM?"
            )
            self._csagent(["fetch", *places])
            self._tell("What would csagent do about it? Nothing has been changed or acknowledged so far.")
            self._csagent(["plan", *places])
            self._check(not router.acknowledged, "fetch and plan acknowledge nothing")
            self._tell("Do it: set everything, verify, remember, and only then tell the router.")
            self._csagent(["apply", *places])
            self._check(self._file("etc/hostname") == "web-01\n", "the hostname is web-01")
            self._check(OLD_KEY in self._keys(), "the key is in authorized_keys")
            self._check(self._password_is("EXAMPLE-first"), "the password verifies against etc/shadow")
            self._check(len(router.acknowledged) == 1, "the router was told once")
            self._tell("Again, as at the next boot: nothing changes.")
            before = self._state()
            self._csagent(["apply", *places])
            self._check(self._state() == before, "not a byte changed")

            self._user_data()
            self._tell("The owner adds a key by hand, then resets password and key pair in CloudStack.")
            with open(f"{self.root}/root/.ssh/authorized_keys", "a", encoding="utf-8") as stream:
                stream.write(OWNERS_KEY + "\n")
            router.change(password="EXAMPLE-second", ssh_keys=(NEW_KEY,))
            self._csagent(["plan", *places])
            self._csagent(["apply", *places])
            keys = self._keys()
            self._check(NEW_KEY in keys and OLD_KEY not in keys, "the new key works, the old one is revoked")
            self._check(OWNERS_KEY in keys, "the owner's own key is still there")
            self._check(self._password_is("EXAMPLE-second"), "the new password verifies")
            self._check(self._file("etc/hostname") == "web-01\n", "the hostname was left alone")
            self._check(len(router.acknowledged) == 2, "the router was told once more")
        self._drive(cloud)
        return self.wrong

    def _user_data(self) -> None:
        path = os.path.join(self.scratch, "web.yaml")
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(DOCUMENT)
        self._tell("Its user-data: what would a document do, and is anything wrong with it? No VM is needed.")
        print("\n" + "".join(f"    {line}\n" for line in DOCUMENT.splitlines()), end="")
        self._csagent(["user-data", "check", path])
        self._tell("Units run it, once, when the machine is up. In a tree commands are shown and not run.")
        self._csagent(["user-data", "run"])
        self._check("deploy:" in self._file("etc/passwd"), "the account was made")
        self._check(self._file("etc/web.conf") == "listen = 8080\n", "the file was written")
        self._tell("Again: each step runs once.")
        self._csagent(["user-data", "run"])
        self._csagent(["user-data", "plan"])

    def _drive(self, cloud: "Cloud") -> None:
        from csagent.lab import drive

        self._tell("Another machine, in a network without a virtual router: the same from a config drive.")
        self.root = self._machine("vm2")
        image = os.path.join(self.scratch, "config-2.iso")
        drive.build(image, drive.files_for(cloud))
        self._csagent(["fetch", "--drive", image])
        self._csagent(["apply", "--drive", image])
        self._check(self._file("etc/hostname") == "web-01\n", "the hostname is web-01")
        self._check(self._password_is("EXAMPLE-first"), "the password verifies")
        before = self._state()
        self._tell("The drive cannot be told anything, so csagent remembers: again, nothing changes.")
        self._csagent(["apply", "--drive", image])
        self._check(self._state() == before, "not a byte changed")
        self._csagent(["status"])

    # --- the machine ---

    def _machine(self, name: str) -> str:
        root = os.path.join(self.scratch, name)
        uid, gid = os.getuid(), os.getgid()
        for directory in ("etc", "root", "run", "var/lib"):
            os.makedirs(f"{root}/{directory}")
        os.chmod(f"{root}/root", 0o700)
        for path, text in (
            ("etc/passwd", f"root:x:{uid}:{gid}:root:/root:/bin/bash\n"),
            ("etc/group", f"root:x:{gid}:\n"),
            ("etc/shadow", "root:*:20000:0:99999:7:::\n"),
            ("etc/hostname", "debian\n"),
            ("etc/hosts", "127.0.0.1\tlocalhost\n"),
        ):
            with open(f"{root}/{path}", "w", encoding="utf-8") as stream:
                stream.write(text)
        os.chmod(f"{root}/etc/shadow", 0o600)
        return root

    def _file(self, path: str) -> str:
        try:
            with open(f"{self.root}/{path}", encoding="utf-8") as stream:
                return stream.read()
        except OSError:
            return ""

    def _keys(self) -> str:
        return self._file("root/.ssh/authorized_keys")

    def _password_is(self, password: str) -> bool:
        from csagent.apply import libcrypt
        from csagent.model import Secret

        known = self._file("etc/shadow").split(":")[1]
        return libcrypt.matches(Secret(password.encode()), known) is not False and known.startswith("$")

    def _state(self) -> List[str]:
        """What a pass may change, the record of the pass itself left out."""
        return [
            f"{path}:{os.stat(f'{self.root}/{path}').st_mtime_ns}:{self._file(path)}"
            for path in ("etc/hostname", "etc/hosts", "etc/shadow", "root/.ssh/authorized_keys")
        ]

    # --- the story ---

    def _tell(self, text: str) -> None:
        from csagent.console import Console

        console = Console.of()
        print()
        for line in console.wrap(text):
            print(console.paint(line, "head"))

    def _csagent(self, words: List[str]) -> None:
        from csagent.console import Console

        console = Console.of()
        command = [sys.executable, "-I", "-c", ITSELF, MODULES, "--root", self.root, *words]
        shown = " ".join(["csagent", "--root", os.path.basename(self.root), *map(self._short, words)])
        print("\n" + console.paint(f"$ {shown}", "dim"), flush=True)
        environment = {**os.environ, "COLUMNS": str(console.width)}
        done = subprocess.run(command, env=environment, timeout=STEP_TIMEOUT, check=False)
        self._check(done.returncode == 0, f"{' '.join(words[:2])} ends with 0", quiet=True)

    def _short(self, word: str) -> str:
        return os.path.basename(word) if word.startswith(self.scratch) else word

    def _check(self, good: bool, text: str, *, quiet: bool = False) -> None:
        from csagent.console import Console

        if not good:
            self.wrong.append(text)
        if not good or not quiet:
            console = Console.of()
            print(
                console.paint(f"  {'ok' if good else 'WRONG'}: {text}", "good" if good else "bad"), flush=True
            )
