"""apt, with apt_sources and apt_proxy of old: its configuration, proxies, answers for packages, sources."""

from __future__ import annotations

from typing import Dict, Optional

from csagent.model import Secret
from csagent.user_data.cloud_config import apt_main_list, apt_sources
from csagent.user_data.cloud_config.draft import Draft, kind_of
from csagent.user_data.execute.configure import Configure, File
from csagent.user_data.execute.repositories import SetSelections
from csagent.user_data.yaml_lines import Node

APT, OLD_PROXY = "apt", "apt_proxy"
KNOWN = (
    *("conf", "debconf_selections", "proxy", "http_proxy", "https_proxy", "ftp_proxy", "add_apt_repo_match"),
    *(*apt_main_list.KNOWN, "sources"),
)
PROXIES = {"proxy": "http", "http_proxy": "http", "https_proxy": "https", "ftp_proxy": "ftp"}
CONF, PROXY = "/etc/apt/apt.conf.d/94cloud-init-config", "/etc/apt/apt.conf.d/90cloud-init-aptproxy"


def plan(draft: Draft) -> None:
    """Their steps."""
    node = draft.get(APT)
    if node is not None and not node.is_mapping:
        draft.error(APT, f"must be a mapping, and is {kind_of(node)}", node, draft.line(APT))
        node = None
    if node is not None:
        draft.unknown(APT, node, KNOWN)
        _selections(draft, node)
        _conf(draft, node)
    _proxies(draft, node)
    mirrors = apt_main_list.plan(draft, APT, node)
    apt_sources.plan(draft, APT, node, mirrors)


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


def _proxies(draft: Draft, node: Optional[Node]) -> None:
    old = draft.get(OLD_PROXY)
    proxies: Dict[str, str] = {}
    if old is not None:
        proxies["http"] = draft.text(OLD_PROXY, old) or ""
    for name, kind in PROXIES.items():
        given = node.get(name) if node is not None else None
        if given is not None and given.value:
            proxies[kind] = draft.text(APT, given, name) or ""
    lines = [
        f'Acquire::{kind}::Proxy "{proxies[kind]}";\n'
        for kind in ("http", "ftp", "https")
        if proxies.get(kind)
    ]
    asked = node if node is not None else old
    if asked is None or not lines:
        return
    if any(character in url for url in proxies.values() for character in '"\n\0'):
        draft.error(APT, "a proxy with characters that it cannot have", asked)
        return
    key = APT if node is not None else OLD_PROXY
    mode = 0o600 if any("@" in url for url in proxies.values()) else 0o644  # a password may be in it
    action = Configure((File(PROXY, Secret("".join(lines).encode()), mode),))
    draft.step("repositories", key, "apt's proxies", action, [asked], id="proxy")
