"""data_flow.py: docs/data-flow.svg, where an instance's data come from and where they go.

`python3 docs/data_flow.py` writes it anew; a test says when that was forgotten.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import List, Sequence, Tuple

WIDTH, HEIGHT = 1000, 590
LINE, HEAD, PAD = 17, 24, 12
INK, PALE, EDGE = "#222222", "#555555", "#8c8c8c"
FROM, CHILD, ROOT, MACHINE = "#e8eef7", "#f3f3f3", "#e3f1ea", "#fbf0e6"
TEXT = 12.5
Point = Tuple[float, float]


def text(x: float, y: float, said: str, size: float = TEXT, weight: str = "normal", fill: str = INK) -> str:
    """One line of text, from its left end."""
    style = f'font-size="{size:g}" font-weight="{weight}" fill="{fill}"'
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(said)}</text>'


def box(x: float, y: float, width: float, fill: str, title: str, lines: Sequence[str]) -> List[str]:
    """A box with a title and lines, as high as they need."""
    height = HEAD + LINE * len(lines) + PAD
    parts = [
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" fill="{fill}" '
        f'stroke="{EDGE}"/>',
        text(x + PAD, y + 19, title, 13.5, "bold"),
    ]
    return parts + [text(x + PAD, y + HEAD + LINE * (n + 1) - 2, said) for n, said in enumerate(lines)]


def arrow(*points: Point, dashed: bool = False) -> str:
    """A line with a head at its end."""
    way = " ".join(f"{x:g},{y:g}" for x, y in points)
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    style = f'fill="none" stroke="{INK}" stroke-width="1.4"{dash}'
    return f'<polyline points="{way}" {style} marker-end="url(#head)"/>'


def svg() -> str:
    """The document."""
    parts: List[str] = []
    for x, said in ((20, "CloudStack"), (330, "csagent"), (680, "the machine")):
        parts.append(text(x, 30, said, 16, "bold"))
    # Where the data come from.
    parts += box(
        *(20, 50, 275, FROM, "virtual router"),
        [
            "named by the DHCP lease, or",
            "as data-server.",
            ":80: name, keys, metadata, user-data",
            ":8080: password",
        ],
    )
    parts += box(
        *(20, 210, 275, FROM, "config drive"),
        [
            "an ISO with the label config-2",
            "cloudstack/: name, keys, metadata,",
            "password, user-data",
            "openstack/: addresses of the NICs,",
            "where the network has no DHCP",
        ],
    )
    # What reads and decides.
    parts += box(
        *(330, 50, 290, CHILD, "children without rights"),
        [
            "read leases, HTTP replies and the ISO;",
            "limits on time, memory and calls;",
            "what they say is checked again",
        ],
    )
    parts += box(
        *(330, 210, 290, ROOT, "csagent.service, root in a sandbox"),
        [
            "1. find the places",
            "2. read them, in the children",
            "3. decide what has changed",
            "4. apply it, and look that it is so",
            "5. remember it: /var/lib/csagent",
            "6. tell the password server",
        ],
    )
    parts += box(
        *(330, 430, 290, ROOT, "csagent-user-data, root"),
        [
            "runs the document that was kept, once:",
            "early: as soon as it is there",
            "final: when the machine is up",
        ],
    )
    # Where they go.
    parts += box(*(680, 50, 300, MACHINE, "host name"), ["/etc/hostname, /etc/hosts"])
    parts += box(*(680, 120, 300, MACHINE, "SSH keys"), ["authorized_keys, between two markers"])
    parts += box(*(680, 190, 300, MACHINE, "password"), ["/etc/shadow, through chpasswd"])
    parts += box(*(680, 260, 300, MACHINE, "network"), ["networkd, NetworkManager or ifupdown"])
    parts += box(
        *(680, 330, 300, MACHINE, "what was done, and why"),
        ["/run/csagent: status, query, figures;", "the journal; the console"],
    )
    parts += box(
        *(680, 430, 300, MACHINE, "what the document asks for"),
        ["accounts, files, disks, names;", "packages, scripts;", "its log, and a line on the console"],
    )
    # The ways between them.
    parts.append(arrow((295, 90), (326, 90)))
    parts.append(arrow((295, 250), (310, 250), (310, 115), (326, 115)))
    parts.append(arrow((475, 137), (475, 206)))
    for y in (80, 150, 220, 290, 365):
        parts.append(arrow((620, 270), (650, 270), (650, y), (676, y)))
    parts.append(arrow((475, 348), (475, 426)))
    parts.append(text(485, 392, "user-data, kept for root", fill=PALE))
    parts.append(arrow((620, 475), (676, 475)))
    parts.append(arrow((330, 333), (310, 333), (310, 365), (8, 365), (8, 146), (16, 146), dashed=True))
    parts.append(text(20, 384, "6: the password is set, forget it", fill=PALE))
    parts.append(
        text(
            20,
            560,
            "Nothing of the boot waits for any of it. docs/data_flow.py makes this picture.",
            fill=PALE,
        )
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
    head += f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
    marker = '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
    marker += f'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{INK}"/></marker></defs>'
    ground = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    return "\n".join([head, marker, ground, *parts, "</svg>", ""])


if __name__ == "__main__":
    Path(__file__).with_name("data-flow.svg").write_text(svg(), encoding="utf-8")
