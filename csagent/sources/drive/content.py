"""What the files of a config drive say: from names and bytes to a `Reading`.

Pure. Whose drive it is, is decided so (field/cloudstack#6.2 and #6.6; the label is OpenStack's too):

1. a ``cloudstack/`` directory: CloudStack's;
2. else members of meta_data.json that only CloudStack writes (`CLOUDSTACK_MEMBERS`): CloudStack's, even
   beside a member of OpenStack's, since a variable of the user's may have any name;
3. else any other meta_data.json, or user-data without one: another cloud's. OpenStack always writes
   meta_data.json, and CloudStack always writes ``cloudstack/`` with it;
4. else network_data.json or vendor_data.json alone: CloudStack 4.20 and later, where no network of the VM
   has its user-data on the drive (field/cloudstack#edge-60). It gives the network and no identity.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from typing import Any, Dict, List, Mapping, Optional, Tuple

from csagent import validation
from csagent.errors import Absent, Foreign, Malformed, ProbeError
from csagent.model import PasswordOffer, Reading
from csagent.sources import network_data
from csagent.sources.drive import layout
from csagent.sources.drive.layout import METADATA, WELL_KNOWN, Contents
from csagent.sources.refusals import Refusals
from csagent.sources.router import listing
from csagent.system import json_limits

JSON_LIMIT = 1 << 20
METADATA_TOTAL = 1 << 20  # of text, so that what a child answers stays within its limit

CLOUDSTACK_MEMBERS = ("cloud-domain", "cloud-domain-id", "cloud-name", "hypervisor-host-name")

# meta_data.json of CloudStack (field/cloudstack#6.3) by the virtual router's names. "name" is
# public-hostname, which is mostly an IP address and never a host name: not taken.
_MEMBERS = {"hostname": "local-hostname", "uuid": "vm-id", "availability_zone": "availability-zone"}
_NOT_METADATA = frozenset(("name", "keys", "public_keys", "files", "meta", "admin_pass", "network_config"))
_OPENSTACK_MEMBERS = frozenset(("launch_index", "random_seed", "project_id", "devices", "dedicated_cpus"))

_PASSWORD_LINE = re.compile(r"^[ \t]*(password|passwd|chpasswd)[ \t]*:", re.MULTILINE)
PUBLIC_KEYS = METADATA + "public-keys"
_CHECKSUM = re.compile(r"[0-9A-Fa-f]{1,32}\Z", re.ASCII)
_DATA = {
    layout.PASSWORD: "password",
    layout.CHECKSUM: "password",
    layout.USER_DATA: "user_data",
    layout.OPENSTACK_USER_DATA: "user_data",
    layout.META_DATA: "metadata",
    layout.NETWORK_DATA: "network",
    layout.VENDOR_DATA: "vendor_data",
    PUBLIC_KEYS: "ssh_keys",
    METADATA + "local-hostname": "hostname",
    METADATA + "instance-id": "instance_id",
}


def interpret(contents: Contents, place: str) -> Tuple[Reading, str]:
    """Say what a drive says.

    Args:
        contents: what was read.
        place: what to call the drive.

    Returns:
        The reading, and one line about what is on the drive.

    Raises:
        Absent: there is nothing on it.
        Foreign: it belongs to another cloud.
        Malformed: nobody can tell whose it is.
    """
    return _Interpreter(contents, place).run()


class _Interpreter:
    """Collects values and refusals while the files are gone through once."""

    def __init__(self, contents: Contents, place: str) -> None:
        self.contents = contents
        self.place = place
        self.refusals = Refusals(place)
        self.metadata: Dict[str, str] = {}
        self.left = METADATA_TOTAL

    def run(self) -> Tuple[Reading, str]:
        for name, problem in self.contents.problems.items():
            shown = validation.excerpt(name.split("/", 1)[1])
            self.refuse(_DATA.get(name, "metadata"), f"{shown}: {problem}")
        meta_data = self.document(layout.META_DATA, "metadata")
        identity = self.whose(meta_data)
        network = self.network()
        if not identity:
            offer = PasswordOffer(reason="the drive has nothing but the network")
            reading = Reading("drive", self.place, password=offer, network=network)
            summary = self.summary(reading)
            return self.told(reading), summary
        self.read_metadata()
        keys = self.keys(meta_data)
        self.fill(meta_data)
        reading = Reading(
            "drive",
            self.place,
            instance_id=self.instance_id(meta_data),
            metadata=self.metadata,
            ssh_keys=keys,
            password=self.password(),
            user_data=self.user_data(),
            network=network,
        )
        summary = self.summary(reading)
        return self.told(reading), summary

    def refuse(self, datum: str, reason: str) -> None:
        self.refusals.add(datum, reason, datum)

    def told(self, reading: Reading) -> Reading:
        """The reading with all that was refused."""
        return reading._replace(refusals=self.refusals.refused(), doubts=self.refusals.doubts())

    # --- whose drive it is

    def whose(self, meta_data: Optional[Mapping[str, Any]]) -> bool:
        """Whether there is an identity on the drive, or only the network."""
        present = self.contents.present
        if self.contents.cloudstack:
            return True
        if self.contents.empty:
            raise Absent("the drive is empty")
        if layout.META_DATA in present:
            if meta_data is None:
                raise Malformed("no cloudstack/ directory, and a meta_data.json that cannot be read")
            if any(member in meta_data for member in CLOUDSTACK_MEMBERS):
                return True
            theirs = sorted(_OPENSTACK_MEMBERS & set(meta_data))
            if theirs:
                raise Foreign(f"no cloudstack/ directory, and {theirs[0]} in meta_data.json: OpenStack's")
            raise Foreign("no cloudstack/ directory, and nothing of CloudStack's in meta_data.json")
        if layout.OPENSTACK_USER_DATA in present:
            raise Foreign("no cloudstack/ directory, and user_data without meta_data.json")
        if not present & {layout.NETWORK_DATA, layout.VENDOR_DATA}:
            raise Foreign("neither a cloudstack/ nor an openstack/ directory with anything in it")
        return False

    # --- JSON

    def document(self, name: str, datum: str) -> Optional[Mapping[str, Any]]:
        """A JSON object, or None; what is wrong with it is a refusal."""
        raw = self.contents.files.get(name)
        if raw is None:
            return None
        shown = name.rsplit("/", 1)[1]
        try:
            return _parse_json(raw)
        except Malformed as error:
            self.refuse(datum, f"{shown}: {error}")
            return None

    def network(self) -> Optional[Mapping[str, Any]]:
        document = self.document(layout.NETWORK_DATA, "network")
        network, reasons = network_data.parse(document)
        for reason in reasons:
            self.refuse("network", f"network_data.json: {reason}")
        return network

    # --- metadata

    def read_metadata(self) -> None:
        for name, raw in self.contents.files.items():
            if name.startswith(METADATA) and name != PUBLIC_KEYS:
                self.take(name[len(METADATA) :], raw)

    def take(self, key: str, raw: bytes) -> None:
        """Keep a value if it is one. A blank one means that there is none (field/cloudstack#6.2)."""
        datum = _DATA.get(METADATA + key, "metadata")
        if not raw.strip():
            return
        known = key in WELL_KNOWN
        if not known and not validation.metadata_key(key):
            self.refuse("metadata", f"{validation.excerpt(key)}: not a name that a key can have")
            return
        try:
            value = validation.metadata_value(raw, validation.value_limit(key)).rstrip("\r\n")
            # On the drive the user's own keys are escaped, too (field/cloudstack#2.4).
            if not known or key in listing.ESCAPED:
                value = validation.metadata_value(unescape(value).encode("utf-8"))
            if key in ("local-ipv4", "public-ipv4"):
                value = _address(value)
        except Malformed as error:
            self.refuse(datum, f"{key}: {error}")
            return
        if len(self.metadata) >= validation.KEYS_LIMIT or len(value) > self.left:
            self.refuse(datum, f"{key}: more metadata than {validation.KEYS_LIMIT} keys or 1 MiB, left out")
            return
        self.left -= len(value)
        self.metadata[key] = value

    def fill(self, meta_data: Optional[Mapping[str, Any]]) -> None:
        """Take from meta_data.json what cloudstack/ lacks."""
        if not meta_data:
            return
        # A plain ISO 9660 tree has lost case, and the difference between - and _, in a key; JSON has not.
        own = [key for key in self.metadata if key not in WELL_KNOWN and key not in meta_data]
        twins = {layout.fold(key): key for key in own}
        for member, value in meta_data.items():
            key = _MEMBERS.get(member, member)
            if key in self.metadata or member in _NOT_METADATA or member in _MEMBERS.values():
                continue
            if not isinstance(value, str):
                self.refuse(_DATA.get(METADATA + key, "metadata"), f"{validation.excerpt(member)}: not text")
                continue
            self.take(key, value.encode("utf-8", "surrogatepass"))
            twin = twins.get(layout.fold(key))
            if twin is not None and key in self.metadata and self.metadata[key] == self.metadata.get(twin):
                del self.metadata[twin]

    def instance_id(self, meta_data: Optional[Mapping[str, Any]]) -> Optional[str]:
        """instance-id, else vm-id, else the uuid of meta_data.json."""
        uuid = (meta_data or {}).get("uuid")
        candidates = {
            "instance-id": self.metadata.get("instance-id", ""),
            "vm-id": self.metadata.get("vm-id", ""),
            "uuid": uuid if isinstance(uuid, str) else "",
        }
        for key, value in candidates.items():
            try:
                return validation.instance_id(value)
            except Absent:
                continue
            except Malformed as error:
                # vm-id was a plain number before #2566: no reason to complain. Of vm-id and uuid, which
                # fills it, one complaint is enough.
                if not value.isdigit() and not (key == "uuid" and value == candidates["vm-id"]):
                    self.refuse("instance_id", f"{key}: {error}")
        return None

    # --- keys, password, user-data

    def keys(self, meta_data: Optional[Mapping[str, Any]]) -> Tuple[str, ...]:
        """The public keys of cloudstack/, else those of meta_data.json."""
        keys, reasons = validation.ssh_keys(self.contents.files.get(PUBLIC_KEYS, b""))
        if not keys and meta_data:
            texts, left_out = _json_keys(meta_data)
            keys, more = validation.ssh_keys("\n".join(texts).encode("utf-8", "surrogatepass"))
            reasons = (*reasons, *more, *left_out)
            if keys and not reasons and PUBLIC_KEYS in self.contents.files:
                reasons = ("public-keys.txt is empty, and meta_data.json has keys: one of them is not whole",)
        for reason in reasons:
            self.refuse("ssh_keys", reason)
        if keys:
            self.metadata["public-keys"] = "\n".join(keys)
        return keys

    def password(self) -> PasswordOffer:
        """The password, where it can be one and its checksum, if there is any, fits."""
        if layout.PASSWORD in self.contents.problems:
            reason = self.contents.problems[layout.PASSWORD]
            return PasswordOffer("unknown", place=self.place, reason=reason)
        raw = self.contents.files.get(layout.PASSWORD)
        if raw is None:
            return PasswordOffer("none", place=self.place, reason="no vm_password.txt on the drive")
        try:
            secret = validation.password(raw)
            self.check(secret.reveal())
        except Absent as error:
            return PasswordOffer("none", place=self.place, reason=str(error))
        except ProbeError as error:
            self.refuse("password", str(error))
            return PasswordOffer("unknown", place=self.place, reason=str(error))
        return PasswordOffer("offered", secret, self.place)

    def check(self, password: bytes) -> None:
        """Compare with vm-password-md5checksum.txt, where Windows guests get one (field/cloudstack#7).

        It is written by the hand that wrote the password, through a Java BigInteger: hexadecimal without
        leading zeros. So text that is no such number means a damaged or forged drive, and a password
        beside it is not to be trusted more than one beside a wrong number. A blank file says nothing.

        Raises:
            Malformed: it does not fit.
        """
        if layout.CHECKSUM in self.contents.problems:
            raise Malformed("its md5 checksum cannot be read, so it was not taken")
        text = self.contents.files.get(layout.CHECKSUM, b"").decode("latin-1").strip()
        if not text:
            return
        if not _CHECKSUM.match(text):
            raise Malformed("its md5 checksum is not a hexadecimal number of 128 bits, so it was not taken")
        import hashlib

        if int(text, 16) != int(hashlib.md5(password, usedforsecurity=False).hexdigest(), 16):
            raise Malformed("it does not have the md5 checksum that lies beside it, so it was not taken")

    def user_data(self) -> Optional[bytes]:
        """The user-data, every byte of it; None where there is none."""
        for name in (layout.USER_DATA, layout.OPENSTACK_USER_DATA):
            content = self.contents.files.get(name)
            if not content:
                continue
            if len(content) > validation.USER_DATA_LIMIT:
                limit = validation.USER_DATA_LIMIT
                self.refuse("user_data", f"{len(content)} bytes, CloudStack allows no more than {limit}")
                continue
            return content
        return None

    def vendor(self) -> str:
        """What vendor_data.json is: a snippet for cloud-init, with the password where one is waiting.

        It is a secret (field/cloudstack#6.5, #edge-43) and gives nothing that vm_password.txt does not, so
        only its kind is told: where cloud-init runs too, it sets that password itself.
        """
        if layout.VENDOR_DATA not in self.contents.present:
            return ""
        document = self.document(layout.VENDOR_DATA, "vendor_data")
        if document is None:
            return "vendor_data.json, which cannot be read"
        snippet = document.get("cloud-init")
        if isinstance(snippet, str) and _PASSWORD_LINE.search(snippet):
            return "vendor_data.json, which has cloud-init set a password"
        return "vendor_data.json" if document else "an empty vendor_data.json"

    # --- the line about it

    def summary(self, reading: Reading) -> str:
        parts = []
        if self.contents.cloudstack or reading.metadata:
            parts.append(_count(len(reading.metadata), "metadata key"))
        if reading.ssh_keys:
            parts.append(_count(len(reading.ssh_keys), "SSH key"))
        if reading.password.state == "offered":
            parts.append("a password")
        if reading.user_data:
            parts.append(f"{len(reading.user_data)} bytes of user-data")
        if reading.network:
            parts.append("network_data.json")
        elif not parts:
            parts.append("no instance data, and an empty network_data.json")
        if not self.contents.cloudstack:
            parts.append("no cloudstack/ directory")
        vendor = self.vendor()
        if vendor:
            parts.append(vendor)
        if self.contents.note:
            parts.append(self.contents.note)
        return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def unescape(text: str) -> str:
    """Undo CloudStack's escapes; half of a pair is no character, and stays as it is written."""
    return listing.unescape(text, strict=False)


def _address(value: str) -> str:
    address = validation.address(value)
    if address is None:
        # The drive is rebuilt with the NIC's MAC there around a live migration (field/cloudstack#6.2).
        what = "a MAC address" if validation.is_mac(value) else validation.excerpt(value)
        raise Malformed(f"{what}, not an IPv4 address")
    return address


def _json_keys(meta_data: Mapping[str, Any]) -> Tuple[List[str], List[str]]:
    """The texts of `public_keys` and `keys`, and what of them is none.

    Each may hold several keys, joined by LF (field/cloudstack#edge-56).
    """
    by_name, listed = meta_data.get("public_keys"), meta_data.get("keys")  # null is none
    by_name, listed = {} if by_name is None else by_name, [] if listed is None else listed
    values = list(by_name.values()) if isinstance(by_name, dict) else [by_name]
    entries = listed if isinstance(listed, list) else [listed]
    values += [entry.get("data") if isinstance(entry, dict) else entry for entry in entries]
    texts = [value for value in values if isinstance(value, str)]
    left_out = len(values) - len(texts)
    return texts, [f"meta_data.json: {left_out} of its keys no text"] if left_out else []


def _parse_json(raw: bytes) -> Mapping[str, Any]:
    if len(raw) > JSON_LIMIT:
        raise Malformed(f"more than {JSON_LIMIT} bytes")

    try:
        document = json_limits.loads(raw[len(BOM_UTF8) :] if raw.startswith(BOM_UTF8) else raw)
    except (ValueError, RecursionError, MemoryError) as error:
        raise Malformed(f"not JSON ({type(error).__name__})") from None
    if not isinstance(document, dict):
        raise Malformed("JSON, but not an object")
    return document
