"""docs/user-data.md: its documents are checked, and what it shows is what csagent says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from csagent.cli.main import main
from csagent.user_data.cloud_config import families

PAGE = Path(__file__).resolve().parents[3] / "docs/user-data.md"
TEXT = PAGE.read_text("utf-8")
FILES = dict(re.findall(r"`([\w.-]+\.yaml)`[^\n]*(?:\n[^\n`]+)*\n\n```\n(.*?)```", TEXT, re.S))
SHOWN = re.findall(r"^    \$ (csagent user-data check [^\n]*)\n((?:    [^\n]*\n|\n(?=    ))+)", TEXT, re.M)


def test_the_page_has_its_examples() -> None:
    """None is passed over."""
    assert set(FILES) == {"web.yaml", "mistakes.yaml", "metadata.yaml"}
    assert len(SHOWN) == TEXT.count("    $ ") == 2


@pytest.mark.parametrize("number", range(len(SHOWN)))
def test_what_it_shows_is_what_is_said(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the letter, on a Debian."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/os-release").write_text("ID=debian\nVERSION_ID=12\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    command, output = SHOWN[number]
    main(["--root", str(tmp_path / "root"), *shlex.split(command)[1:]])
    assert capsys.readouterr().out == re.sub(r"^    ", "", output, flags=re.M)


def test_it_names_every_key() -> None:
    """Those that the program knows, but for old spellings, and no others."""
    named = set(re.findall(r"`([a-z_]+)`", TEXT.split("\nKeys: ")[1].split("\n\n")[0]))
    old = {"apt_update", "apt_upgrade", "apt_reboot_if_required", "ca-certs", "apt_proxy"}
    beside = {"mount_default_fields", "device_aliases", "locale_configfile", "yum_repo_dir"}
    known = set(families.known_keys())
    assert named - {"merge_how", "default_user"} <= known
    assert known - named <= old | beside
