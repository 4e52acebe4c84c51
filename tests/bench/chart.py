"""The comparisons with others as an SVG: a row of bars per figure, a bar per agent."""

from __future__ import annotations

from html import escape
from typing import Any, Dict, List

FIGURES = (
    ("cpu_s", "CPU time of its units", "s"),
    ("after_lease_s", "from the lease to keys and password", "s"),
    ("sshd_s", "from the kernel's start to sshd", "s"),
    ("requests", "requests to the virtual router", ""),
)
COLOURS = {"none": "#8c8c8c", "csagent": "#1a7f5a", "cloud-init": "#c25b2e", "script": "#4a76b8"}
NAMES = {"none": "no agent", "script": "shell script"}
WIDTH, LEFT, RIGHT, BAR, GAP, HEAD, TITLE = 720, 110, 90, 18, 4, 26, 46


def draw(result: Dict[str, Any], path: str) -> None:
    """Write the chart of what `./dev bench` has measured beside others; the VM, user-data, or both."""
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(svg(result))


def svg(result: Dict[str, Any]) -> str:
    """The document."""
    parts: List[str] = []
    top = 0
    if "vm" in result:
        top = _vm(parts, result["vm"], top)
    if "user_data" in result:
        top = _user_data(parts, result["user_data"], top)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" '
    head += f'viewBox="0 0 {WIDTH} {top}" font-family="sans-serif">'
    background = f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>'
    return "\n".join([head, background, *parts, "</svg>", ""])


def _vm(parts: List[str], result: Dict[str, Any], top: int) -> int:
    rows = result["agents"]
    parts.append(_text(12, top + 24, "First boot of the same Debian 12 image, medians", 16, "bold"))
    top += TITLE
    for key, title, unit in FIGURES:
        values = {agent: rows[agent][key] for agent in COLOURS if rows[agent].get(key) is not None}
        if key in ("cpu_s", "requests"):
            values.pop("none", None)
        top = _bars(parts, f"{title}{f', {unit}' if unit else ''}", values, top)
    parts.append(_text(12, top + 12, f"{result['runs']} boots each; QEMU {result['processor']}", 11))
    return top + 24


def _user_data(parts: List[str], result: Dict[str, Any], top: int) -> int:
    title = "User-data in the same Debian 12 tree, CPU in s, medians"
    parts.append(_text(12, top + 24, title, 16, "bold"))
    top += TITLE
    for name, row in result["documents"].items():
        top = _bars(parts, name, {agent: row[agent]["cpu_s"] for agent in ("csagent", "cloud-init")}, top)
    parts.append(_text(12, top + 12, f"{result['runs']} runs each, in turn", 11))
    return top + 24


def _bars(parts: List[str], title: str, values: Dict[str, float], top: int) -> int:
    """A title and a bar an agent; where the next one begins."""
    parts.append(_text(12, top + 16, title, 13, "bold"))
    top += HEAD
    longest = max(values.values()) or 1
    for agent, value in values.items():
        width = max(1.0, (WIDTH - LEFT - RIGHT) * value / longest)
        parts.append(_text(LEFT - 8, top + 13, NAMES.get(agent, agent), 12, anchor="end"))
        colour = COLOURS[agent]
        parts.append(f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>')
        parts.append(_text(LEFT + width + 6, top + 13, f"{value:g}", 12))
        top += BAR + GAP
    return top + 12


def _text(x: float, y: float, text: str, size: int, weight: str = "normal", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="#222222">{escape(text)}</text>'
    )
