"""The images: of each release one with csagent, as the recipes make it, and the same one with cloud-init."""

from __future__ import annotations

import base64
import io
import tarfile
from pathlib import Path
from typing import Dict, NamedTuple, Tuple

from support.recipe_image import LastStep, recipe_image
from support.user_data_tree import LOCAL_REPOSITORY

HERE = Path(__file__).resolve().parent
GUEST = HERE / "guest"
CSAGENT, CLOUD_INIT = "csagent", "cloud-init"
AGENTS = (CSAGENT, CLOUD_INIT)
SUITES = {12: "bookworm", 13: "trixie"}

# Beside what the recipe installs: what the documents and cloud-init's source for CloudStack (wget) call.
PACKAGES = (
    *("sudo", "wget", "curl", "gzip", "eject", "procps", "tzdata", "cloud-guest-utils", "gdisk"),
    *("dpkg", "findutils", "mawk"),
)
# A template's own settings. cloud-init's default locale cannot be made without its packages.
SETTINGS: Dict[str, Tuple[str, str]] = {
    CSAGENT: ("etc/csagent/conf.d/50-template.yaml", "user: debian\ncreate_user: true\n"),
    CLOUD_INIT: ("etc/cloud/cloud.cfg.d/99-template.cfg", "locale: false\n"),
}
# An emulated machine beside others is late with its disks: after systemd's 90 s it is in emergency mode.
PATIENCE = "[Manager]\nDefaultDeviceTimeoutSec=15min\n"


class File(NamedTuple):
    """Something that is put into an image."""

    path: str
    content: bytes
    mode: int = 0o644


def image(release: int, agent: str, deb: Path) -> Path:
    """The raw disk, from the cache where it is there."""
    return recipe_image(deb, SUITES[release], LastStep(agent, _script(agent), agent == CSAGENT))


def _script(agent: str) -> str:
    packages = [*PACKAGES, *([CLOUD_INIT] if agent == CLOUD_INIT else [])]
    words = {
        "@AGENT@": agent,
        "@PACKAGES@": " ".join(packages),
    }
    script = (GUEST / "prepare.sh").read_text()
    for word, meaning in words.items():
        script = script.replace(word, meaning)
    return script + base64.encodebytes(_archive(agent)).decode()


def _files(agent: str) -> Tuple[File, ...]:
    settings, text = SETTINGS[agent]
    return (
        File("usr/lib/end-to-end/look", (GUEST / "look").read_bytes(), 0o755),
        File("etc/systemd/system/look.service", (GUEST / "look.service").read_bytes()),
        File("etc/systemd/system.conf.d/50-end-to-end.conf", PATIENCE.encode()),
        File("usr/local/bin/kubeadm", (GUEST / "kubeadm").read_bytes(), 0o755),
        File("usr/lib/end-to-end/local-repository", LOCAL_REPOSITORY.encode()),
        File(settings, text.encode()),
    )


def _archive(agent: str) -> bytes:
    """The same bytes each time, since the image's name in the cache is made of them."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for file in _files(agent):
            entry = tarfile.TarInfo(file.path)
            entry.size, entry.mode = len(file.content), file.mode
            archive.addfile(entry, io.BytesIO(file.content))
    return packed.getvalue()
