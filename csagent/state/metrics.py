"""The status of the last pass for Prometheus, as the textfile collector of node_exporter reads it.

https://prometheus.io/docs/instrumenting/exposition_formats/: the same name and labels may stand there once,
else the collector refuses the whole file. docs/monitoring.md says what the figures mean.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

PREFIX = "csagent_"
NOT_ASKED = ("absent", "skipped")  # outcomes of places that are not there, or were left out

Labels = Tuple[Tuple[str, str], ...]
Samples = Mapping[Labels, float]


def as_text(status: Mapping[str, Any]) -> bytes:
    """The whole file, from the document of `csagent.state.published.status_json`."""
    data: Mapping[str, Mapping[str, Any]] = status["data"]
    applied = _by_datum(data, "applied_at")
    places: Sequence[Mapping[str, Any]] = status["places"]
    lines: List[str] = []

    def family(name: str, kind: str, meaning: str, samples: Samples) -> None:
        if not samples:
            return
        lines.append(f"# HELP {PREFIX}{name} {meaning}")
        lines.append(f"# TYPE {PREFIX}{name} {kind}")
        lines.extend(f"{PREFIX}{name}{_labels(labels)} {value!r}" for labels, value in samples.items())

    info = (("version", status["version"]), ("instance_id", status["instance_id"] or ""))
    family("info", "gauge", "Version of csagent, and the instance that CloudStack says this is.", {info: 1})
    family(
        "last_pass_timestamp_seconds",
        "gauge",
        "When the last pass ended.",
        {(): status["finished"]},
    )
    family("last_pass_duration_seconds", "gauge", "How long it took.", {(): status["seconds"]})
    family(
        "pass_exit_code",
        "gauge",
        "0 done, 1 failed, 3 some data applied and some failed, 4 no CloudStack source found.",
        {(): status["exit_code"]},
    )
    family(
        "last_change_timestamp_seconds",
        "gauge",
        "When a pass last changed the machine, since boot.",
        {(): max(applied.values())} if applied else {},
    )
    family(
        "datum_state",
        "gauge",
        "The state that each datum is in, as csagent status says it.",
        {(("datum", datum), ("state", entry["state"])): 1 for datum, entry in data.items()},
    )
    family(
        "nic_state",
        "gauge",
        "The state of each NIC that a config drive configures, as csagent status says it.",
        _nics(data),
    )
    family("datum_applied_timestamp_seconds", "gauge", "When a pass last applied it, since boot.", applied)
    family(
        "failures_total",
        "counter",
        "Passes since boot in which it failed, or was refused for a reason to look at.",
        _by_datum(data, "failures"),
    )
    family(
        "place_up", "gauge", "Whether a place that was asked gave an answer that was believed.", _up(places)
    )
    family("router_latency_seconds", "gauge", "How long a router took to answer.", _latency(places))
    return "\n".join(lines).encode("utf-8", "replace") + b"\n"


def _nics(data: Mapping[str, Mapping[str, Any]]) -> Samples:
    """By MAC address: a NIC that is gone has no name."""
    return {
        (("mac", nic["mac"]), ("interface", nic["interface"] or ""), ("state", nic["state"])): 1
        for entry in data.values()
        for nic in entry.get("nics", ())
    }


def user_data_as_text(document: Mapping[str, Any], now: float) -> bytes:
    """A file of its own for what became of user-data, from the document of `csagent.user_data.status`."""
    parts: Dict[str, int] = {}
    for part in document["parts"]:
        parts[part["outcome"]] = parts.get(part["outcome"], 0) + 1
    lines = [
        f"# HELP {PREFIX}user_data_state The state of the instance's user-data, as csagent status says it.",
        f"# TYPE {PREFIX}user_data_state gauge",
        f"{PREFIX}user_data_state{_labels((('state', document['state']),))} 1",
        f"# HELP {PREFIX}user_data_updated_timestamp_seconds When that was last written.",
        f"# TYPE {PREFIX}user_data_updated_timestamp_seconds gauge",
        f"{PREFIX}user_data_updated_timestamp_seconds {now!r}",
    ]
    if parts:
        lines += [
            f"# HELP {PREFIX}user_data_parts How many of its parts came to what.",
            f"# TYPE {PREFIX}user_data_parts gauge",
        ]
        lines += [
            f"{PREFIX}user_data_parts{_labels((('outcome', outcome),))} {count}"
            for outcome, count in sorted(parts.items())
        ]
    return "\n".join(lines).encode("utf-8", "replace") + b"\n"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _by_datum(data: Mapping[str, Mapping[str, Any]], key: str) -> Dict[Labels, float]:
    return {(("datum", datum),): entry[key] for datum, entry in data.items() if entry[key] is not None}


def _place(place: Mapping[str, Any]) -> Labels:
    """Its label; what is no Unicode would have the whole file refused."""
    return (("place", str(place["place"]).encode("utf-8", "replace").decode()),)


def _up(places: Sequence[Mapping[str, Any]]) -> Dict[Labels, float]:
    """Of a place that was asked twice, from two NICs, the better answer counts."""
    found: Dict[Labels, float] = {}
    for place in places:
        if place["outcome"] not in NOT_ASKED:
            label = _place(place)
            found[label] = max(found.get(label, 0), int(place["outcome"] in ("ok", "partial")))
    return found


def _latency(places: Sequence[Mapping[str, Any]]) -> Dict[Labels, float]:
    found: Dict[Labels, float] = {}
    for place in places:
        if place["seconds"] is not None and place["place"].startswith("router "):
            label = _place(place)
            found[label] = min(found.get(label, place["seconds"]), place["seconds"])
    return found
