"""What became of each candidate, as places: what `fetch`, `status` and `doctor` show."""

from __future__ import annotations

from typing import List, Optional, Tuple

from csagent.discovery.candidates import DATA_SERVER
from csagent.model import Place
from csagent.sources.refusals import MTU
from csagent.sources.router.metadata import MetadataTree
from csagent.sources.router.probe import Probe
from csagent.sources.router.search import CANDIDATES_LIMIT, Search

BROKEN = (
    "the router answers HTTP 500 below /latest, as it does for all of its VMs where a user-data variable of "
    "any of them has a blank in its name; read from this VM's own directory beside it"
)


def places(search: Search, chosen: Optional[Probe], tree: Optional[MetadataTree]) -> Tuple[Place, ...]:
    """One place per candidate, those that were left out included.

    Args:
        search: whose candidates.
        chosen: the one that is believed, where there is one.
        tree: what was read of it.
    """
    asked = [_place(probe, chosen, tree) for probe in search.probes if not probe.folded]
    reason = f"not asked: {CANDIDATES_LIMIT} candidates rank higher"
    left_out = [Place(f"router {one.address}", one.why, "skipped", reason) for one in search.left_out]
    return (*_name_folded(asked, search), *left_out)


def _place(probe: Probe, chosen: Optional[Probe], tree: Optional[MetadataTree]) -> Place:
    if probe is chosen and tree is not None:
        size = f", {len(tree.user_data)} bytes of user-data" if tree.user_data else ""
        partly = "" if tree.complete else "; some of it could not be read, and is asked for again"
        partly += f"; {MTU}" if tree.only_small else ""
        partly += f"; {BROKEN}" if tree.from_own else ""
        outcome = "ok" if tree.complete and not tree.from_own else "partial"
        return probe.report(f"{len(tree.metadata)} metadata keys{size}{partly}", outcome)
    if probe.instance_id is not None and chosen is not None:
        if probe.instance_id == chosen.instance_id:
            return probe.report(f"the same VM as at {chosen.place}, which ranks higher")
        reason = f"instance id {probe.instance_id}, but {chosen.place} ranks higher"
        return probe.report(f"{reason} and says {chosen.instance_id}", "foreign")
    return probe.report(str(probe.problem), probe.problem.outcome)


def _name_folded(asked: List[Place], search: Search) -> List[Place]:
    """Say at the candidate with the address of "data-server." that it is that, too."""
    folded = [probe.name.known() for probe in search.probes if probe.folded and probe.name is not None]
    names = {f"router {address}" for addresses in folded for address in addresses}
    return [
        place._replace(why=f"{place.why}; also {DATA_SERVER}")
        if place.place.split(":")[0] in names
        else place
        for place in asked
    ]
