"""Mutated config drives, each read by the child that csagent reads drives in: `./dev fuzz [OPTIONS]`.

The images come from genisoimage, xorriso and csagent.lab.drive; mutant N of a seed is always the same. One
line sums up the run. The exit status is 1 where something happened that must not: a traceback, an exception
in the parent, a child that outlived its deadline or its memory limit, an answer that breaks a rule, a value
that is not on the drive. Outcomes of a mutant that are as they should be:

- ok, absent, malformed, foreign, failed: what the reader said;
- cpu, memory: it ran into its limit (memory: also where it lived to say so);
- deadline: it was killed at `DRIVE_PATIENCE`.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any, Counter, Dict, Iterator, List, NamedTuple, Optional, Tuple

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

MARGIN = 1.0  # seconds that ending a child may take
LATE = "past its deadline"
TRIES = 3
SYSTEM_FILES = ("/etc/passwd", "/etc/hostname")

OWN_SIZE = 4 << 20  # bytes


class Verdict(NamedTuple):
    """What came of one image."""

    outcome: str
    failures: List[str]
    seconds: float
    read: bool  # something was read


class Bench:
    """Reads images as the agent does, and watches.

    The process must be small: a child's limit is made larger for a large parent (`jail._limit`),
    and it is the real one that is to be tested.
    """

    def __init__(self, directory: str, secrets: Tuple[bytes, ...]) -> None:
        import ctypes  # noqa: F401  all that a child would import, so that a fork is all it costs

        from csagent.errors import JailError
        from csagent.sandbox import codec, jail
        from csagent.settings import Settings
        from csagent.sources import checks, drive_readers, jobs
        from csagent.sources.drive import device
        from csagent.sources.request import PassRequest
        from csagent.system.seams import System

        device.warm_up()
        self.jobs, self.checks, self.jail, self.codec = jobs, checks, jail, codec
        self.error = JailError
        self.patience = drive_readers.PATIENCE
        self.system = System.at("/")
        self.request = PassRequest(self.system, Settings())
        self.path = os.path.join(directory, f"mutant-{os.getpid()}.iso")
        # On the running machine only devices are found, not files: those are looked at as in a tree.
        self.in_tree = PassRequest(System.at(directory), Settings())
        self.secrets = secrets
        self.check_limit()

    def check_limit(self) -> None:
        """Have a child say what its limits are; they must be those of `jail.DRIVE`, not larger.

        This process is itself larger than csagent, and `jail` then adds what keeps its child alive.
        """

        def work(_prepared: Any, _say: Any) -> Any:
            return [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU)]

        limits = self.jail.DRIVE
        said = self.jail.run(
            self.jail.Job("limits", self.system, lambda: None, work, limits, self.jail.unprivileged()),
            self.patience,
        )
        if not (0 <= said[0] - limits.memory <= OWN_SIZE and said[1] == limits.cpu):
            raise SystemExit(f"the children's limits are {said}, not {limits.memory} and {limits.cpu}")

    def read(self, image: bytes, *, given: bool) -> Verdict:
        """Write the image, have it read, and judge.

        A child that was ended too late is tried again: where this process itself waits for a processor, all
        is late, and once more shows whether it was that.
        """
        for _ in range(TRIES):
            verdict = self._read(image, given=given)
            if not any(text.endswith(LATE) for text in verdict.failures):
                break
        return verdict

    def _read(self, image: bytes, *, given: bool) -> Verdict:
        from judge import problems

        with open(self.path, "wb") as stream:
            stream.write(image)
        start = time.monotonic()
        path = self.path if given else f"/{os.path.basename(self.path)}"
        child = self.jobs.start_drive(self.request if given else self.in_tree, path, "fuzz", given=given)
        failures: List[str] = []
        outcome, read = "deadline", False
        try:
            while not child.finished and time.monotonic() - start < self.patience:
                left = start + self.patience - time.monotonic()
                select.select([child], [], [], max(0.0, left))
                child.drain()
            done = child.finished
        except self.error:
            failures.append("answered without an end")
            done = False
        child.kill()
        seconds = time.monotonic() - start
        if seconds > self.patience + MARGIN:
            failures.append(f"took {seconds:.1f} s, {LATE}")
        failures += self.leftovers(child.pid)
        if done:
            outcome, read = self.hear(child, path, image, failures, problems)
        return Verdict(outcome, failures, seconds, read)

    def hear(
        self, child: Any, path: str, image: bytes, failures: List[str], problems: Any
    ) -> Tuple[str, bool]:
        """The outcome of a child that is done, and whether it read something."""
        try:
            document = child.result()
        except self.error as error:
            epitaph = str(error).partition(": ")[2]
            known = {"used up its CPU time": "cpu", "was killed": "cpu", "ran out of memory": "memory"}
            known["ended without an answer"] = "memory"  # too little left to say so
            if epitaph not in known:
                failures.append(f"the child {epitaph}")
            return known.get(epitaph, "crashed"), False
        try:
            news = self.checks.drive_news(document, path, "fuzz")
        except self.error as error:
            failures.append(f"the parent refused the answer: {error}")
            return "refused", False
        failures += problems(image, news, f"drive {path}", self.secrets)
        memory = "MemoryError" in news.place.detail
        return "memory" if memory else news.place.outcome, news.reading is not None

    @staticmethod
    def leftovers(pid: int) -> Iterator[str]:
        """Whatever is left of a child and its group."""
        for what, kill in (("child", os.kill), ("child's group", os.killpg)):
            try:
                kill(pid, 0)
            except ProcessLookupError:
                continue
            except PermissionError:
                pass
            yield f"the {what} is still there"


def say(*words: Any) -> None:
    """One line of output."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def peak() -> int:
    """The largest resident size in KiB that any child reaped so far has had."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def worker(args: argparse.Namespace) -> Dict[str, Any]:
    """Read every mutant that is this worker's; what came of them."""
    import random

    import layout
    from mutants import Maker

    with open(args.marker, "rb") as stream:
        secrets = [stream.read().strip()]
    for path in SYSTEM_FILES:
        if os.path.exists(path):
            with open(path, "rb") as stream:
                secrets += [line for line in stream.read().split(b"\n")[:2] if len(line) > 8]
    bench = Bench(args.worker, tuple(secrets))
    images = []
    for name in sorted(os.listdir(args.worker)):
        if name.endswith(".iso") and not name.startswith("mutant-"):
            with open(os.path.join(args.worker, name), "rb") as stream:
                images.append(layout.parse(name[:-4], stream.read()))
    counts: Counter[str] = collections.Counter()
    failed: List[Dict[str, Any]] = []
    slowest, read, made = 0.0, 0, 0

    def note(number: int, how: str, image: bytes, failures: List[str]) -> None:
        kept = os.path.join(args.keep, f"{args.seed}-{number}.iso")
        if len(failed) < 200:
            os.makedirs(args.keep, exist_ok=True)
            with open(kept, "wb") as stream:
                stream.write(image)
        failed.append({"number": number, "how": how, "failures": failures, "kept": kept})

    if args.index == 0 and args.only is None:
        for healthy in images:
            verdict = bench.read(healthy.image, given=False)
            if not verdict.read or verdict.failures:
                note(
                    -1,
                    healthy.name,
                    healthy.image,
                    [f"not mutated, and {verdict.outcome}", *verdict.failures],
                )
    maker = Maker(args.seed, images, args.marker)
    limit = bench.jail.DRIVE.memory // 1024
    end = time.monotonic() + args.seconds if args.seconds else None
    numbers = [args.only] if args.only is not None else range(args.index, args.count, args.jobs)
    for number in numbers:
        if end is not None and time.monotonic() > end:
            break
        how, image = maker.make(number)
        verdict = bench.read(image, given=random.Random(number).random() < 0.9)
        made += 1
        counts[verdict.outcome] += 1
        slowest = max(slowest, verdict.seconds)
        read += verdict.read
        failures = list(verdict.failures)
        if peak() > limit:
            failures.append(f"{peak()} KiB resident")
        if failures or args.only is not None:
            note(number, f"{how} ({verdict.outcome}, {verdict.seconds:.2f} s)", image, failures)
    bench.check_limit()
    try:
        os.waitpid(-1, os.WNOHANG)
        failed.append({"number": -1, "how": "at the end", "failures": ["a child is left"], "kept": ""})
    except ChildProcessError:
        pass
    if os.path.exists(bench.path):
        os.unlink(bench.path)
    return {
        "made": made,
        "counts": counts,
        "failed": failed,
        "slowest": slowest,
        "read": read,
        "peak": peak(),
    }


def arguments(words: Optional[List[str]] = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="./dev fuzz", description="Read mutated config drives.")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices (default: 1)")
    parser.add_argument("--count", type=int, default=50000, help="mutants (default: 50000)")
    parser.add_argument("--jobs", type=int, default=2, help="parent processes (default: 2)")
    parser.add_argument("--seconds", type=float, help="stop after that long, though the count is not reached")
    parser.add_argument("--keep", metavar="DIR", help="where failing images go (default: a new directory)")
    parser.add_argument("--only", type=int, metavar="N", help="only mutant N; its image is kept")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--index", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--marker", help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    if args.jobs < 1 or args.count < 1:
        parser.error("--jobs and --count need at least 1")
    return args


def prepare(directory: str, marker: str) -> None:
    """Make the healthy images in a process of its own, so that none of its memory is in the way."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import seeds; print(*seeds.make(*sys.argv[2:])[1])"
    )
    here = os.path.dirname(os.path.abspath(__file__))
    command = [sys.executable, "-I", "-c", program, here, directory, marker]
    made = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=600)
    for tool in made.stdout.split():
        say(f"{tool} is not installed: no images of its making")


def main() -> int:
    """Share the mutants out, and sum up."""
    args = arguments()
    if args.worker:
        say(json.dumps(worker(args)))
        return 0
    if args.keep is None:
        args.keep = os.path.join(tempfile.gettempdir(), f"csagent-fuzz-{os.getpid()}-kept")
    start = time.monotonic()
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = tempfile.mkdtemp(prefix="csagent-fuzz-", dir=fast)
    descriptor, marker = tempfile.mkstemp(prefix="csagent-fuzz-", suffix="-marker")
    os.write(descriptor, f"marker-EXAMPLE-outside-{os.urandom(8).hex()}\n".encode())
    os.fchmod(descriptor, 0o644)  # only the reader's care keeps it out, not its rights
    os.close(descriptor)
    os.chmod(directory, 0o755)
    try:
        prepare(directory, marker)
        results, failed = share_out(args, directory, marker)
    finally:
        shutil.rmtree(directory)
        os.unlink(marker)
    counts: Counter[str] = collections.Counter()
    for result in results:
        counts.update(result["counts"])
        failed += result["failed"]
    for failure in failed:
        say(f"{failure['number']}: {failure['how']}: {'; '.join(failure['failures'])} {failure['kept']}")
    bad = sum(bool(failure["failures"]) for failure in failed)
    summary = {
        "seed": args.seed,
        "count": sum(result["made"] for result in results),
        "seconds": f"{time.monotonic() - start:.1f}",
        **dict(sorted(counts.items())),
        "read": sum(result["read"] for result in results),
        "slowest": f"{max((result['slowest'] for result in results), default=0):.2f}s",
        "peak": f"{max((result['peak'] for result in results), default=0) / 1024:.1f}MiB",
        "failures": bad,
    }
    say("drives", *(f"{key}={value}" for key, value in summary.items()))
    return 1 if bad else 0


def share_out(
    args: argparse.Namespace, directory: str, marker: str
) -> Tuple[List[Dict[str, Any]], List[Dict[str, Any]]]:
    """Run the workers; their results, and what went wrong with them themselves."""
    jobs = 1 if args.only is not None else args.jobs
    command = [sys.executable, "-I", os.path.abspath(__file__), "--worker", directory, "--marker", marker]
    command += [
        "--seed",
        str(args.seed),
        "--count",
        str(args.count),
        "--jobs",
        str(jobs),
        "--keep",
        args.keep,
    ]
    command += ["--only", str(args.only)] if args.only is not None else []
    command += ["--seconds", str(args.seconds)] if args.seconds else []
    running = [
        subprocess.Popen(
            [*command, "--index", str(index)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for index in range(jobs)
    ]
    results, failed = [], []
    for process in running:
        out, err = process.communicate()
        if err or process.returncode:
            how = err.strip() or f"status {process.returncode}"
            failed.append({"number": -1, "how": how, "failures": ["a parent failed"], "kept": ""})
        if out:
            results.append(json.loads(out))
    return results, failed


if __name__ == "__main__":
    sys.exit(main())
