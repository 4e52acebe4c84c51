"""Write everything into one directory."""

from __future__ import annotations

import os
import re
import sys
import time
from email.utils import parsedate_to_datetime
from typing import Dict, List

from manual_pages import completion, pages
from manual_pages.words import read

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main(arguments: List[str]) -> int:
    """`packaging/manual OUTDIR`."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("usage: packaging/manual OUTDIR\n")
        return 2
    os.makedirs(arguments[0], exist_ok=True)
    for name, text in make().items():
        with open(os.path.join(arguments[0], name), "w", encoding="utf-8") as stream:
            stream.write(text)
    return 0


def make() -> Dict[str, str]:
    """Name to text of every file."""
    os.environ["COLUMNS"] = "80"
    from csagent import __version__

    root, when = read(), date()
    return {
        "csagent.1": str(pages.csagent_1(root, when, __version__)),
        "csagent.8": str(pages.csagent_8(when, __version__, os.path.join(TOP, "systemd"))),
        "csagent.yaml.5": str(pages.csagent_yaml_5(when, __version__)),
        "csagent.bash": completion.bash(root),
        "_csagent": completion.zsh(root),
        "csagent.fish": completion.fish(root),
    }


def date() -> str:
    """The day of this version, never of the build: SOURCE_DATE_EPOCH, else the changelog's newest entry."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch.isdigit():
        return time.strftime("%Y-%m-%d", time.gmtime(int(epoch)))
    with open(os.path.join(TOP, "packaging", "debian", "changelog"), encoding="utf-8") as stream:
        for line in stream:
            found = re.match(r" -- .*>  (.+)$", line)
            if found:
                return parsedate_to_datetime(found.group(1)).strftime("%Y-%m-%d")
    raise ValueError("packaging/debian/changelog has no date")
