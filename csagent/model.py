"""The nouns of what is seen. Facts are parsed once, at the edge; past the edge there are no loose dicts.

Addresses are dotted-quad strings, times are seconds since the epoch (UTC) unless they are said to be
durations, and ``None`` always means "not known", never "empty".
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Hashable, Mapping, NamedTuple, NoReturn, Optional, Tuple

HTTP_PORT = 80
PASSWORD_PORT = 8080
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Secret:
    """Bytes that must not be shown: a password, or a document that carries one.

    Everything that turns an object into text masks it, and it refuses to be pickled. Only code that
    hands the value to the operating system or to a pipe between our own processes calls `reveal`.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """Return the value itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled")


# --- find -------------------------------------------------------------------------------------


class Nic(NamedTuple):
    """A network interface as the kernel has it now (loopback left out)."""

    name: str
    ifindex: int
    mac: Optional[str] = None
    addresses: Tuple[str, ...] = ()  # IPv4, all of them
    prefixes: Tuple[int, ...] = ()  # the length of each one's network; fewer where that is not known


class Route(NamedTuple):
    """One IPv4 default route that has a gateway."""

    interface: str
    gateway: str
    metric: int = 0


class Lease(NamedTuple):
    """What a DHCP client remembers of one lease.

    `server_identifier` is option 54 and nothing else: siaddr and its many spellings are `next_server`
    (field/dhcp-leases#rule-5). It is None where the client does not record it.
    """

    interface: str
    client: str
    address: str
    server_identifier: Optional[str] = None
    routers: Tuple[str, ...] = ()
    domain_name: Optional[str] = None
    name_servers: Tuple[str, ...] = ()
    next_server: Optional[str] = None
    expires: Optional[float] = None  # None: never, or not recorded in absolute time
    path: str = ""  # the file, or the command line, that said so
    given_up: bool = False  # at `expires`, where that has come


class Rejected(NamedTuple):
    """A lease that was seen and not believed, or a client that records nothing, and why."""

    path: str
    client: str
    interface: Optional[str]
    reason: str


class Endpoint(NamedTuple):
    """Where a TCP connection goes, and from where it starts.

    `interface`: the NIC that it leaves by, whatever the routing table says: an address proves who we are only
    on its own network. `source`: the address of that NIC that identifies us; None lets the kernel choose.
    """

    address: str
    port: int
    source: Optional[str] = None
    interface: Optional[str] = None


class Candidate(NamedTuple):
    """An address that may be a virtual router, and the NIC whose lease address identifies us there.

    `named`: the lease of that NIC names the address, as its server identifier, next-server or router. The
    last three fields are for the name "data-server." only: who is asked for it, the domain to try behind it,
    and the networks ("10.1.1.0/24") in which an answer may lie.
    """

    address: str  # an IPv4 address, or the name "data-server."
    kind: str  # server-identifier | next-server | data-server | gateway | given
    why: str
    interface: Optional[str] = None
    source: Optional[str] = None  # the address to bind to; None: let the kernel choose
    default: bool = False  # on the default NIC
    port: int = HTTP_PORT
    password_port: int = PASSWORD_PORT
    named: bool = False
    name_servers: Tuple[str, ...] = ()
    domain: Optional[str] = None
    within: Tuple[str, ...] = ()

    def metadata_endpoint(self, address: Optional[str] = None) -> Endpoint:
        """Where it is asked for metadata; `address` where its own is a name."""
        return Endpoint(address or self.address, self.port, self.source, self.interface)

    def password_endpoint(self, address: Optional[str] = None) -> Endpoint:
        """Where it is asked for a password; `address` where its own is a name."""
        return Endpoint(address or self.address, self.password_port, self.source, self.interface)


class Drive(NamedTuple):
    """A block device, image file or directory that may be a config drive."""

    device: str
    label: Optional[str]
    why: str


class Platform(NamedTuple):
    """What DMI says. `cloudstack` is None where DMI proves nothing (field/cloudstack#8)."""

    vendor: Optional[str] = None
    product: Optional[str] = None
    uuid: Optional[str] = None
    cloudstack: Optional[bool] = None


class Found(NamedTuple):
    """Everything that `find` knows. Nobody has been contacted yet."""

    nics: Tuple[Nic, ...] = ()
    routes: Tuple[Route, ...] = ()
    default_interface: Optional[str] = None
    leases: Tuple[Lease, ...] = ()
    rejected: Tuple[Rejected, ...] = ()
    candidates: Tuple[Candidate, ...] = ()
    drives: Tuple[Drive, ...] = ()
    platform: Platform = Platform()
    notes: Tuple[str, ...] = ()  # what had to be guessed, one sentence each


# --- read -------------------------------------------------------------------------------------


class Place(NamedTuple):
    """One place that was looked at, and what came of it."""

    place: str  # "router 10.1.1.1", "password server 10.1.1.1:8080", "drive /dev/sr1"
    why: str
    outcome: str  # ok | partial | absent | refused | timeout | unreachable | malformed | foreign | failed
    detail: str = ""
    seconds: Optional[float] = None

    @property
    def believed(self) -> bool:
        """Whether it gave something that is used; `partial` where it did not answer every question."""
        return self.outcome in ("ok", "partial")


def channel(place: str) -> str:
    """What kind of place its name says it is: router, drive, or the password server's."""
    return place.split(" ", 1)[0]


class PasswordOffer(NamedTuple):
    """What the password servers and the drive say: offered, none (nothing is waiting) or unknown."""

    state: str = "unknown"
    value: Optional[Secret] = None
    place: str = ""
    reason: str = ""
    endpoints: Tuple[Endpoint, ...] = ()  # that said so; who offered it is told that it is set


class Refusal(NamedTuple):
    """A value that was read and not believed, or not `answered` for. The reason has no byte of a password."""

    datum: str
    place: str
    reason: str
    answered: bool = True


class Reading(NamedTuple):
    """What one channel (a router, or a drive) gave, before anything is merged.

    `metadata` maps key to value with the virtual router's spelling of the keys. `ssh_keys` holds only
    lines that are well-formed public keys. `user_data` is raw bytes; b"" and None both mean there is
    none, None also where it could not be read. `doubts` names, by datum, what was not read whole, and why.
    """

    channel: str  # router | drive
    place: str
    instance_id: Optional[str] = None
    metadata: Mapping[str, str] = NOTHING
    ssh_keys: Tuple[str, ...] = ()
    password: PasswordOffer = PasswordOffer()
    user_data: Optional[bytes] = None
    network: Optional[Mapping[str, Any]] = None
    interface: Optional[str] = None
    refusals: Tuple[Refusal, ...] = ()
    doubts: Mapping[str, str] = NOTHING
    complete: bool = True  # False: a later look may find more (a key timed out, a router still starting)


class UserData(NamedTuple):
    """User-data as it came, and what it seems to be."""

    content: Secret
    kind: str
    size: int
    sha256: str


class Observation(NamedTuple):
    """What CloudStack says about this VM, merged per datum, each with where it came from."""

    instance_id: Optional[str] = None
    hostname: Optional[str] = None
    domain: Optional[str] = None
    metadata: Mapping[str, str] = NOTHING
    ssh_keys: Tuple[str, ...] = ()
    password: PasswordOffer = PasswordOffer()
    user_data: Optional[UserData] = None
    network: Optional[Mapping[str, Any]] = None
    provenance: Mapping[str, str] = NOTHING
    places: Tuple[Place, ...] = ()
    refusals: Tuple[Refusal, ...] = ()
    outranked: Tuple[PasswordOffer, ...] = ()  # of other passwords, by places that are trusted less
    # By datum, what the places behind the one in `provenance` say of it; what none of them gave is missing.
    others: Mapping[str, Tuple[Any, ...]] = NOTHING
    drive_ids: Tuple[str, ...] = ()  # every id of this machine that a drive of its own gives
    doubts: Mapping[str, str] = NOTHING  # by datum, why its value is not whole
    source_found: bool = False  # at least one place was believed
    complete: bool = True


class Observed(NamedTuple):
    """What find found and what read made of it."""

    found: Found
    observation: Observation
    marks: Tuple[Hashable, ...] = ()  # `find.finder.watchmarks` of the leases and drives that were read
