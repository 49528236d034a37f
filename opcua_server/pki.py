"""The folder `pki` on the disk: several of its files change as one, whenever the process is killed.

What is to be changed is in a journal before the first file is touched. A kill before that has changed nothing; after
it, the rest is done by the next change, or at the next start. What lies there, and what it is good for: security.py.
"""

import base64
import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from nodesets.errors import StorageError

FOLDERS = ("own/certs", "own/private", "trusted/certs", "trusted/crl", "issuers/certs", "issuers/crl", "rejected/certs")
JOURNAL = "own/private/.journal"
"""Beside the key, since it may hold one: 0600 in a 0700 folder."""

State = tuple[tuple[str, int, int], ...]
"""Path, ns of its change and bytes of each file of some folders."""


def make_folders(data_dir: Path) -> Path:
    """`pki` under the data folder with everything in it; the folder of the key is closed to others."""
    pki = data_dir / "pki"
    for folder in FOLDERS:
        (pki / folder).mkdir(parents=True, exist_ok=True)
    (pki / "own/private").chmod(0o700)
    return pki


def take_over(data_dir: Path) -> None:
    """Complete what a process that was killed has begun; for who holds the data folder, so that nobody else changes it.

    Raises OSError.
    """
    pki = make_folders(data_dir)
    complete(pki)
    for half_written in (pki / "own/private").glob(".*"):
        half_written.unlink()


def carry_out(pki: Path, files: Mapping[str, bytes], gone: Iterable[str]) -> None:
    """Write files and remove others, by path below `pki`: all of it or nothing, whenever the process is killed.

    Raises StorageError: nothing has changed, or what has begun is completed by the next call or start.
    """
    encoded = {path: base64.b64encode(content).decode() for path, content in files.items()}
    try:
        complete(pki)
        gone = [path for path in gone if (pki / path).exists()]
        if not files and not gone:
            return
        write(pki / JOURNAL, json.dumps({"files": encoded, "gone": sorted(gone)}).encode(), 0o600)
        _sync((pki / JOURNAL).parent)
        complete(pki)
    except OSError as error:
        raise StorageError(f"certificates cannot be written: {error}") from error


def under_way(pki: Path) -> bool:
    """Whether the files are just being changed, so that some are new and others are not."""
    return (pki / JOURNAL).exists()


def complete(pki: Path) -> None:
    """Do what the journal says, if there is one; twice does no harm. Raises OSError."""
    if not under_way(pki):
        return
    journal = pki / JOURNAL
    change = json.loads(journal.read_bytes())
    for path, content in change["files"].items():
        write(pki / path, base64.b64decode(content), 0o600 if path.startswith("own/private/") else 0o644)
    for path in change["gone"]:
        (pki / path).unlink(missing_ok=True)
    for folder in FOLDERS:
        _sync(pki / folder)
    journal.unlink()
    _sync(journal.parent)


def _sync(folder: Path) -> None:
    """Bring names that came, went or changed in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(path: Path, data: bytes, mode: int) -> None:
    """Write a new file so that nobody ever sees a half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def state(folders: Iterable[Path]) -> State:
    """Another one as soon as a file in them comes, goes or changes."""
    return tuple(_files(folders))


def _files(folders: Iterable[Path]) -> Iterable[tuple[str, int, int]]:
    for folder in folders:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                with contextlib.suppress(FileNotFoundError):  # gone since it was listed
                    stat = entry.stat()
                    yield entry.path, stat.st_mtime_ns, stat.st_size
