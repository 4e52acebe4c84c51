"""Asking password servers, several at once, and telling them that the password has been set.

Only `acknowledge` ever sends `saved_password`. Whose answer is believed: `csagent.sources.router.trust`.
"""

from __future__ import annotations

import random
import threading
from typing import Dict, List, Sequence, Tuple

from csagent.model import Endpoint, Place, Secret
from csagent.sources.router.password_protocol import NONSENSE, SAVED, SEND, PasswordReply, PasswordServer, ask
from csagent.sources.router.threads import in_parallel, start
from csagent.sources.router.trust import Answered
from csagent.system.seams import System

GRACE_SECONDS = 1.0  # for the others, once one server has answered
FRESH_SECONDS = 3.0  # after which "nothing is waiting" is asked for again once metadata is believed
RETRY_SECONDS = 0.3
CUT_OFF_SECONDS = 0.1  # before the deadline; who times out then had not been given its time
REST_LIMIT = 4.0
CONFIRMED_SECONDS = 1.5  # for which what a server has just offered is taken to be what it offers
FORGOTTEN_SECONDS = 0.1  # after which a script that has confirmed has forgotten, and listens again
STILL_SECONDS = 1.0  # for its answer then; silence leaves the confirmation as it is
SAME = "says the same whatever it is asked: no password server"
WHY_ACKNOWLEDGE = "offered the password that was set"


class PasswordPoller:
    """Asks password servers, each in a thread of its own, and keeps their last answers."""

    def __init__(self, system: System, deadline: float) -> None:
        self._system = system
        self._deadline = deadline
        self._grace = system.clock.stretched(GRACE_SECONDS)
        self._condition = threading.Condition()
        self._servers: List[PasswordServer] = []
        self._pending: Dict[Endpoint, float] = {}
        self._replies: Dict[Endpoint, Tuple[float, PasswordReply]] = {}

    def ask(self, servers: Sequence[PasswordServer]) -> None:
        """Start asking those that are not being asked and have no fresh answer."""
        now = self._system.clock.monotonic()
        for server in servers:
            key = server.endpoint
            with self._condition:
                at, reply = self._replies.get(key, (0.0, None))
                if key in self._pending or (reply and self._is_fresh(reply, now - at)):
                    continue
                if server not in self._servers:
                    self._servers.append(server)
                self._pending[key] = now
            if not start(lambda server=server: self._work(server)):  # type: ignore[misc]
                self._work(server)

    def _work(self, server: PasswordServer) -> None:
        endpoint = server.endpoint
        try:
            reply = ask(self._system, endpoint, self._deadline, SEND)
            if not reply.signed and reply.state == "offered":
                reply = self._of_the_protocol(endpoint, reply)
        except Exception as error:  # a bug of ours: its class is all that may be told
            reply = PasswordReply("unknown", "failed", f"asking failed ({type(error).__name__})")
        now = self._system.clock.monotonic()
        with self._condition:
            _, before = self._replies.get(server.endpoint, (0.0, None))
            cut_off = reply.outcome == "timeout" and now >= self._deadline - CUT_OFF_SECONDS
            if cut_off and before is not None and before.state == "unknown":
                reply = before  # it says why; that our own time was over does not
            self._replies[server.endpoint] = (now, reply)
            self._pending.pop(server.endpoint, None)
            self._condition.notify_all()

    def _of_the_protocol(self, endpoint: Endpoint, reply: PasswordReply) -> PasswordReply:
        """The reply, where another question gets another one: any service may say one line to anybody."""
        other = ask(self._system, endpoint, self._deadline, NONSENSE)
        with self._condition:
            _, before = self._replies.get(endpoint, (0.0, None))
        known = before is not None and before.reason == SAME  # and our time may be over between the questions
        if other.value == reply.value or (other.outcome == "timeout" and known):
            return PasswordReply("unknown", "malformed", SAME)
        return reply

    def _is_fresh(self, reply: PasswordReply, age: float) -> bool:
        """Whether asking again would tell nothing new: an offer is compared before it is acknowledged."""
        fresh = self._system.clock.stretched(FRESH_SECONDS)
        return reply.state == "offered" or (reply.state == "none" and age < fresh)

    def wait_for_all(self, servers: Sequence[PasswordServer]) -> None:
        """Wait until all of them have answered; each has its own time for that."""
        keys = {server.endpoint for server in servers}
        with self._condition:
            while keys & set(self._pending):
                left = self._deadline + self._grace - self._system.clock.monotonic()
                if left <= 0:
                    return
                self._condition.wait(left)

    def wait(self, servers: Sequence[PasswordServer], until: float) -> None:
        """Wait until all of them have answered, or `GRACE_SECONDS` after the first that has something."""
        keys = {server.endpoint for server in servers}
        with self._condition:
            while keys & set(self._pending):
                end = min(until, self._deadline + self._grace)
                told = [self._replies[key] for key in keys - set(self._pending) if key in self._replies]
                times = [at for at, reply in told if reply.state != "unknown"]
                if times:
                    end = min(end, min(times) + self._grace)
                left = end - self._system.clock.monotonic()
                if left <= 0:
                    return
                self._condition.wait(left)

    def answers(self, servers: Sequence[PasswordServer]) -> Tuple[Answered, ...]:
        """Their last answers, in this order; who has not answered yet has a reply that says so."""
        silent = PasswordReply("unknown", "timeout", "no answer so far", answered=False)
        with self._condition:
            asked = [server for server in servers if server in self._servers]
            return tuple((server, self._replies.get(server.endpoint, (0.0, silent))[1]) for server in asked)

    def pause(self, seconds: float) -> None:
        """Wait a little before the next round."""
        left = min(seconds, self._deadline - self._system.clock.monotonic())
        self._system.clock.sleep(max(0.0, left))


def pause(spent: float, jitter: float) -> float:
    """Seconds before a password server is asked again that took `spent` seconds to tell nothing.

    One that is starting refuses at once, and is asked again soon; one that is slow has many VMs to serve.
    """
    return RETRY_SECONDS + min(spent, REST_LIMIT) * jitter


def groups(servers: Sequence[PasswordServer]) -> Tuple[Tuple[PasswordServer, ...], ...]:
    """Unique servers: those of the default NIC, then the others; one group where no NIC is the default."""
    unique: Dict[Endpoint, PasswordServer] = {}
    for server in sorted(servers, key=lambda server: not server.default):
        unique.setdefault(server.endpoint, server)
    first = tuple(server for server in unique.values() if server.default)
    rest = tuple(server for server in unique.values() if not server.default)
    return (first, rest) if first else (rest, ())


def acknowledge(
    system: System, endpoints: Sequence[Endpoint], secret: Secret, deadline: float
) -> Tuple[Place, ...]:
    """Tell every server that offered the password that it is set. Nothing is raised.

    The acknowledgement does not say what it acknowledges, and deletes whatever is stored: so each server
    is asked again first, and one that has another password by now is left alone
    (field/cloudstack#edge-40, outcome "changed").

    Args:
        system: its dialer and clock are used.
        endpoints: those of the `PasswordOffer`.
        secret: the password that was set.
        deadline: on the monotonic clock.

    Returns:
        One place per endpoint: ok, changed, or why it could not be told.
    """
    told = in_parallel(lambda one: _acknowledge_one(system, one, secret, deadline), endpoints, 8, deadline)
    late = PasswordReply("unknown", "timeout", "no answer in time")
    return tuple(_told_place(endpoint, reply or late) for endpoint, reply in zip(endpoints, told))


def _told_place(endpoint: Endpoint, reply: PasswordReply) -> Place:
    place = f"password server {endpoint.address}:{endpoint.port}"
    return Place(place, WHY_ACKNOWLEDGE, reply.outcome, reply.reason, reply.seconds)


def _acknowledge_one(system: System, endpoint: Endpoint, secret: Secret, deadline: float) -> PasswordReply:
    while True:
        began = system.clock.monotonic()
        reply = _try_to_acknowledge(system, endpoint, secret, deadline)
        now = system.clock.monotonic()
        rest = pause(now - began, random.random())
        if reply.state != "unknown" or reply.answered or now + rest >= deadline:
            return reply
        system.clock.sleep(rest)


def _try_to_acknowledge(system: System, endpoint: Endpoint, secret: Secret, deadline: float) -> PasswordReply:
    """Ask once more what is offered, and tell.

    Releases to 4.1.1 take one connection at a time, and nobody listens for some 20 ms after each: the
    acknowledgement alone is tried again then, while the answer to the question still holds.
    """
    now = ask(system, endpoint, deadline, SEND)
    if now.state == "unknown":
        return now
    if now.state == "none":
        return now._replace(reason="already acknowledged")
    if now.value != secret:
        reason = "offers a different password than the one that was set: not acknowledged"
        return now._replace(outcome="changed", reason=reason)
    holds = min(deadline, system.clock.monotonic() + CONFIRMED_SECONDS)
    while True:
        after = ask(system, endpoint, deadline, SAVED)
        rest = RETRY_SECONDS * random.uniform(0.3, 1.0)
        if after.state != "unknown" or after.answered or system.clock.monotonic() + rest >= holds:
            break
        system.clock.sleep(rest)
    # CloudStack's own server forgets in memory; a script (field/cloudstack#4.3) has a file to write, and says
    # the same where the disk is full.
    if after.confirmed and not after.signed and _is_still_offered(system, endpoint, secret, deadline):
        reason = "confirmed that the password is forgotten, and offers it all the same"
        return after._replace(outcome="failed", reason=reason)
    if after.confirmed:
        return after._replace(reason="acknowledged")
    if after.state == "unknown":
        return after._replace(reason=f"asked to forget the password, then: {after.reason}")
    return after._replace(outcome="failed", reason="did not confirm that the password is forgotten")


def _is_still_offered(system: System, endpoint: Endpoint, secret: Secret, deadline: float) -> bool:
    """Whether a server that has confirmed offers this very password still, asked once."""
    clock = system.clock
    end = clock.monotonic() + clock.stretched(FORGOTTEN_SECONDS + STILL_SECONDS)
    if end > deadline:
        return False
    clock.sleep(FORGOTTEN_SECONDS)
    return ask(system, endpoint, end, SEND).value == secret
