"""What takes long to build and is the same for every run of the tests: made once, and kept between runs.

Where: ${XDG_CACHE_HOME:-~/.cache}/csagent-tests. An entry is named by its kind and by what goes into it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Callable, Iterator, Sequence

LOCKED = 3600.0  # seconds that another process may take to make a tree, on a busy machine
REMOVING = 900.0  # seconds
IN_USE = 3600.0  # seconds since it was last asked for


def cache_directory() -> Path:
    """The cache; only root may look inside (the trees have set-uid programs in them)."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    path = Path(home) / "csagent-tests"
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def cached(kind: str, key: str, make: Callable[[Path], Path]) -> Path:
    """An entry of the cache, made now if it is not there; it is only read.

    Args:
        kind: what it is; an entry that is made takes the place of the others of its kind.
        key: of what goes into it (`key_of`).
        make: makes it in an empty directory; returns what to keep: that directory, or a path in it.
    """
    cache = cache_directory()
    kept = cache / f"{kind}-{key}"
    with locked(cache / f"lock-{kind}"):
        if not kept.exists():
            _forget_old(cache, kind)
            with _half_made(cache) as new:
                make(new).rename(kept)
        os.utime(kept)
    return kept


def key_of(words: Sequence[str], files: Sequence[Path] = ()) -> str:
    """A key that is another one where a word, a file's name or its content is."""
    digest = hashlib.sha256("\0".join(words).encode())
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; another one, which may be making a tree, is waited for."""
    end = time.monotonic() + LOCKED
    with open(path, "w") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise RuntimeError(f"another process has held {path} for {LOCKED:g} s") from None
                time.sleep(0.1)
        yield


@contextlib.contextmanager
def _half_made(cache: Path) -> Iterator[Path]:
    """A directory to build in; whatever is still in it at the end is removed.

    By the time of the one around it others see that somebody builds: a copied tree has its original's.
    """
    around = Path(tempfile.mkdtemp(prefix="new-", dir=cache))
    path = around / "made"
    path.mkdir()
    path.chmod(0o755)
    try:
        yield path
    finally:
        _remove(around)


def _forget_old(cache: Path, kind: str) -> None:
    """What was made before of this kind, unless another run may be using it; up to a gigabyte apiece."""
    for path in (*cache.glob(f"{kind}-*"), *cache.glob("new-*")):
        ours = path.name.rpartition("-")[0] in (kind, "new")  # a kind may be the beginning of another
        if ours and path.stat().st_mtime < time.time() - IN_USE:
            _remove(path)


def _remove(tree: Path) -> None:
    """Remove a tree, and nothing of what may be mounted in it."""
    words = ["rm", "-rf", "--one-file-system", "--", str(tree)]
    subprocess.run(words, stderr=subprocess.DEVNULL, timeout=REMOVING)
