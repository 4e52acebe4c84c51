"""A document made into a plan: taken apart, rendered, merged and validated, before anything is done.

Pure. What cannot be understood refuses its own part, or its own key; the others run.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple

from csagent.errors import DocumentError
from csagent.model import Secret
from csagent.sources.user_data_kind import classify, header_kind
from csagent.user_data import merging, scripts, template
from csagent.user_data import surroundings as known
from csagent.user_data.execute.scripts import RunScript
from csagent.user_data.message import Fetched, Piece, unpack
from csagent.user_data.near_misses import near_miss
from csagent.user_data.plan import (
    BOOT,
    ERROR,
    IGNORED,
    INSTANCE,
    MACHINE,
    REFUSED,
    SCRIPT_SLOTS,
    SLOTS,
    WARNING,
    Part,
    Plan,
    Problem,
    Step,
)
from csagent.user_data.surroundings import Facts
from csagent.user_data.yaml_lines import Node, Twice, load

STEPS_LIMIT = 5000
NOTHING = Node({}, 0)
BY_FREQUENCY = {
    "script-per-once": ("scripts once", MACHINE, "per-once"),
    "script-per-boot": ("scripts at each boot", BOOT, "per-boot"),
    "script-per-instance": ("scripts of the instance", INSTANCE, "per-instance"),
}
REFUSED_KINDS = {
    "part-handler": "a part-handler: Python code for cloud-init's own process is not run",
    "archive": "a cloud-config-archive: write a MIME message",
    "json-patch": "a JSON patch (cloud-config-jsonp): write a cloud-config with a merge type",
}
BOOTHOOK = b"#cloud-boothook"
# Without metadata these render as None, as with cloud-init; any other key of it is refused by its name.
OF_THE_INSTANCE = ("availability_zone", "availability-zone", "local_hostname", "local-hostname")


def make_plan(
    document: bytes, facts: Facts, fetched: Callable[[str], Optional[Fetched]] = lambda url: None
) -> Plan:
    """Read a whole document.

    Args:
        document: as it came.
        facts: the instance and the machine.
        fetched: what came of a URL that the document includes; None where nobody has tried.
    """
    kind = classify(document)
    unpacked = unpack(document, fetched)
    work = _Reading(facts)
    for number, piece in enumerate(unpacked.pieces):
        work.add(number, piece)
    parts, steps = work.finish()
    return Plan(kind, tuple(parts), tuple(steps), unpacked.wanted)


class _Reading:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._parts: List[Part] = []
        self._scripts: Dict[Tuple[str, str], int] = {}  # slot and name, and the part that it is of
        self._steps: List[Step] = []
        self._merged: Node = NOTHING
        self._lines: Dict[int, template.Rendered] = {}

    # --- one part ---

    def add(self, number: int, piece: Piece) -> None:
        """Read one part."""
        kind, content = piece.kind, piece.content
        self._parts.append(Part(piece.name, kind or "unknown", size=len(content)))
        if piece.problem:
            self._refuse(number, piece.problem)
            return
        if kind == "jinja" or (kind == "cloud-config" and _is_template(content)):
            rendered = self._render(number, content)
            if rendered is None:
                return
            kind, content = rendered
        self._parts[number] = self._parts[number]._replace(kind=kind or "unknown")
        if kind in REFUSED_KINDS:
            self._refuse(number, REFUSED_KINDS[kind])
        elif kind == "cloud-config":
            self._cloud_config(number, content, piece.headers)
        elif kind == "script" or kind in BY_FREQUENCY:
            self._script(number, kind, content)
        elif kind == "boothook":
            self._boothook(number, content)
        else:
            self._no_header(number, piece, content)

    def _problem(self, number: int, problem: Problem) -> None:
        part = self._parts[number]
        rendered = self._lines.get(number)
        if rendered is not None:
            problem = problem._replace(line=rendered.line(problem.line))
        self._parts[number] = part._replace(problems=(*part.problems, problem))

    def _refuse(self, number: int, text: str, line: Optional[int] = None) -> None:
        self._parts[number] = self._parts[number]._replace(outcome=REFUSED)
        self._problem(number, Problem(text, line))

    def _render(self, number: int, content: bytes) -> Optional[Tuple[str, bytes]]:
        part = self._parts[number]
        self._parts[number] = part._replace(
            template=True, kind="unknown" if part.kind == "jinja" else part.kind
        )
        try:
            text = content.decode("utf-8")
            rendered = template.render(text, known.names(self._facts))
        except UnicodeDecodeError as error:
            self._refuse(number, "it is not UTF-8", content.count(b"\n", 0, error.start) + 1)
            return None
        except DocumentError as error:
            self._parts[number] = self._parts[number]._replace(kind=_kind_behind(content))
            self._refuse(number, error.text, error.line)
            return None
        # Every instance has metadata: this is a document that is only tried.
        nothing = [name for name in OF_THE_INSTANCE if name in text]
        if nothing and not self._facts.metadata:
            told = f"{', '.join(nothing)}: None, for want of metadata (--metadata FILE gives it)"
            self._problem(number, Problem(told, severity=WARNING))
        kind = header_kind(rendered.text) or ""
        self._lines[number] = rendered
        if kind in ("cloud-config", "script", "boothook"):
            return kind, rendered.text.encode("utf-8", "surrogateescape")
        if part.kind == "cloud-config":  # what a message says of its type is believed
            return part.kind, rendered.text.encode("utf-8", "surrogateescape")
        what = f"what stands in it is no {kind}" if kind else "no header says what is in it"
        self._refuse(number, f"a template of a cloud-config, a script or a boothook is run: {what}", 2)
        return None

    def _no_header(self, number: int, piece: Piece, content: bytes) -> None:
        if not content.strip():
            self._parts[number] = self._parts[number]._replace(kind="empty", outcome=IGNORED)
            self._problem(number, Problem("it is empty", severity=WARNING))
            return
        if piece.type not in ("text/plain", "text/x-not-multipart"):
            hint = header_kind(content.decode("utf-8", "replace"))
            if hint is not None:
                self._refuse(
                    number, f"the type {piece.type[:60]} means nothing here, and it looks like a {hint}"
                )
                return
            self._parts[number] = self._parts[number]._replace(outcome=IGNORED)
            text = f"the type {piece.type[:60]} means nothing here: not run"
            self._problem(number, Problem(text, severity=WARNING))
            return
        miss = near_miss(content)
        if miss.refused:
            self._refuse(number, miss.text, 1)
            return
        self._parts[number] = self._parts[number]._replace(outcome=IGNORED)
        self._problem(number, Problem(miss.text, severity=WARNING))

    # --- scripts ---

    def _script(self, number: int, kind: str, content: bytes) -> None:
        if not _is_utf8(content):
            self._refuse(number, "it is not UTF-8", _bad_line(content))
            return
        slot, often, folder = BY_FREQUENCY.get(kind, ("scripts", INSTANCE, "scripts"))
        name = self._parts[number].name
        earlier = self._scripts.get((slot, name))
        if earlier is not None:
            self._replaced(earlier, f'a later part has the name "{name}" too, and takes its place')
        self._scripts[slot, name] = number
        content = scripts.unix_lines(content)
        action = RunScript(name, folder, Secret(content))
        said = f"{len(content)} bytes, {_interpreter(content)}"
        step = Step(f"{folder}/{name}", slot, "script", f"run {name} ({said})", action, (number,), often)
        self._runs(number, step, content)

    def _boothook(self, number: int, content: bytes) -> None:
        if not _is_utf8(content):
            self._refuse(number, "it is not UTF-8", _bad_line(content))
            return
        name = self._parts[number].name
        content = scripts.without_header(scripts.unix_lines(content), BOOTHOOK)
        action = RunScript(name, "boothooks", Secret(content), with_id=True)
        text = f"run {name} ({_interpreter(content)}), at each boot"
        ids = {step.id for step in self._steps}
        id_ = f"boothooks/{name}" if f"boothooks/{name}" not in ids else f"boothooks/{name}#{number}"
        self._runs(number, Step(id_, "boothook", "boothook", text, action, (number,), BOOT), content)

    def _runs(self, number: int, step: Step, content: bytes) -> None:
        problem = scripts.first_line_problem(content)
        if problem is not None:
            self._problem(number, Problem(f"it cannot run: {problem}", 1))
        self._steps.append(step)

    def _replaced(self, number: int, text: str) -> None:
        self._steps = [step for step in self._steps if step.parts != (number,)]
        self._refuse(number, text)

    # --- cloud-config ---

    def _cloud_config(self, number: int, content: bytes, headers: Any) -> None:
        try:
            node, twice = load(content.decode("utf-8", "surrogateescape"))
        except DocumentError as error:
            self._refuse(number, error.text, error.line)
            return
        if node is None:
            self._parts[number] = self._parts[number]._replace(outcome=IGNORED)
            self._problem(number, Problem("it is empty", severity=WARNING))
            return
        if not node.is_mapping:
            what = "a list" if node.is_list else "one value"
            self._refuse(number, f"it must be keys with their values, and is {what}", node.line)
            return
        for one in twice:
            self._problem(number, _said_twice(one))
        try:
            asked = merging.asked(node.of_part(number), headers)
            merged = merging.merge(self._merged, asked.config, asked.mergers)
        except DocumentError as error:
            self._refuse(number, f"merge type: {error.text}", error.line)
            return
        self._tell_losses(number, self._merged, asked.config, merged)
        self._merged = merged

    def _tell_losses(self, number: int, before: Node, config: Node, after: Node) -> None:
        """Name the keys of earlier parts that are replaced, and those of this one that are not used."""
        for key, new in config.value.items():
            old, now = before.value.get(key), after.value.get(key)
            line = config.keys[key]
            if old is not None and now is new and old.plain() != new.plain():
                names = ", ".join(self._parts[part].name for part in old.parts())
                text = f"takes the place of the one in {names}, which is lost; a merge type would join them"
                self._problem(number, Problem(text, line, str(key)[:80], WARNING))
            elif now is None and new.value is not None:
                self._problem(
                    number, Problem("is lost: its merge type merges no mappings", line, str(key)[:80])
                )
            elif now is old and old is not None and old.plain() != new.plain():
                text = "is not used: its merge type keeps the earlier one"
                self._problem(number, Problem(text, line, str(key)[:80], WARNING))

    # --- all of it ---

    def finish(self) -> Tuple[List[Part], List[Step]]:
        """The parts with their problems, and the steps in their order."""
        from csagent.user_data.cloud_config import families
        from csagent.user_data.cloud_config.draft import Draft

        draft = Draft(self._merged, self._facts)
        families.plan(draft)
        self._note_keys(families.known_keys())
        for part, problem in draft.problems:
            if part < len(self._parts):
                self._problem(part, problem)
        steps = [*self._steps, *draft.steps]
        made = next((step for step in draft.steps if step.slot == "scripts"), None)
        earlier = self._scripts.get(("scripts", scripts.RUNCMD))
        if made is not None and earlier is not None:
            self._replaced(
                earlier, 'a part with the name "runcmd": the script of the key runcmd takes its place'
            )
            steps = [step for step in steps if step.parts != (earlier,) or step is made]
        if len(steps) > STEPS_LIMIT:
            for step in steps[STEPS_LIMIT:]:
                for number in step.parts:
                    self._problem(
                        number, Problem(f"more than {STEPS_LIMIT} steps", key=step.key, severity=ERROR)
                    )
            steps = steps[:STEPS_LIMIT]
        return self._parts, sorted(steps, key=_order)

    def _note_keys(self, known: Tuple[str, ...]) -> None:
        """Which part has a say in which key."""
        for key, node in self._merged.value.items():
            if key in known and node.value is not None:
                for number in node.parts():
                    part = self._parts[number]
                    self._parts[number] = part._replace(keys=(*part.keys, str(key)))


def _order(step: Step) -> Tuple[int, str]:
    """Scripts of one place run by their names (field/user-data#U29), everything else as it was planned."""
    return SLOTS[step.slot], step.action.name if step.slot in SCRIPT_SLOTS else ""


def _is_template(content: bytes) -> bool:
    first = content.split(b"\n", 1)[0].decode("utf-8", "replace")
    return first.lower().startswith("## template: jinja")


def _kind_behind(content: bytes) -> str:
    """What a template seems to be of, where it could not be rendered."""
    rest = content.lstrip().partition(b"\n")[2].decode("utf-8", "replace")
    return header_kind(rest) or "unknown"


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _bad_line(content: bytes) -> int:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return content.count(b"\n", 0, error.start) + 1
    return 1


def _interpreter(content: bytes) -> str:
    first = content.split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    return first[2:].strip()[:60] if first.startswith("#!") else "no #! line"


def _said_twice(one: Twice) -> Problem:
    text = f"stands twice: the one in line {one.first} is lost, this later one counts"
    if one.top:
        return Problem(text, one.second, one.key, WARNING)
    return Problem(f'"{one.key}" {text}', one.second, "", WARNING)
