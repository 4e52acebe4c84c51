"""What a template promises, and the judgement on each: pure functions of what was seen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from csagent.apply import libcrypt
from csagent.lab.vm.inspect_guest import Look
from csagent.model import Secret

RUNS = ("active", "activating", "reloading")
PASS, FAIL, WARN, SKIP = "pass", "fail", "warn", "skip"

PROMISES: Dict[str, str] = {
    "login": "CloudStack's key opens a login",
    "hostname": "the host name is CloudStack's",
    "password": "the password is in /etc/shadow",
    "told": "the router was told once, and only then",
    "network": "nobody but the router was asked",
    "boot": "sshd was not held up",
    "secrets": "no password in the journal, a log or a command line",
    "status": "csagent says that all is applied",
    "exchange": "another medium is read while it runs",
    "new-key": "after a reset the new key opens a login",
    "old-key": "after a reset the old key is refused",
    "new-password": "after a reset the new password is in /etc/shadow",
    "own-key": "a key that the owner added stays",
    "own-name": "a host name that the owner gave stays",
    "own-password": "a password that the owner set stays",
    "user-data": "user-data has run, once",
    "user-data-again": "user-data that has run does not run at the next boot",
    "interrupted": "after a power cut user-data is told as interrupted, and not run again",
    "addresses": "a NIC without DHCP has the drive's address",
    "addresses-changed": "another medium changes the address, without a reboot",
    "bad-gateway": "an address whose gateway is silent is put back",
    "addresses-boot": "at the next boot that NIC has its name and its address",
    "sealed": "two copies differ in host keys and machine-id",
}
_FIRST = ("login", "hostname", "password")
_RESET = ("new-key", "old-key", "new-password")
SCENARIOS: Dict[str, Tuple[str, ...]] = {
    "router": (
        *(*_FIRST, "told", "network", "boot", "status", "user-data", *_RESET),
        *("own-key", "own-name", "user-data-again", "secrets"),
    ),
    "drive": (
        *(*_FIRST, "boot", "status", "exchange", *_RESET),
        *("own-key", "own-name", "own-password", "interrupted", "secrets"),
    ),
    "user-data": ("login", "user-data", "user-data-again"),  # of --user-data FILE
    "network": ("login", "addresses", "addresses-changed", "bad-gateway", "addresses-boot"),  # of --network
    "both": ("sealed",),
}

# Seconds from basic.target to sshd. Who waits for a router that is not there waits for two minutes.
# An emulated machine is as slow as the one that it is on, and sshd may take twice as long there as all that
# came before it.
LATE, LATE_EMULATED, TIMES_EMULATED = 20.0, 80.0, 2.0
SLACK = 1.0  # seconds, by which the two clocks may go differently
ROUTER = "10.1.1.1"


@dataclass(frozen=True)
class PromiseResult:
    """One promise of one scenario."""

    scenario: str
    name: str
    state: str  # pass | fail | warn | skip
    reason: str
    seconds: Optional[float] = None  # since power-on or since the change


Judgement = Tuple[str, str]  # state and reason


def no_login(user: str, seconds: float, wrong: str) -> str:
    """Why nobody got in. A key is denied, too, where the template gives it to another account."""
    hint = "; --user names the account that the template gives its keys to" if "denied" in wrong else ""
    return f"no login as {user} after {seconds:.0f} s: {wrong}{hint}"


def hostname(look: Look, wanted: str) -> Judgement:
    """The kernel's and the file's, with or without a domain."""
    names = {"the kernel": look["kernel-name"], "/etc/hostname": look["file-name"]}
    wrong = [f"{where} says {name!r}" for where, name in names.items() if name.split(".")[0] != wanted]
    return (FAIL, f"{', '.join(wrong)}, not {wanted}") if wrong else (PASS, wanted)


def password(look: Look, wanted: str) -> Judgement:
    """The hash in the shadow entry, checked by libcrypt on this side."""
    value = look.hash
    if not value.startswith("$"):
        return FAIL, "the account has no password" if value in ("", "*", "!", "!*") else "it is locked"
    fits = libcrypt.matches(Secret(wanted.encode()), value)
    method = value.split("$")[1]
    if fits is None:
        return SKIP, f"this machine's libcrypt cannot check its hash (${method}$)"
    return (PASS, f"its hash (${method}$) verifies") if fits else (FAIL, "the hash is another password's")


def keys(look: Look, line: str) -> Judgement:
    """A line that the owner added to authorized_keys."""
    held = [held.split()[1] for held in look["keys"].splitlines() if len(held.split()) > 1]
    return (PASS, "still in authorized_keys") if line.split()[1] in held else (FAIL, "it is gone")


def told(look: Look, heard: Sequence[Tuple[float, str]]) -> Judgement:
    """The router's log against the time at which /etc/shadow was written, by the guest's clock.

    Args:
        look: at the guest.
        heard: the requests to the password server in order: when (our clock), and what.
    """
    times = [at for at, what in heard if what == "saved_password"]
    asked = [at for at, what in heard if what == "send_my_password"]
    if not times:
        return FAIL, "never: it will offer the password again" if asked else "it was never asked"
    if not asked or asked[0] > times[0]:
        return FAIL, "it was told before it was asked"
    if len(times) > 1:
        return FAIL, f"it was told {len(times)} times"
    late = float(look["written"] or "0") - look.ahead - times[0]
    if late > SLACK + look.unsure:
        return FAIL, f"it was told {late:.0f} s before /etc/shadow was written: a crash loses the password"
    return PASS, "once, after the password was set"


def network(asked: Sequence[Tuple[str, int]]) -> Judgement:
    """TCP connections that the guest began."""
    others = [f"{address}:{port}" for address, port in asked if (address, port) not in _ROUTERS]
    if others:
        return FAIL, f"it also asked {', '.join(others[:4])}{' and others' if len(others) > 4 else ''}"
    ports = [str(port) for address, port in sorted(asked) if address == ROUTER]
    return (PASS, f"{ROUTER}, port {' and '.join(ports)}") if ports else (FAIL, "it asked nobody at all")


_ROUTERS = ((ROUTER, 80), (ROUTER, 8080), ("10.1.1.3", 53))  # DNS falls back to TCP


def boot(look: Look, emulated: bool) -> Judgement:
    """How long sshd came after basic.target, and what it waits for."""
    moments = {
        name: int(unit.get("ActiveEnterTimestampMonotonic") or 0) / 1e6 for name, unit in look.units.items()
    }
    daemon = moments.get("ssh.service") or moments.get("sshd.service")
    base = moments.get("basic.target")
    if not daemon or not base:
        return SKIP, "no systemd that tells when sshd came up"
    late, limit = daemon - base, max(LATE_EMULATED, TIMES_EMULATED * base) if emulated else LATE
    agents = [name for name in look["order"].split() if name.startswith(("csagent", "cloud-"))]
    told = f"up {max(0.0, late):.1f} s after basic.target" + (
        f", after {', '.join(agents)}" if agents else ""
    )
    return (PASS if late <= limit else FAIL), told


def status(look: Look) -> Judgement:
    """Compare csagent's own status in the guest with what was seen there."""
    if not look["status"]:
        return (FAIL, "csagent says nothing") if resident(look) else (SKIP, "no csagent in it")
    try:
        document = json.loads(look["status"])
        data = {name: datum["state"] for name, datum in document["data"].items()}
    except (ValueError, KeyError, TypeError):
        return FAIL, "what csagent status says is not understood"
    wrong = [f"{name} {state}" for name, state in data.items() if state in ("failed", "refused")]
    told = ", ".join(f"{name} {state}" for name, state in data.items())
    return (FAIL, ", ".join(wrong)) if wrong else (PASS, told) if data else (FAIL, "no pass has ended")


def resident(look: Look) -> bool:
    """Whether something in it stays and listens for media."""
    return look.units.get("csagent.service", {}).get("ActiveState") in RUNS


def secrets(looks: Sequence[Look]) -> Judgement:
    """Where passwords were found."""
    found: List[str] = []
    for look in looks:
        found += [line for line in look["leaks"].splitlines() if line not in found]
    return (FAIL, f"a password is in {', '.join(found[:4])}") if found else (PASS, "none found")


def sealed(first: Look, second: Look) -> Judgement:
    """Two copies with different instance ids."""
    mine, theirs = ({*look["host-keys"].splitlines()} for look in (first, second))
    same = ["host keys"] if mine & theirs else []
    same += ["machine-id"] if first["machine-id"] == second["machine-id"] else []
    if same:
        return WARN, f"not sealed: two copies have the same {' and '.join(same)}"
    return PASS, "host keys and machine-id are their own"
