"""Documents through real cloud-init and through csagent: `./dev differential`.

Each is run by both in a Debian tree, and the trees are compared. Generated ones are read by both their
parsers. Each difference of the trees is a failure, but for those that known_differences.yaml lists, each with
the row of the table of deliberate differences (field/user-data#D1 and so on) that it comes from.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import yaml

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]

from support import user_data_state  # noqa: E402
from support.build_cache import cache_directory, locked  # noqa: E402
from support.cloud_init_oracle import Oracle  # noqa: E402
from support.tree_difference import differences  # noqa: E402
from support.user_data_oracle_cases import DOCUMENTS as DOCUMENTS_GENERATED  # noqa: E402
from support.user_data_oracle_cases import compare as compare_generated  # noqa: E402
from support.user_data_tree import CLOUD_INIT, DISK, DISK_SEEN, GPG, Scratch, tree  # noqa: E402

DOCUMENTS = HERE / "documents"
ANSWERS = HERE / "answers"  # of some of them: the state that they lead to, as of the fixtures
FIXTURES = HERE.parent / "fixtures/user-data"
KNOWN = HERE / "known_differences.yaml"
SUITES = ("bookworm", "trixie")
BEFORE = {"disks-": DISK, "apt-key-": GPG}
ROWS = re.compile(r"(field/user-data#[DU][0-9]+|newer|older|tree)\Z")


class Document(NamedTuple):
    """A document, and how often the machine boots with it."""

    name: str
    content: bytes
    boots: int = 1
    expected: Mapping[str, Any] = {}

    @property
    def before(self) -> str:
        """What it needs of the tree: a data disk, or gpg."""
        kind = next((kind for kind in BEFORE if self.name.startswith(kind)), "")
        return BEFORE.get(kind, "")


class Known(NamedTuple):
    """Differences that are meant: of which documents, which of them, and the row of the table."""

    documents: "re.Pattern[str]"
    differs: "re.Pattern[str]"
    row: str
    suites: Tuple[str, ...]


class Outcome(NamedTuple):
    """What the comparison of one document in one release has given."""

    suite: str
    document: str
    meant: List[Tuple[str, Known]]
    wrong: List[str]


def documents() -> Iterator[Document]:
    """The fixtures, and those of this directory, some of them with the state that they must lead to."""
    for folder in sorted(FIXTURES.iterdir()):
        yield _document(folder.name, folder / "user-data", folder / "expected.yaml")
    for path in sorted(DOCUMENTS.iterdir()):
        yield _document(path.name, path, ANSWERS / f"{path.name}.yaml")


def _document(name: str, path: Path, answer: Path) -> Document:
    expected = yaml.safe_load(answer.read_text("utf-8")) if answer.exists() else {}
    return Document(name, path.read_bytes(), expected.get("boot", {}).get("count", 1), expected)


def known_differences() -> List[Known]:
    """What known_differences.yaml lists."""
    found = []
    for entry in yaml.safe_load(KNOWN.read_text("utf-8")):
        assert ROWS.match(entry["row"]), f"{entry['row']} is no row of the table"
        suites = (entry["suite"],) if "suite" in entry else SUITES
        patterns = (re.compile(entry[name]) for name in ("documents", "differs"))
        found.append(Known(*patterns, entry["row"], suites))
    return found


def cloud_inits(base: Path, document: Document) -> Scratch:
    """What cloud-init makes of a document; kept, since it changes with its package only."""
    scripts = [CLOUD_INIT, *([document.before, DISK_SEEN] if document.before else [])]
    key = hashlib.sha256(
        b"\0".join([document.content, f"{document.boots}".encode(), *map(str.encode, scripts)])
    )
    folder = cache_directory() / f"differential-{base.name}"
    kept = folder / key.hexdigest()[:24]
    folder.mkdir(exist_ok=True)
    with locked(folder / f"lock-{kept.name}"):
        if not (kept / "finished").exists():
            shutil.rmtree(kept, ignore_errors=True)  # of a run that was stopped
            made = Scratch(base, kept)
            made.cloud_init([document.content] * document.boots, before=document.before)
            (kept / "finished").touch()
    return Scratch(base, kept)


def compare(
    base: Path, suite: str, document: Document, known: Sequence[Known], keep: Optional[Path]
) -> Outcome:
    """Run a document through both, and sort out in what they differ."""
    try:
        theirs = cloud_inits(base, document)
    except subprocess.TimeoutExpired as error:
        return Outcome(suite, document.name, [], [f"cloud-init did not end within {error.timeout:g} s"])
    ours = Scratch(base, None if keep is None else keep / suite / document.name)
    try:
        done = ours.csagent(document.content, count=document.boots, before=document.before)
        said = done.stderr.decode(errors="replace")
        found = [
            *differences(ours, theirs),
            *_of_state(ours, theirs, said),
            *_of_fixture(ours, document, said),
        ]
    except subprocess.TimeoutExpired as error:
        found = [f"csagent did not end within {error.timeout:g} s"]
    finally:
        if keep is None:
            ours.close()
    meant, wrong = [], []
    for line in found:
        entry = next((one for one in known if _is_meant(one, suite, document, line)), None)
        if entry is None:
            wrong.append(line)
        else:
            meant.append((line, entry))
    return Outcome(suite, document.name, meant, wrong)


def _is_meant(known: Known, suite: str, document: Document, line: str) -> bool:
    fits = known.documents.fullmatch(document.name) and known.differs.match(line)
    return suite in known.suites and fits is not None


def _of_state(ours: Scratch, theirs: Scratch, error: str) -> List[str]:
    """Whether both say that all went well, or neither."""
    if "Traceback" in error:
        return [f"traceback: {error[-2000:]}"]
    try:
        state = json.loads(ours.told("status.json"))["state"]
    except (ValueError, KeyError):
        return [f"no status: {error[-500:]}"]
    failed = any(line != "0" for line in theirs.told("stages").split())
    if failed != (state in ("failed", "refused")):
        return [f"state {state}, cloud-init {'failed' if failed else 'done'}"]
    return []


def _of_fixture(ours: Scratch, document: Document, error: str) -> List[str]:
    """In what csagent has not done what the fixture's expected.yaml says."""
    if not document.expected:
        return []
    log = ours.text("/var/log/csagent-user-data.log") + ours.console()
    report = json.loads(ours.told("status.json"))
    wrong = user_data_state.differences(ours, document.expected, log)
    wrong += user_data_state.report_differences(report, document.expected, json.dumps(report) + error)
    return [f"expected.yaml: {line}" for line in wrong]


def trees(arguments: argparse.Namespace) -> int:
    """Compare all documents that were asked for; the number of those that differ."""
    known = known_differences()
    chosen = [
        one for one in documents() if not arguments.names or any(n in one.name for n in arguments.names)
    ]
    if arguments.start is not None:
        names = [one.name for one in chosen]
        chosen = chosen[names.index(arguments.start) :] if arguments.start in names else []
    work = []
    for suite in arguments.suite or SUITES:
        base = tree(suite)
        work += [(base, suite, one) for one in chosen]
    failures, used = 0, set()
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for outcome in pool.map(lambda one: compare(*one, known, arguments.keep), work):
            used.update(entry for _, entry in outcome.meant)
            rows = sorted({entry.row.rpartition("#")[2] for _, entry in outcome.meant})
            told = f"{outcome.suite} {outcome.document}"
            if outcome.wrong:
                failures += 1
                print("\n    ".join([f"{told}: differs", *outcome.wrong]), flush=True)
            else:
                print(f"{told}: {'as ' + ', '.join(rows) if rows else 'the same'}", flush=True)
            if arguments.verbose:
                for line, entry in outcome.meant:
                    print(f"    {entry.row}: {line}")
    if not arguments.names and not arguments.suite and not arguments.start:
        for entry in known:
            if entry not in used:
                failures += 1
                print(f"listed and not seen any more: {entry.documents.pattern} {entry.differs.pattern}")
    print(f"{len(work)} comparisons, {failures} failures")
    return failures


def parsers(arguments: argparse.Namespace) -> int:
    """Let both read generated documents, of each kind so many; the number of kinds in which they differ."""
    failures = 0
    for suite in arguments.suite or SUITES:
        oracle = Oracle(tree(suite))
        for kind in DOCUMENTS_GENERATED:
            try:
                read = compare_generated(oracle, kind, arguments.generated, arguments.seed)
                print(
                    f"{suite} {kind}: {read} of {arguments.generated} generated ones read alike", flush=True
                )
            except AssertionError as error:
                failures += 1
                print(f"{suite} {kind}: differs\n{error}", flush=True)
        oracle.close()
    return failures


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="./dev differential", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="only documents with this in their name")
    parser.add_argument("--suite", action="append", choices=SUITES, help="only this release of Debian")
    parser.add_argument(
        "--from", dest="start", metavar="NAME", help="go on with this document of those that would be run"
    )
    parser.add_argument("--jobs", type=int, default=2, help="so many comparisons at a time (default 2)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave what csagent made below DIR")
    parser.add_argument(
        "--verbose", "-v", action="store_true", help="show the differences that are meant, too"
    )
    parser.add_argument("--only", choices=("trees", "parsers"), help="only the one of the two comparisons")
    parser.add_argument("--generated", type=int, default=3000, help="so many documents for the parsers")
    parser.add_argument("--seed", type=int, default=1, help="what the generated documents come from")
    arguments = parser.parse_args()
    if arguments.keep is not None:
        shutil.rmtree(arguments.keep, ignore_errors=True)
    failures = 0
    if arguments.only != "trees" and not arguments.names and not arguments.start:
        failures += parsers(arguments)
    if arguments.only != "parsers":
        failures += trees(arguments)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
