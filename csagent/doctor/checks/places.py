"""What came of asking each virtual router on :80, each password server on :8080, and of each drive."""

from __future__ import annotations

import shlex
from typing import Dict, Iterator, List, Tuple

from csagent.discovery.candidates import DATA_SERVER
from csagent.doctor.checks import renewal
from csagent.doctor.context import Situation
from csagent.doctor.finding import NOTE, OK, PROBLEM, WARNING, Finding
from csagent.model import Place
from csagent.sandbox import jail
from csagent.sources.refusals import MTU
from csagent.sources.router.connect import ONLY_ROOT

SLOW = 2.0  # seconds; a virtual router answers within milliseconds
ROUTER, PASSWORD_SERVER, DRIVE = "router", "password server", "drive"

Says = Dict[str, Tuple[str, str]]
# outcome -> what it means, what to do. {address} and {port} are the place's.
ROUTER_SAYS: Says = {
    "refused": (
        "a machine is there, but nothing serves metadata on that port",
        "see that the network offering has the UserData service, then: "
        "cmk restart network id=ID cleanup=false",
    ),
    "timeout": (
        "nobody answers: the router is down, this is not the router, or a firewall drops the requests",
        "ping -c3 {address}; nft list ruleset; see in CloudStack that the network's virtual router runs",
    ),
    "unreachable": (
        "there is no way to that address from here",
        "ip route get {address}; ip neigh show {address}",
    ),
    "absent": (
        "it answers and has no metadata for this VM's address",
        "compare ip -4 addr with the VM's NICs in CloudStack, then: cmk restart network id=ID cleanup=false",
    ),
    "malformed": (
        "the answer is not that of a virtual router: another web server, a proxy or a login page",
        "curl -i http://{address}:{port}/latest/instance-id",
    ),
    "foreign": (
        "the answer is meant for another VM or by another cloud, and was not used",
        "compare ip -4 addr with the VM's NICs in CloudStack, and /sys/class/dmi/id/product_uuid with its id",
    ),
    "failed": (
        "the virtual router itself fails, for all of its VMs",
        "curl -i http://{address}:{port}/latest/meta-data/; where that says 500, the router needs a look at "
        "its /var/www/html/latest/.htaccess",
    ),
}
BROKEN = (
    "not this VM's doing: the rules for all VMs of that router are broken",
    "have the router's administrator take the blank out of the variable's name: grep -n ' ' on the router's "
    "/var/www/html/latest/.htaccess shows whose it is",
)
PASSWORD_SAYS: Says = {
    "refused": (
        "the virtual router's password server does not run: a reset password cannot arrive",
        "restart the network (cmk restart network id=ID cleanup=false), reset the password, then: "
        "csagent apply",
    ),
    "timeout": (
        "the password server does not answer, or a firewall drops port {port}: a password cannot arrive",
        "ping -c3 {address}; nft list ruleset; then: csagent apply",
    ),
    "unreachable": ("there is no way to the password server from here", "ip route get {address}"),
    "absent": (
        "what answers on port {port} is no password server",
        "curl -si -H 'DomU_Request: send_my_password' http://{address}:{port}/ | head -n1",
    ),
    "malformed": (
        "what it said cannot be a password, and was not set",
        "reset the password in CloudStack once more, then: csagent apply",
    ),
    "foreign": (
        "its answer was not believed",
        "csagent -v fetch; compare ip -4 addr with the VM's NICs in CloudStack",
    ),
}
DRIVE_SAYS: Says = {
    "absent": ("it holds nothing of CloudStack's", "blkid; ls -l /dev/disk/by-label"),
    "timeout": (
        "reading it took too long and was stopped: a damaged image, or a slow store",
        "detach and attach the config drive by stopping and starting the VM in CloudStack",
    ),
    "malformed": (
        "it cannot be read as a config drive of CloudStack's",
        "have it made anew by stopping and starting the VM in CloudStack",
    ),
    "foreign": (
        "it was made for another VM or by another cloud, and was not used",
        "detach it, or have it made anew by stopping and starting the VM in CloudStack",
    ),
}
# Of the name data-server., where nobody was asked: it has no address.
NAME_SAYS = {
    "absent": "no name server of that network knows the name: only a virtual router that is one of them does",
    "timeout": "no name server of that network answers, so nobody was asked under that name",
}
GATEWAY = (
    "nothing listens there on port {port}. Where a virtual router has that address (redundant ones share "
    "it), its password server does not run; a physical gateway has none",
    "cmk list routers networkid=ID, and compare their addresses; where it is theirs: "
    "cmk restart network id=ID cleanup=false, reset the password, then: csagent apply",
)
REPLACED = "; or the lease still names a virtual router that was replaced by one with another address"
ONLY_SMALL = (
    "a network on the way (a tunnel, VXLAN) carries smaller packets than this NIC's MTU says",
    "ping -c3 -M do -s 1472 {address}; where that gets no answer and -s 1372 does: "
    "ip link set dev {nic} mtu 1400; then: csagent apply; and have it set for good, best on the hosts",
)
OTHERWISE = ("it could not be asked", "csagent -v fetch")
KEPT_OUT = (
    "root reaches it, and the user that csagent asks as does not: a rule of this VM goes by the user",
    "see which: ip rule; nft list ruleset; then let that user go there, too, in front of it and in its table "
    "and chain: ip rule add pref 1 uidrange {user}-{user} to {address} lookup main; or: "
    "nft insert rule inet filter output ip daddr {address} tcp dport {port} meta skuid {user} accept; or: "
    "iptables -I OUTPUT -d {address} -p tcp --dport {port} -m owner --uid-owner {user} -j ACCEPT",
)
NOT_PERMITTED = (
    "this machine does not let the user that csagent asks as go there",
    "as root: csagent doctor, which tries once as root and says whether only root may",
)
NOT_EVEN_ROOT = (
    "this machine does not let csagent go there, nor root",
    "ip rule; ip route get {address}; nft list ruleset",
)
RULE = "where you do not trust them all: csagent.nft among the examples of csagent's package"


def routers(situation: Situation) -> Iterator[Finding]:
    """Each candidate on :80 and :8080, with the time it took."""
    seen = situation.seen
    if not seen.looked:
        yield _not_looked(situation, "router")
        return
    if "router" not in situation.settings.sources:
        yield Finding("router", NOTE, "not asked: the setting sources leaves the router out")
        return
    asked = [place for place in seen.places if kind(place) == ROUTER]
    servers = [place for place in seen.places if kind(place) == PASSWORD_SERVER]
    answered = [place for place in asked if place.believed]
    # Something else has the data: a router that has none is how such a network is made.
    spared = seen.source_found and not answered
    for place in asked:
        says = _denied(situation, place, _of_old_lease(situation, place))
        yield _judge("router", place, says, NOTE if answered or spared else PROBLEM, _nic(situation, place))
    heard = any(place.believed for place in servers)
    enough = heard or spared or seen.password in ("offered", "none") or not situation.settings.password
    worst = NOTE if enough else PROBLEM if answered else NOTE
    for place in servers:
        own = any(address(place)[0] == address(other)[0] for other in answered)
        says = (
            PASSWORD_SAYS
            if own or not _is_gateway(situation, place)
            else {**PASSWORD_SAYS, "refused": GATEWAY}
        )
        yield _judge("router", place, _denied(situation, place, says), worst)
    if answered and not servers and situation.settings.password:
        yield Finding("router", NOTE, "no password server was asked")
    for server in seen.open_to_all:
        saw = f"any user of this machine can ask {server} for a password that waits, and delete it there"
        yield Finding("router", NOTE, saw, "CloudStack's protocol knows VMs, not users", RULE)


def drives(situation: Situation) -> Iterator[Finding]:
    """Devices with the label, and what was on them."""
    seen = situation.seen
    if not seen.looked:
        yield _not_looked(situation, "drives")
        return
    if "drive" not in situation.settings.sources:
        yield Finding("drives", NOTE, "not looked for: the setting sources leaves the drive out")
        return
    read = [place for place in seen.places if kind(place) == DRIVE]
    good = any(place.believed for place in read)
    for place in read:
        if place.place == DRIVE and place.outcome == "absent":  # no device at all
            yield Finding("drives", OK, f"none: {place.detail}", _why_no_drive(situation))
            continue
        yield _judge("drives", place, DRIVE_SAYS, NOTE if good else WARNING)
    for drive in seen.drives:
        if not any(place.place == f"drive {drive.device}" for place in read):
            yield Finding("drives", NOTE, f"{drive.device}, label {drive.label}: not read", drive.why)
    if not read:
        yield Finding("drives", OK, "none looked at", _why_no_drive(situation))


def source(situation: Situation) -> Iterator[Finding]:
    """Whether anybody at all has the data of this VM."""
    seen = situation.seen
    if seen.problem:
        yield Finding("source", WARNING, seen.problem, "which places answer is not known", "csagent -v fetch")
    elif not seen.looked:
        return
    elif seen.source_found:
        good = [place.place for place in seen.places if place.believed and kind(place) != PASSWORD_SERVER]
        instance = f"instance {seen.instance_id}" if seen.instance_id else "an instance without an id"
        yield Finding("source", OK, f"{instance}, by {', '.join(good) or 'a place that is not named'}")
        yield Finding("source", OK, f"password: {_password(situation)}")
    else:
        means = "neither a virtual router nor a config drive has data for this VM: nothing can be set"
        yield Finding("source", PROBLEM, "no CloudStack source", means, _where_to_begin(situation))


def kind(place: Place) -> str:
    """ROUTER, PASSWORD_SERVER or DRIVE."""
    return next((one for one in (PASSWORD_SERVER, ROUTER, DRIVE) if place.place.startswith(one)), ROUTER)


def address(place: Place) -> Tuple[str, str]:
    """The address and the port that a place names; the port is 80 or 8080 where it names none."""
    rest = place.place[len(kind(place)) :].strip()
    host, colon, port = rest.partition(":")
    return host or "ADDRESS", port if colon else "8080" if kind(place) == PASSWORD_SERVER else "80"


def no_source(situation: Situation) -> bool:
    """Whether places were asked and none had anything: exit code 4, as for every other command."""
    return situation.seen.looked and not situation.seen.source_found and not situation.seen.problem


def _judge(area: str, place: Place, says: Says, bad: str, nic: str = "NIC") -> Finding:
    host, port = address(place)
    named = place.place
    if kind(place) == ROUTER and host != "ADDRESS" and ":" not in named:
        named = f"{named}:{port}"
    took = f" after {place.seconds:.3f} s" if place.seconds is not None else ""
    detail = f": {place.detail}" if place.detail and place.detail != "connection refused" else ""
    saw = f"{named} ({place.why}): {place.outcome}{took}{detail}"
    if place.outcome == "ok":
        if place.seconds is not None and place.seconds >= SLOW:
            means = "it answers, but slowly: boot and resets take as much longer"
            advice = f"see how loaded the virtual router is, and: ping -c20 {host}"
            return Finding(area, WARNING, saw, means, advice)
        return Finding(area, OK, saw)
    if place.outcome == "partial" and "HTTP 500" in place.detail:
        return Finding(area, WARNING, saw, *BROKEN)
    if place.outcome == "partial":
        if MTU in place.detail:
            means, advice = ONLY_SMALL
            told = advice.format(address=host, nic=shlex.quote(nic))
            return Finding(area, WARNING, saw, f"{means}: keys or user-data do not arrive", told)
        means = "it did not answer every question; what is missing is asked for again"
        return Finding(area, WARNING, saw, means, f"csagent -v fetch; ping -c3 -M do -s 1472 {host}")
    if place.outcome == "skipped":
        return Finding(area, NOTE, saw)
    means, advice = says.get(place.outcome, OTHERWISE)
    if host == DATA_SERVER:
        # No server: whether anybody has the data of this VM is said by `source`.
        means = NAME_SAYS.get(place.outcome, OTHERWISE[0])
        saw = f"the name {DATA_SERVER}{saw[len(named) :]}"
        bad = NOTE
    if host == "ADDRESS":  # nobody was there to be asked
        means, advice = "there is nobody to ask", "see the areas network and leases above: csagent discover"
    told = advice.format(address=host, port=port) if bad != NOTE else ""
    return Finding(area, bad, saw, means.format(address=host, port=port), told)


def _nic(situation: Situation, place: Place) -> str:
    """The NIC that an address was asked from; that of the default route where nothing says it."""
    host = address(place)[0]
    known = [one.interface for one in situation.found.candidates if one.address == host and one.interface]
    return known[0] if known else situation.found.default_interface or "NIC"


def _is_gateway(situation: Situation, place: Place) -> bool:
    """Whether nothing but a route or a lease's router option leads to that address."""
    host = address(place)[0]
    kinds = {one.kind for one in situation.found.candidates if one.address == host}
    return kinds == {"gateway"}


def _of_old_lease(situation: Situation, place: Place) -> Says:
    """What outcomes mean; where a lease names an address that nobody answers at, the lease may be old.

    On shared networks a virtual router that is made anew has another address, and leases are infinite
    (field/cloudstack#1.5).
    """
    host = address(place)[0]
    lease = next(
        (one for one in situation.found.leases if host in (one.server_identifier, one.next_server)), None
    )
    if lease is None or place.outcome not in ("timeout", "unreachable"):
        return ROUTER_SAYS
    means, advice = ROUTER_SAYS[place.outcome]
    told = f"{advice}; where it has another address now, from the console: {renewal.command(lease)}"
    return {**ROUTER_SAYS, place.outcome: (f"{means}{REPLACED}", told)}


def _denied(situation: Situation, place: Place, says: Says) -> Says:
    """What outcomes mean, where it is the user that is kept out."""
    host, port = address(place)
    if f"{host}:{port}" in situation.seen.root_only:
        means, advice = KEPT_OUT
        user = jail.unprivileged()
        uid = str(user.uid) if user is not None else "UID"
        return {**says, place.outcome: (means, advice.replace("{user}", uid))}
    if place.outcome == "unreachable" and place.detail == ONLY_ROOT:
        return {**says, place.outcome: NOT_EVEN_ROOT if situation.root else NOT_PERMITTED}
    return says


def _password(situation: Situation) -> str:
    told = {"offered": "one is waiting, and the next pass sets it", "none": "none is waiting"}
    return told.get(situation.seen.password, "not known, nobody who hands them out answered")


def _not_looked(situation: Situation, area: str) -> Finding:
    if situation.seen.problem:
        return Finding(area, NOTE, f"not seen: {situation.seen.problem}")
    means = "name a place to have it asked: --router HOST, --drive PATH"
    return Finding(area, NOTE, "not seen: this is a tree, and nobody was asked", means)


def _why_no_drive(situation: Situation) -> str:
    if situation.seen.source_found:
        return "none is needed: the virtual router has the data"
    return "networks whose offering has no ConfigDrive attach none"


def _where_to_begin(situation: Situation) -> str:
    asked = [place for place in situation.seen.places if kind(place) == ROUTER]
    outcomes: List[str] = [place.outcome for place in asked if address(place)[0] != DATA_SERVER]
    if not situation.found.candidates and not outcomes:
        return "see the areas network and leases above: without an address there is nobody to ask"
    if "timeout" in outcomes or "unreachable" in outcomes:
        return (
            "see that the network's virtual router runs (cmk list routers networkid=ID), and that no "
            "firewall of this VM drops its answers: nft list ruleset"
        )
    if "failed" in outcomes:
        return "see the area router above: the virtual router itself fails"
    return (
        "see that the network's offering has UserData by VirtualRouter or ConfigDrive, then: "
        "cmk restart network id=ID cleanup=false"
    )
