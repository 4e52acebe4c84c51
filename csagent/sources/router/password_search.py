"""The candidates in their second role, as password servers: which of them has a password for this VM.

Their answers are judged by a snapshot of what answered on port 80 (`csagent.sources.router.trust`).
"""

from __future__ import annotations

import random
from typing import List, Optional, Sequence, Set, Tuple

from csagent.model import PasswordOffer, Place, Refusal
from csagent.sources.router import trust as rule
from csagent.sources.router.password_protocol import Network, PasswordServer, network_of
from csagent.sources.router.passwords import PasswordPoller, groups, pause
from csagent.sources.router.probe import Probe
from csagent.sources.router.search import Question
from csagent.sources.router.trust import Answered, Sender, Trust

EVIDENCE_SECONDS = 1.0  # for the metadata beside an offered password
PASSWORD_SECONDS = 3.0  # for a password server that starts later than its router's metadata
PASSWORD_LOADED_SECONDS = 15.0  # where that router is slow; rather than to read all of it again
LAST_WORD_SECONDS = 0.5  # for password servers, so that the report of a look without a router is whole


class PasswordSearch:
    """Asks the candidates of one read for a password.

    Args:
        question: whose clock and deadline hold.
        probes: the candidates, best first, and what is known of their metadata.
    """

    def __init__(self, question: Question, probes: Sequence[Probe]) -> None:
        self._clock = question.system.clock
        self._deadline = question.deadline
        self._elsewhere = question.platform.cloudstack is False
        self._probes = probes
        self._poller = PasswordPoller(question.system, question.deadline)

    def ask_beside(self, probe: Probe) -> None:
        """Ask for the password at the same time as for the metadata, where it is this one's turn."""
        first, _ = groups(self._servers())
        mine = PasswordServer.of(probe.candidate, probe.address)
        self._poller.ask([one for one in first if one.endpoint == mine.endpoint])

    def settle(self, chosen: Probe, *, repeat: bool) -> PasswordOffer:
        """What the password servers come to, now that metadata is believed.

        Args:
            chosen: whose metadata that is.
            repeat: those that gave nothing are asked again for a while.
        """
        patience = PASSWORD_LOADED_SECONDS if chosen.loaded else PASSWORD_SECONDS
        end = self._clock.monotonic() + self._clock.stretched(patience)
        while True:
            began = self._clock.monotonic()
            first, rest = groups(self._servers())
            answers = self._ask(first, chosen, repeat=repeat)
            offer = rule.offers(answers, self.trust(chosen))
            # Whoever holds the default route may be there to keep us from the others.
            if rest and offer.state == "unknown":
                answers = (*answers, *self._ask(rest, chosen, repeat=repeat))
                offer = rule.offers(answers, self.trust(chosen))
            now = self._clock.monotonic()
            if offer.state != "unknown" or not repeat or now >= min(end, self._deadline):
                return offer
            self._poller.pause(pause(now - began, random.random()))

    def _ask(self, servers: Sequence[PasswordServer], chosen: Probe, *, repeat: bool) -> Tuple[Answered, ...]:
        self._poller.ask(servers if repeat else [one for one in servers if not self._poller.answers([one])])
        self._poller.wait(servers, self._deadline)
        answers = self._poller.answers(servers)
        if not any(reply.state == "offered" for _, reply in answers):
            return answers
        self._await_evidence(answers, chosen)
        trust = self.trust(chosen)
        offer = rule.offers(answers, trust)
        proven = [server for server in servers if trust.proves(server)]
        if offer.state == "offered" and not any(one.endpoint in offer.endpoints for one in proven):
            # "Nothing is waiting" of an address that gave the instance id would outweigh it.
            self._poller.wait_for_all(proven)
            answers = self._poller.answers(servers)
        return answers

    def _await_evidence(self, answers: Sequence[Answered], chosen: Probe) -> None:
        """Before a password is judged, let the metadata of its address, or of its network, be known."""
        end = min(self._deadline, self._clock.monotonic() + self._clock.stretched(EVIDENCE_SECONDS))
        believed = self.trust(chosen).believed
        for server, reply in answers:
            if reply.state != "offered":
                continue
            for probe in self._probes:
                itself = (probe.address, probe.candidate.source) == rule.sender(server)
                beside = server.network not in believed and network_of(probe.candidate) == server.network
                if itself or beside:
                    probe.done.wait(max(0.0, end - self._clock.monotonic()))

    def last_word(self) -> PasswordOffer:
        """What they come to where no metadata is believed."""
        first, _ = groups(self._servers())
        self._poller.wait(
            first, min(self._deadline, self._clock.monotonic() + self._clock.stretched(LAST_WORD_SECONDS))
        )
        return rule.offers(self._poller.answers(first), self.trust(None))

    def _servers(self) -> List[PasswordServer]:
        """Best first; a name that is not resolved has none yet."""
        return [
            PasswordServer.of(probe.candidate, probe.address)
            for probe in self._probes
            if probe.address is not None
        ]

    def trust(self, chosen: Optional[Probe]) -> Trust:
        """What is known by now of who answers on port 80, and as whose router.

        Args:
            chosen: the router that is believed, where one is.
        """
        ours: Set[Sender] = set()
        others: Set[Sender] = set()
        believed: Set[Network] = set()
        answering: Set[Network] = set()
        for probe in self._probes:
            network, sender = network_of(probe.candidate), (probe.address or "", probe.candidate.source)
            if probe.answers:
                answering.add(network)
            if probe.instance_id is not None and chosen is not None:
                mine = probe.instance_id == chosen.instance_id
                (ours if mine else others).add(sender)
                believed.update([network] if mine else [])
            elif probe.problem.outcome == "foreign":
                others.add(sender)
        return Trust(
            frozenset(ours),
            frozenset(others),
            frozenset(believed),
            frozenset(answering),
            self._main(),
            self._elsewhere,
        )

    def _main(self) -> Optional[Network]:
        """The default NIC's network, or the only one."""
        default = [network_of(probe.candidate) for probe in self._probes if probe.candidate.default]
        every = {network_of(probe.candidate) for probe in self._probes}
        if default:
            return default[0]
        return every.pop() if len(every) == 1 else None

    def refusals(self, chosen: Probe, offer: PasswordOffer) -> Tuple[Refusal, ...]:
        """What the router's own password server said in place of a password."""
        if offer.state != "unknown":
            return ()
        first, rest = groups(self._servers())
        return tuple(
            Refusal("password", server.place, reply.reason)
            for server, reply in self._poller.answers((*first, *rest))
            if reply.outcome == "malformed" and (server.endpoint.address == chosen.address or reply.signed)
        )

    def places(self, trust: Trust) -> Tuple[Place, ...]:
        """One place per password server, those that were not asked included."""
        first, rest = groups(self._servers())
        answers = self._poller.answers((*first, *rest))
        asked = {server for server, _ in answers}
        skipped = tuple(
            Place(server.place, server.why, "skipped", "not asked: the default NIC comes first")
            for server in (*first, *rest)
            if server not in asked
        )
        return (*rule.places(answers, trust), *skipped)
