"""make.py OUTDIR: the manual pages and the shells' completion, laid out below OUTDIR as below /usr/share.

csagent(1) and csagent-lab(1) are made of the program's own parser and of the *.include files beside this one,
which hold what the parser cannot know. csagent(8) and csagent.yaml(5) are whole pages but for the date, the
version and the settings. The same checkout, argparse-manpage and shtab give the same files.
"""

from __future__ import annotations

import os
import sys
from email.utils import parsedate_to_datetime
from typing import Dict

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, TOP]
sys.dont_write_bytecode = True


def main(outdir: str) -> None:
    """Write all of them.

    Raises:
        ValueError: a command or an option has no help text.
    """
    os.environ["COLUMNS"] = "80"  # argparse asks for the terminal's width
    for name, text in {**pages(), **completion()}.items():
        path = os.path.join(outdir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)


def pages() -> Dict[str, str]:
    """The text of each page by its path below /usr/share."""
    import command_pages

    from csagent import __version__

    date = _date()
    made = {f"man/man1/{one}.1": command_pages.page(one, date, __version__) for one in command_pages.PAGES}
    for name in ("csagent.8", "csagent.yaml.5"):
        with open(os.path.join(HERE, name), encoding="utf-8") as stream:
            text = stream.read()
        for mark, value in (("@DATE@", date), ("@VERSION@", __version__), ("@SETTINGS@", _settings())):
            text = text.replace(mark, value)
        made[f"man/man{name[-1]}/{name}"] = text
    return made


def completion() -> Dict[str, str]:
    """The script of each shell by its path below /usr/share."""
    import shells

    return {path: shells.script(shell) for shell, path in shells.PATHS.items()}


def _settings() -> str:
    """What csagent.settings' own table says, as terms of man(7)."""
    from csagent.settings import TABLE, as_yaml

    lines = []
    for one in TABLE:
        default = as_yaml(one.default).replace("-", "\\-")
        lines += [
            ".TP",
            f"\\fB{one.name}\\fR ({one.kind}; default: \\fB{default}\\fR)",
            " ".join(one.meaning.split()),
        ]
    return "\n".join(lines)


def _date() -> str:
    """The day of this version, never of the build: of the changelog's newest entry."""
    with open(os.path.join(TOP, "packaging", "debian", "changelog"), encoding="utf-8") as stream:
        for line in stream:
            if line.startswith(" -- "):
                # Without a hyphen, which argparse-manpage writes as a minus sign.
                return parsedate_to_datetime(line.split(">  ")[1].strip()).strftime("%B %-d, %Y")
    raise ValueError("packaging/debian/changelog has no date")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: make.py OUTDIR")
    main(sys.argv[1])
