"""apt (and apt_sources, apt_proxy of old) and yum_repos: where packages come from."""

from __future__ import annotations

import re
from typing import Dict, List, Optional, Tuple

from csagent.model import Secret
from csagent.user_data.cloud_config.draft import Draft, Family, kind_of
from csagent.user_data.execute.configure import Configure, File
from csagent.user_data.execute.repositories import FetchKey, SetSelections
from csagent.user_data.yaml_lines import Node

APT, OLD_SOURCES, OLD_PROXY, YUM, YUM_DIR = "apt", "apt_sources", "apt_proxy", "yum_repos", "yum_repo_dir"
APT_KNOWN = ("sources", "conf", "proxy", "http_proxy", "https_proxy", "ftp_proxy", "preserve_sources_list")
APT_ELSEWHERE = (
    "primary",
    "security",
    "sources_list",
    "disable_suites",
    "debconf_selections",
    "add_apt_repo_match",
)
SOURCE_KNOWN = ("source", "key", "keyid", "keyserver", "filename", "append")
KEYSERVER = "keyserver.ubuntu.com"
LISTS, TRUSTED, SIGNED = "/etc/apt/sources.list.d", "/etc/apt/trusted.gpg.d", "/etc/apt/cloud-init.gpg.d"
CONF, PROXY = "/etc/apt/apt.conf.d/94cloud-init-config", "/etc/apt/apt.conf.d/90cloud-init-aptproxy"
MIRRORS = {"debian": ("https://deb.debian.org/debian", "https://deb.debian.org/debian-security")}
_NAME = re.compile(r"[A-Za-z0-9_.+-]+\Z", re.ASCII)
_KEY_ID = re.compile(r"(0x)?[0-9A-Fa-f ]{8,60}\Z", re.ASCII)


def _plan(draft: Draft) -> None:
    for key in (APT, OLD_SOURCES, OLD_PROXY):
        if draft.get(key) is not None and draft.facts.family == "redhat":
            draft.warn(
                key,
                "is for Debian's package manager: nothing is done",
                draft.config.value[key],
                draft.line(key),
            )
    if draft.get(YUM) is not None and draft.facts.family == "debian":
        draft.warn(
            YUM, "is for EL's package manager: nothing is done", draft.config.value[YUM], draft.line(YUM)
        )
    if draft.facts.family != "redhat":
        _apt(draft)
    if draft.facts.family != "debian":
        _yum(draft)


def _apt(draft: Draft) -> None:
    node = draft.get(APT)
    proxies: Dict[str, str] = {}
    old = draft.get(OLD_PROXY)
    if old is not None:
        proxies["http"] = draft.text(OLD_PROXY, old) or ""
    if node is not None and not node.is_mapping:
        draft.error(APT, f"must be a mapping, and is {kind_of(node)}", node, draft.line(APT))
    elif node is not None:
        draft.unknown(APT, node, (*APT_KNOWN, *APT_ELSEWHERE))
        _lists(draft, node)
        _selections(draft, node)
        for name, kind in (
            ("proxy", "http"),
            ("http_proxy", "http"),
            ("https_proxy", "https"),
            ("ftp_proxy", "ftp"),
        ):
            given = node.get(name)
            if given is not None and given.value:
                proxies[kind] = draft.text(APT, given, name) or ""
        _conf(draft, node)
    _proxies(draft, proxies, node if node is not None else old)
    _sources(draft, node)


def _lists(draft: Draft, node: Node) -> None:
    """The main list of sources, which Debian's cloud images keep unless the document says otherwise."""
    kept = draft.boolean(APT, node.get("preserve_sources_list"), True, "preserve_sources_list")
    for name in ("primary", "security", "disable_suites", "sources_list"):
        given = node.get(name)
        if given is None or given.value is None:
            continue
        if kept:
            text = f"{name} has no effect without preserve_sources_list: false, as on Debian's cloud images"
            draft.warn(APT, text, given, node.keys[name])
        elif name != "sources_list":
            text = f"{name} is not set up here: write /etc/apt/sources.list.d with write_files"
            draft.error(APT, text, given, node.keys[name])
        else:
            _main_list(draft, given)


def _main_list(draft: Draft, node: Node) -> None:
    text = draft.text(APT, node, "sources_list")
    if text is None:
        return
    if text.lstrip().startswith("##"):
        draft.error(APT, "sources_list: a template in it is not rendered", node)
        return
    filled = _filled(draft, text, "").encode("utf-8", "surrogateescape") + b"\n"
    action = Configure((File("/etc/apt/sources.list", Secret(filled)),))
    draft.step("repositories", APT, "/etc/apt/sources.list", action, [node], id="sources_list")


def _selections(draft: Draft, node: Node) -> None:
    given = node.get("debconf_selections")
    if given is None or given.value is None:
        return
    values = list(given.value.values()) if given.is_mapping else [given]
    if not all(isinstance(one.value, str) for one in values):
        draft.error(APT, "debconf_selections must be texts", given)
        return
    text = "".join(one.value.rstrip("\n") + "\n" for one in values)
    action = SetSelections(Secret(text.encode("utf-8", "surrogateescape")))
    draft.step("repositories", APT, "answers for debconf", action, [given], id="debconf")


def _conf(draft: Draft, node: Node) -> None:
    given = node.get("conf")
    text = draft.text(APT, given, "conf") if given is not None and given.value else None
    if text and given is not None:
        action = Configure((File(CONF, Secret(text.encode("utf-8", "surrogateescape"))),))
        draft.step("repositories", APT, "apt's configuration", action, [given], id="conf")


def _proxies(draft: Draft, proxies: Dict[str, str], node: Optional[Node]) -> None:
    given = [(kind, proxies.get(kind, "")) for kind in ("http", "ftp", "https")]
    lines = [f'Acquire::{kind}::Proxy "{url}";\n' for kind, url in given if url]
    if node is None or not lines:
        return
    if any(character in url for url in proxies.values() for character in '"\n\0'):
        draft.error(APT, "a proxy with characters that it cannot have", node)
        return
    key = APT if draft.get(APT) is not None else OLD_PROXY
    mode = 0o600 if any("@" in url for url in proxies.values()) else 0o644  # a password may be in it
    action = Configure((File(PROXY, Secret("".join(lines).encode()), mode),))
    draft.step("repositories", key, "apt's proxies", action, [node], id="proxy")


def _sources(draft: Draft, node: Optional[Node]) -> None:
    listed: List[Tuple[str, str, Node]] = []
    given = node.get("sources") if node is not None and node.is_mapping else None
    if given is not None and given.is_mapping:
        listed += [(APT, str(name), one) for name, one in given.value.items()]
    elif given is not None and given.value is not None:
        draft.error(APT, f"sources must be a mapping of names, and is {kind_of(given)}", given)
    for number, one in enumerate(draft.entries(OLD_SOURCES), 1):
        named = one.get("filename")
        base = str(named.value) if named is not None else f"cloud_config_sources-{number}"
        listed.append((OLD_SOURCES, base, one))
    for key, name, one in listed:
        _source(draft, key, name, one)


def _source(draft: Draft, key: str, name: str, node: Node) -> None:
    if not node.is_mapping:
        draft.error(key, f"{name[:60]}: must be a mapping with a source", node)
        return
    draft.unknown(key, node, SOURCE_KNOWN, name[:60])
    file_node = node.get("filename")
    base = str(file_node.value) if file_node is not None and file_node.value else name
    base = base.rpartition("/")[2]
    base = base[: -len(".list")] if base.endswith(".list") else base
    if not _NAME.match(base):
        draft.error(key, f'"{base[:60]}" cannot be the name of a file of sources', node)
        return
    files, fetched = _key(draft, key, base, node)
    source = node.get("source")
    text = "" if source is None or source.value is None else draft.text(key, source, f"{base}: source") or ""
    if text.startswith("ppa:"):
        draft.error(key, f"{base}: ppa: is for Ubuntu", node)
        return
    if text:
        folder = SIGNED if "$KEY_FILE" in text else TRUSTED
        filled = _filled(draft, text, f"{folder}/{base}.{'gpg' if fetched else 'asc'}")
        files.append(File(f"{LISTS}/{base}.list", Secret(filled.encode() + b"\n")))
        files = [
            one._replace(path=f"{SIGNED}/{base}.asc")
            if one.path.startswith(TRUSTED) and folder == SIGNED
            else one
            for one in files
        ]
    if fetched is not None:
        folder = SIGNED if "$KEY_FILE" in text else TRUSTED
        action = fetched._replace(path=f"{folder}/{base}.gpg")
        draft.step(
            "repositories",
            key,
            f"fetch the key {action.key_id} from {action.server}",
            action,
            [node],
            id=f"{base}-key",
        )
    if files:
        draft.step("repositories", key, f"packages of {base}", Configure(tuple(files)), [node], id=base)


def _key(draft: Draft, key: str, base: str, node: Node) -> Tuple[List[File], Optional[FetchKey]]:
    """The key as a file, or how it is fetched."""
    given, key_id = node.get("key"), node.get("keyid")
    if given is not None and given.value:
        text = draft.text(key, given, f"{base}: key")
        if text is None or "-----BEGIN PGP PUBLIC KEY BLOCK-----" not in text:
            draft.error(key, f"{base}: key is no public key in text form", given)
            return [], None
        return [File(f"{TRUSTED}/{base}.asc", Secret(text.encode() + b"\n"))], None
    if key_id is None or not key_id.value:
        return [], None
    text = draft.text(key, key_id, f"{base}: keyid") or ""
    server = node.get("keyserver")
    host = str(server.value) if server is not None and server.value else KEYSERVER
    if not _KEY_ID.match(text) or not re.match(r"[A-Za-z0-9:/._-]+\Z", host, re.ASCII):
        draft.error(key, f"{base}: keyid is no fingerprint, or keyserver no host", key_id)
        return [], None
    return [], FetchKey(text.replace(" ", ""), host, "")


def _filled(draft: Draft, text: str, key_file: str) -> str:
    primary, security = MIRRORS.get(draft.facts.distribution, MIRRORS["debian"])
    values = {"RELEASE": draft.facts.codename, "MIRROR": primary, "PRIMARY": primary, "SECURITY": security}
    values["KEY_FILE"] = key_file
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value).replace(f"${name}", value)
    return text.strip()


def _yum(draft: Draft) -> None:
    node = draft.get(YUM)
    if node is None:
        return
    if not node.is_mapping:
        draft.error(YUM, f"must be a mapping of repositories, and is {kind_of(node)}", node, draft.line(YUM))
        return
    folder_node = draft.get(YUM_DIR)
    folder = (draft.text(YUM_DIR, folder_node) if folder_node is not None else None) or "/etc/yum.repos.d"
    for name, one in node.value.items():
        id_ = re.sub(r"[^A-Za-z0-9_.-]", "_", str(name))
        if not one.is_mapping or (
            one.get("baseurl") is None and one.get("metalink") is None and one.get("mirrorlist") is None
        ):
            draft.error(YUM, f"{id_}: must be a mapping with a baseurl", one)
            continue
        lines = [f"[{id_}]"]
        for key, value in one.value.items():
            lines.append(f"{str(key).replace('-', '_')}={_ini(value)}")
        if one.get("name") is None:
            lines.insert(1, f"name={id_}")
        content = "".join(line.replace("\n", "\n\t") + "\n" for line in lines)
        action = Configure((File(f"{folder}/{id_}.repo", Secret(content.encode())),))
        draft.step("repositories", YUM, f"packages of {id_}", action, [one], id=id_)


def _ini(node: Node) -> str:
    if isinstance(node.value, bool):
        return "1" if node.value else "0"
    if node.is_list:
        return "\n".join(str(one.value) for one in node.value)
    return str(node.value)


FAMILY = Family((APT, OLD_SOURCES, OLD_PROXY, YUM, YUM_DIR), _plan)
