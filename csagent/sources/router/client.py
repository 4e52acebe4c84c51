"""Find the virtual router among the candidates and read everything it has for this VM.

    look    once, now
    read    again and again, until a router is believed or the time is over

Both ask all candidates at once and believe only positive evidence; neither acknowledges anything.
"""

from __future__ import annotations

import queue
import random
from typing import Callable, List, NamedTuple, Optional, Sequence, Set, Tuple

from csagent.discovery.candidates import DATA_SERVER
from csagent.model import Candidate, PasswordOffer, Place, Platform, Reading, Refusal
from csagent.sources.router import passwords
from csagent.sources.router.metadata import Reader, Tree
from csagent.sources.router.names import Lookup, resolver
from csagent.sources.router.password_protocol import Nic, PasswordServer, nic_of
from csagent.sources.router.probe import Probe
from csagent.sources.router.search import CANDIDATES_LIMIT, Search
from csagent.sources.router.threads import SLACK_SECONDS, start
from csagent.system.seams import System

EVIDENCE_SECONDS = 1.0  # for the metadata beside an offered password
LISTING_SECONDS = 2.0  # for the listing, once the instance id is there
PASSWORD_SECONDS = 3.0  # for a password server that starts later than its router's metadata
PASSWORD_LOADED_SECONDS = 15.0  # where that router is slow; rather than to read all of it again
LAST_WORD_SECONDS = 0.5  # for password servers, so that the report of a look without a router is whole


class RouterAnswer(NamedTuple):
    """What the routers gave: at most one reading, and one place per candidate and port."""

    readings: Tuple[Reading, ...] = ()
    places: Tuple[Place, ...] = ()


Progress = Callable[[RouterAnswer], None]


def look(
    system: System,
    candidates: Sequence[Candidate],
    platform: Platform,
    *,
    deadline: float,
    resolve: Optional[Lookup] = None,
) -> RouterAnswer:
    """Ask every candidate once and read the best-ranked that is believed.

    Args:
        system: its dialer opens every connection, its clock measures.
        candidates: best first.
        platform: DMI; where it is CloudStack's, its UUID must be the instance id.
        deadline: on the monotonic clock. Nothing waits past it.
        resolve: how "data-server." is resolved; raises OSError. None: by each NIC's name servers.
    """
    return _Reading(system, candidates, platform, deadline, resolve).run(deadline, repeat=False)


def read(
    system: System,
    candidates: Sequence[Candidate],
    platform: Platform,
    *,
    deadline: float,
    patience: Optional[float] = None,
    progress: Optional[Progress] = None,
    resolve: Optional[Lookup] = None,
) -> RouterAnswer:
    """As `look`, but a candidate that gave nothing is asked again until one is believed.

    Args:
        system: its dialer opens every connection, its clock measures.
        candidates: best first.
        platform: DMI; where it is CloudStack's, its UUID must be the instance id.
        deadline: on the monotonic clock. Nothing waits past it.
        patience: seconds after which no router is waited for any more; one that is believed by then is
            still read until `deadline`.
        progress: called with what is known so far each time that changes, in the calling thread.
        resolve: how "data-server." is resolved; raises OSError. None: by each NIC's name servers.
    """
    until = deadline if patience is None else min(deadline, system.clock.monotonic() + patience)
    reading = _Reading(system, candidates, platform, deadline, resolve)
    reading.progress = progress
    return reading.run(until, repeat=True)


class _Reading:
    """One look or read in progress."""

    def __init__(
        self,
        system: System,
        candidates: Sequence[Candidate],
        platform: Platform,
        deadline: float,
        resolve: Optional[Lookup],
    ) -> None:
        self._system = system
        self._deadline = deadline
        self._desk = passwords.Desk(system, deadline)
        self._search = Search(
            system, candidates, platform, deadline, resolve or resolver(system), self._ask_beside
        )
        self._probes = self._search.probes
        self.progress: Optional[Progress] = None
        self._told: Tuple[Tuple[str, str, str], ...] = ()

    def run(self, until: float, *, repeat: bool) -> RouterAnswer:
        if not self._probes:
            return RouterAnswer()
        try:
            chosen = self._search.choose(until, repeat=repeat, tell=self._tell)
            if chosen is None:
                first, _ = passwords.groups(self._servers())
                self._desk.wait(
                    first, min(self._deadline, self._system.clock.monotonic() + LAST_WORD_SECONDS)
                )
                return self._only_a_password()
            return self._answer(chosen, *self._read(chosen, repeat=repeat))
        finally:
            self._search.close()

    def _answer(self, chosen: Probe, tree: Tree, offer: PasswordOffer) -> RouterAnswer:
        reading = Reading(
            channel="router",
            place=chosen.place,
            instance_id=chosen.instance_id,
            metadata=dict(tree.metadata),
            ssh_keys=tree.ssh_keys,
            password=offer,
            user_data=tree.user_data,
            interface=chosen.candidate.interface,
            refusals=(*tree.refusals, *self._refused_passwords(chosen, offer)),
            doubts=tree.doubts,
            complete=tree.complete and offer.state != "unknown",
        )
        return RouterAnswer((reading,), (*self._router_places(chosen, tree), *self._password_places(chosen)))

    def _refused_passwords(self, chosen: Probe, offer: PasswordOffer) -> Tuple[Refusal, ...]:
        """What the router's own password server said in place of a password."""
        if offer.state != "unknown":
            return ()
        first, rest = passwords.groups(self._servers())
        return tuple(
            Refusal("password", server.place, reply.reason)
            for server, reply in self._desk.answers((*first, *rest))
            if reply.outcome == "malformed" and (server.endpoint.address == chosen.address or reply.signed)
        )

    def _only_a_password(self) -> RouterAnswer:
        """No metadata anywhere. A password server that signs is evidence, too (field/cloudstack#8)."""
        answer = self._nothing()
        first, _ = passwords.groups(self._servers())
        answers = self._desk.answers(first)
        offer = passwords.offers(answers, self._trust(None))
        if offer.state != "offered":
            return answer
        reading = Reading(channel="router", place=offer.place, password=offer, complete=False)
        return RouterAnswer((reading,), answer.places)

    def _nothing(self) -> RouterAnswer:
        return RouterAnswer((), (*self._router_places(None, None), *self._password_places()))

    def _tell(self) -> None:
        """Report to who waits that nothing is believed yet, and why, where that is news."""
        if self.progress is not None:
            answer = self._nothing()
            told = tuple((place.place, place.outcome, place.detail) for place in answer.places)
            if told != self._told:
                self._told = told
                self.progress(answer)

    # --- stages two to four, and the password beside them -------------------------------------

    def _read(self, chosen: Probe, *, repeat: bool) -> Tuple[Tree, PasswordOffer]:
        clock = self._system.clock
        settled: queue.SimpleQueue[PasswordOffer] = queue.SimpleQueue()
        if not start(lambda: settled.put(self._settle(chosen, repeat=repeat))):
            settled.put(self._settle(chosen, repeat=repeat))
        http = chosen.http
        if http is None or chosen.instance_id is None:
            raise AssertionError("a candidate is believed only after it answered")
        reader = Reader(http.get, chosen.place, self._deadline, clock, loaded=chosen.loaded)
        listing = chosen.listing(min(LISTING_SECONDS, self._deadline - clock.monotonic()))
        tree = reader.read(chosen.instance_id, listing, legacy=chosen.legacy)
        chosen.close()  # while the password is waited for, others may need the connections
        if self.progress is not None and settled.empty():
            self.progress(self._answer(chosen, tree, PasswordOffer(reason="no answer so far")))
        try:
            offer = settled.get(timeout=max(0.0, self._deadline + SLACK_SECONDS - clock.monotonic()))
        except queue.Empty:
            offer = PasswordOffer(reason="no answer in time")
        return tree, offer

    def _ask_beside(self, probe: Probe) -> None:
        """Ask for the password at the same time as for the metadata, where it is this one's turn."""
        first, _ = passwords.groups(self._servers())
        mine = PasswordServer.of(probe.candidate, probe.address)
        self._desk.ask([one for one in first if one.endpoint == mine.endpoint])

    def _settle(self, chosen: Probe, *, repeat: bool) -> PasswordOffer:
        """What the password servers come to, now that metadata is believed."""
        patience = PASSWORD_LOADED_SECONDS if chosen.loaded else PASSWORD_SECONDS
        end = self._system.clock.monotonic() + patience
        while True:
            began = self._system.clock.monotonic()
            first, rest = passwords.groups(self._servers())
            self._desk.ask(first if repeat else [one for one in first if not self._desk.answers([one])])
            self._desk.wait(first, self._deadline)
            answers = self._desk.answers(first)
            self._await_evidence(answers, chosen)
            # Whoever holds the default route may be there to keep us from the others.
            if rest and passwords.offers(answers, self._trust(chosen)).state == "unknown":
                self._desk.ask(rest if repeat else [one for one in rest if not self._desk.answers([one])])
                self._desk.wait(rest, self._deadline)
                answers = (*answers, *self._desk.answers(rest))
                self._await_evidence(answers, chosen)
            offer = passwords.offers(answers, self._trust(chosen))
            now = self._system.clock.monotonic()
            if offer.state != "unknown" or not repeat or now >= min(end, self._deadline):
                return offer
            self._desk.pause(passwords.pause(now - began, random.random()))

    def _await_evidence(self, answers: Sequence[passwords.Answered], chosen: Probe) -> None:
        """Before a password is judged, let the metadata of its address, or of its network, be known."""
        end = min(self._deadline, self._system.clock.monotonic() + EVIDENCE_SECONDS)
        for server, reply in answers:
            if reply.state != "offered":
                continue
            elsewhere = server.nic not in self._trust(chosen).believed
            for probe in self._probes:
                itself = (probe.address, probe.candidate.source) == passwords.way(server)
                if itself or (elsewhere and nic_of(probe.candidate) == server.nic):
                    probe.done.wait(max(0.0, end - self._system.clock.monotonic()))

    def _servers(self) -> List[PasswordServer]:
        """The candidates in their second role, best first; a name that is not resolved has none yet."""
        return [
            PasswordServer.of(probe.candidate, probe.address)
            for probe in self._probes
            if probe.address is not None
        ]

    def _trust(self, chosen: Optional[Probe]) -> passwords.Trust:
        """What is known by now of who answers on port 80, and as whose router."""
        ours: Set[passwords.Way] = set()
        others: Set[passwords.Way] = set()
        believed: Set[Nic] = set()
        answering: Set[Nic] = set()
        for probe in self._probes:
            nic, way = nic_of(probe.candidate), (probe.address or "", probe.candidate.source)
            if probe.answers:
                answering.add(nic)
            if probe.instance_id is not None and chosen is not None:
                mine = probe.instance_id == chosen.instance_id
                (ours if mine else others).add(way)
                believed.update([nic] if mine else [])
            elif probe.problem.outcome == "foreign":
                others.add(way)
        return passwords.Trust(frozenset(ours), frozenset(others), frozenset(believed), frozenset(answering))

    # --- the report ---------------------------------------------------------------------------

    def _router_places(self, chosen: Optional[Probe], tree: Optional[Tree]) -> Tuple[Place, ...]:
        places: List[Place] = []
        folded = [probe for probe in self._probes if probe.folded]
        for probe in self._probes:
            if probe.folded:
                continue
            if probe is chosen and tree is not None:
                size = f", {len(tree.user_data)} bytes of user-data" if tree.user_data else ""
                partly = "" if tree.complete else "; some of it could not be read, and is asked for again"
                outcome = "ok" if tree.complete else "partial"
                place = probe.report(f"{len(tree.metadata)} metadata keys{size}{partly}", outcome)
            elif probe.instance_id is not None and chosen is not None:
                if probe.instance_id == chosen.instance_id:
                    place = probe.report(f"the same VM as at {chosen.place}, which ranks higher")
                else:
                    reason = f"instance id {probe.instance_id}, but {chosen.place} ranks higher"
                    place = probe.report(f"{reason} and says {chosen.instance_id}", "foreign")
            else:
                place = probe.report(str(probe.problem), probe.problem.outcome)
            places.append(place)
        if folded:
            places = self._name_folded(places)
        reason = f"not asked: {CANDIDATES_LIMIT} candidates rank higher"
        left_out = self._search.left_out
        places.extend(Place(f"router {one.address}", one.why, "skipped", reason) for one in left_out)
        return tuple(places)

    def _name_folded(self, places: List[Place]) -> List[Place]:
        """Say at the candidate with the address of "data-server." that it is that, too."""
        folded = [probe.name.known() for probe in self._probes if probe.folded and probe.name is not None]
        names = {f"router {address}" for addresses in folded for address in addresses}
        return [
            place._replace(why=f"{place.why}; also {DATA_SERVER}")
            if place.place.split(":")[0] in names
            else place
            for place in places
        ]

    def _password_places(self, chosen: Optional[Probe] = None) -> Tuple[Place, ...]:
        first, rest = passwords.groups(self._servers())
        answers = self._desk.answers((*first, *rest))
        asked = {server for server, _ in answers}
        skipped = tuple(
            Place(server.place, server.why, "skipped", "not asked: the default NIC comes first")
            for server in (*first, *rest)
            if server not in asked
        )
        return (*passwords.places(answers, self._trust(chosen)), *skipped)
