"""apt's main list of sources: kept, as on Debian's cloud images, or written anew from mirrors (`apt`).

cloud-init has a template for it: /etc/apt/sources.list up to Debian 12, and from Debian 13 on the file
debian.sources (deb822) in its place.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from csagent.errors import DocumentError
from csagent.model import Secret
from csagent.user_data.cloud_config import apt_keys, apt_suites
from csagent.user_data.cloud_config.draft import Draft, kind_of
from csagent.user_data.execute.repositories import PRIMARY, SECURITY, MirrorSearch, SourcesFile
from csagent.user_data.placeholders import fill
from csagent.user_data.yaml_lines import Node

KNOWN = ("preserve_sources_list", "primary", "security", "sources_list", "disable_suites")
MIRROR_KNOWN = ("arches", "uri", "search", "search_dns", "key", "keyid", "keyserver")
DEFAULTS = ("https://deb.debian.org/debian", "https://deb.debian.org/debian-security")
ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "i686": "i386",
    "armv7l": "armhf",
    "ppc64le": "ppc64el",
}
LIST, DEB822 = "/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources"
FIRST_WITH_DEB822 = 13  # Debian
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

LIST_TEXT = """\
# Written by csagent from the document's key apt.
deb $MIRROR $RELEASE main
deb-src $MIRROR $RELEASE main
deb $SECURITY $RELEASE-security main
deb-src $SECURITY $RELEASE-security main
deb $MIRROR ${RELEASE}-updates main
deb-src $MIRROR ${RELEASE}-updates main
deb $MIRROR ${RELEASE}-backports main
deb-src $MIRROR ${RELEASE}-backports main
"""
DEB822_TEXT = """\
# Written by csagent from the document's key apt.
Types: deb deb-src
URIs: $MIRROR
Suites: $RELEASE ${RELEASE}-updates ${RELEASE}-backports
Components: main
Signed-By: $primary_key

Types: deb deb-src
URIs: $SECURITY
Suites: ${RELEASE}-security
Components: main
Signed-By: $security_key
"""


class Mirrors(NamedTuple):
    """What stands for the mirrors in a text, and how those are found that have to be looked for."""

    names: Dict[str, str]
    search: MirrorSearch


def plan(draft: Draft, key: str, node: Optional[Node]) -> Mirrors:
    """The steps for the main list, and the mirrors, which other sources name, too."""
    mirrors = _mirrors(draft, key, node)
    if node is None:
        return mirrors
    if draft.boolean(key, node.get("preserve_sources_list"), True, "preserve_sources_list"):
        for name in ("disable_suites", "sources_list"):
            given = node.get(name)
            if given is not None and given.value is not None:
                text = "has no effect without preserve_sources_list: false, as on Debian's cloud images"
                draft.warn(key, f"{name} {text}", given, node.keys[name])
    elif draft.facts.distribution != "debian":
        text = "preserve_sources_list: the main list of Debian alone is known here: it stays as it is"
        draft.error(key, text, node, node.keys["preserve_sources_list"])
    else:
        _main_list(draft, key, node, mirrors)
    return mirrors


def _main_list(draft: Draft, key: str, node: Node, mirrors: Mirrors) -> None:
    version = draft.facts.version.partition(".")[0]
    newer = not version.isdigit() or int(version) >= FIRST_WITH_DEB822
    given = node.get("sources_list")
    names = {**mirrors.names, **_keys(draft, key, node)}
    names.setdefault("primary_key", KEYRING)
    names.setdefault("security_key", names["primary_key"])
    text: Optional[str] = DEB822_TEXT if newer else LIST_TEXT
    if given is not None and given.value:
        text = draft.text(key, given, "sources_list")
        if text is None:
            return
    try:
        filled = fill(text or "", names)
    except DocumentError as error:
        draft.error(key, f"sources_list: {error.text}", given or node)
        return
    deb822 = apt_suites.is_deb822(filled)
    text = apt_suites.without(filled, _suites(draft, key, node), draft.facts.codename)
    path = DEB822 if deb822 else LIST
    content = Secret(text.encode("utf-8", "surrogateescape"))
    action = SourcesFile(path, content, mirrors.search, append=False, removes=LIST if deb822 else "")
    draft.step("repositories", key, path, action, [node], id="sources_list")


def _suites(draft: Draft, key: str, node: Node) -> List[str]:
    given = node.get("disable_suites")
    if given is None or given.value is None:
        return []
    if not given.is_list or not all(isinstance(one.value, str) for one in given.value):
        draft.error(key, "disable_suites must be a list of suites: none is disabled", given)
        return []
    return [one.value for one in given.value]


def _keys(draft: Draft, key: str, node: Node) -> Dict[str, str]:
    """Keys of the mirrors, as files that are named in the list."""
    found = {}
    for name in ("primary", "security"):
        for one in _entries(node, name):
            path = apt_keys.plan(draft, key, name, one, apt_keys.TRUSTED)
            if path:
                found[f"{name}_key"] = path
    return found


def _entries(node: Node, name: str) -> List[Node]:
    given = node.get(name)
    listed: List[Node] = given.value if given is not None and given.is_list else []
    return [one for one in listed if one.is_mapping]


def _mirrors(draft: Draft, key: str, node: Optional[Node]) -> Mirrors:
    """The mirrors: as configured for this architecture, else Debian's own. `primary` serves for both."""
    found: Dict[str, Tuple[str, Tuple[str, ...]]] = {}
    for name in ("primary", "security") if node is not None else ():
        one = _of_architecture(draft, key, node, name)
        if one is not None:
            draft.unknown(key, one, MIRROR_KNOWN, name)
            found[name] = _mirror(draft, key, name, one)
    primary, candidates = found.get("primary", ("", ()))
    security, more = found.get("security", ("", ()))
    if not primary and not candidates:
        if (security or more) and node is not None:
            text = "security has no effect without primary, as with cloud-init: Debian's own mirrors are used"
            draft.warn(key, text, node, node.keys["security"])
        primary, security, candidates, more = *DEFAULTS, (), ()
    otherwise = (primary, primary) if primary else DEFAULTS
    primary = primary or PRIMARY
    security = security or (SECURITY if more or candidates else primary)
    names = {"RELEASE": draft.facts.codename, "codename": draft.facts.codename}
    for name, value in (("MIRROR", primary), ("PRIMARY", primary), ("SECURITY", security)):
        names[name] = names[name.lower()] = value
    return Mirrors(names, MirrorSearch(candidates, more, otherwise))


def _of_architecture(draft: Draft, key: str, node: Any, name: str) -> Optional[Node]:
    given = node.get(name)
    if given is None or given.value is None:
        return None
    if not given.is_list or not all(one.is_mapping for one in given.value):
        draft.error(key, f"{name} must be a list of mirrors, and is {kind_of(given)}", given)
        return None
    ours = ARCHITECTURES.get(draft.facts.machine, draft.facts.machine)
    default = None
    for one in given.value:
        arches = one.get("arches")
        listed = [str(each.value) for each in arches.value] if arches is not None and arches.is_list else []
        if ours in listed:
            return one  # type: ignore[no-any-return]
        default = one if "default" in listed else default
    return default


def _mirror(draft: Draft, key: str, name: str, node: Node) -> Tuple[str, Tuple[str, ...]]:
    """Its URL, or those of which the first one with a known name is taken."""
    uri = node.get("uri")
    if uri is not None and uri.value:
        return (draft.text(key, uri, f"{name}: uri") or "").strip(), ()
    search = node.get("search")
    if search is not None and search.value:
        words = draft.words(key, search, f"{name}: search", commas=False) or []
        return "", tuple(str(word.value).strip() for word in words)
    if draft.boolean(key, node.get("search_dns"), False, f"{name}: search_dns"):
        prefix = {"primary": "mirror", "security": "security-mirror"}[name]
        domain = draft.facts.hostname.partition(".")[2]
        domains = [*([f".{domain}"] if domain else []), ".localdomain", ""]
        return "", tuple(f"http://debian-{prefix}{one}/debian" for one in domains)
    return "", ()
