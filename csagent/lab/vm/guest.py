"""A guest as its owner sees it: over ssh, with keys made for the occasion."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence

from csagent.errors import CsagentError
from csagent.lab.vm.inspect_guest import LOOK, Look, sections
from csagent.lab.vm.machine import Machine

COMMAND_DEADLINE = 120.0  # seconds, also of an emulated guest on a busy machine
ENDING = 60.0  # seconds, for what takes none
PAUSE = 0.5

CHANGE_NAME = 'printf "%s\\n" "$name" >/etc/hostname && printf %s "$name" >/proc/sys/kernel/hostname'
ADD_KEY = 'eval file="~$account/.ssh/authorized_keys"; printf "%s\\n" "$line" >>"$file"'
POWER_OFF = "sync; (sleep 1; poweroff) >/dev/null 2>&1 &"


@dataclass(frozen=True)
class KeyPair:
    """A new ed25519 key pair, made by ssh-keygen."""

    path: Path
    public: str


def key_pair(path: Path, comment: str) -> KeyPair:
    """Make one; nobody else has had the private half.

    Raises:
        CsagentError: ssh-keygen failed.
    """
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise CsagentError(f"ssh-keygen failed: {' '.join(done.stderr.split())}")
    return KeyPair(path, path.with_name(path.name + ".pub").read_text().strip())


class Guest:
    """One boot of a machine, behind a port of loopback."""

    def __init__(self, machine: Machine, port: int, user: str) -> None:
        self._machine, self._port, self._user = machine, port, user
        self._master: Optional["subprocess.Popen[bytes]"] = None
        self._control = machine.path("ssh")

    def _options(self, key: KeyPair) -> List[str]:
        words = ["-F", os.devnull, "-p", str(self._port), "-i", str(key.path), "-T"]
        for option in (
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            f"UserKnownHostsFile={os.devnull}",
            f"GlobalKnownHostsFile={os.devnull}",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "PreferredAuthentications=publickey",
            "LogLevel=ERROR",
            f"ConnectTimeout={COMMAND_DEADLINE:.0f}",
            # The kind that costs an emulated guest least; the others follow it.
            "KexAlgorithms=^curve25519-sha256",
        ):
            words += ["-o", option]
        return words

    def banner(self, until: float) -> bool:
        """Wait until sshd says who it is, at most until so many seconds after power-on."""
        while self._machine.running and not self._machine.held_up and self._machine.seconds < until:
            patience = min(10.0, max(1.0, until - self._machine.seconds))
            try:
                with socket.create_connection(("127.0.0.1", self._port), patience) as connection:
                    if connection.recv(4) == b"SSH-":
                        return True
            except OSError:
                pass
            time.sleep(PAUSE)
        return False

    def try_key(self, key: KeyPair) -> str:
        """One login with a key: "" if it is let in, "denied", or what else is wrong."""
        words = ["ssh", *self._options(key), f"{self._user}@127.0.0.1", "true"]
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_DEADLINE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"no answer within {COMMAND_DEADLINE:.0f} s"
        if done.returncode == 0:
            return ""
        said = " ".join(done.stderr.split())
        return "denied" if "denied" in said or "authentication failures" in said else said or "it failed"

    def login(self, key: KeyPair, until: float) -> str:
        """Log in and stay, trying again until so many seconds after power-on; "" or what was wrong last."""
        self.leave()
        wrong = "sshd did not answer"
        while self._machine.running and self._machine.seconds < until:
            wrong = self._enter(key)
            if not wrong:
                return ""
            time.sleep(PAUSE)
        return wrong if self._machine.running else f"the machine went off ({wrong})"

    def _enter(self, key: KeyPair) -> str:
        words = ["ssh", *self._options(key), "-M", "-N", "-S", str(self._control), f"{self._user}@127.0.0.1"]
        errors = self._machine.path("ssh-errors")
        with open(errors, "wb") as stream:
            self._master = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stream
            )
        end = time.monotonic() + COMMAND_DEADLINE
        while not self._control.exists():
            if self._master.poll() is not None or time.monotonic() > end:
                self.leave()
                said = " ".join(errors.read_text("utf-8", "replace").split())
                return "the key is denied" if "denied" in said else said or "no login in time"
            time.sleep(0.05)
        return ""

    def run(self, script: str, stdin: str = "", **variables: str) -> str:
        """What a shell script prints, run as root by a user who is logged in; the variables are set in it.

        Raises:
            CsagentError: it failed, or took too long.
        """
        named = {"account": self._user, **variables}
        script = "".join(f"{name}={shlex.quote(value)}; " for name, value in named.items()) + script
        command: Sequence[str] = ["sh", "-c", shlex.quote(script)]
        command = command if self._user == "root" else ["sudo", "-n", *command]
        words = ["ssh", "-F", os.devnull, "-S", str(self._control), "-T", f"{self._user}@127.0.0.1"]
        try:
            done = subprocess.run(
                [*words, " ".join(command)],
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=COMMAND_DEADLINE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CsagentError(f"the guest did not answer within {COMMAND_DEADLINE:.0f} s") from None
        if done.returncode != 0:
            said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            raise CsagentError(f"a command in the guest failed: {said}")
        return done.stdout

    def look(self, secrets: Sequence[str] = (), *, everything: bool = False) -> Look:
        """Look at what the promises are about; `everything` takes a few seconds.

        Raises:
            CsagentError: as `run`.
        """
        # The clock by itself: it was read at some time between the two of ours, which are to be close.
        before = time.time()
        clock = self.run("date +%s.%N").strip() if everything else ""
        after = time.time()
        text = self.run(LOOK, "\n".join(secrets), everything="yes" if everything else "")
        try:
            ahead = float(clock) - (before + after) / 2
        except ValueError:  # not asked for, or a `date` that knows no %N
            ahead = 0.0
        return Look(sections(text), ahead, (after - before) / 2)

    def power_off(self, patience: float) -> bool:
        """Have it switch itself off; whether it did, else the power is cut."""
        try:
            self.run(POWER_OFF)
        except CsagentError:
            pass  # the connection may go first
        went = self._machine.wait_off(self._machine.seconds + patience)
        self.leave()
        self._machine.kill()
        return went

    def leave(self) -> None:
        """End the login that stayed."""
        if self._master is not None:
            self._master.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._master.wait(ENDING)
            self._master = None
        self._control.unlink(missing_ok=True)
