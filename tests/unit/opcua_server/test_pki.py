"""Several files of `pki` as one, on a disk that fails at any moment; tests/fault kills the process instead."""

import os
from pathlib import Path

import pytest

from nodesets.errors import StorageError
from opcua_server import pki


def everything(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("call", range(20))
def test_a_change_is_whole_or_not_at_all_wherever_the_disk_fails(
    tmp_path: Path, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Part 12 7.10.2, F05: key, certificate and lists are many files, and a client pushed them as one.
    root = pki.make_folders(tmp_path)
    old = {"own/private/enose.pem": b"old key", "own/certs/enose.der": b"old", "trusted/certs/left.der": b"left"}
    pki.carry_out(root, old, [])
    new = {"own/private/enose.pem": b"new key", "own/certs/enose.der": b"new", "issuers/crl/ca.crl": b"crl"}
    left, fsync = [call], os.fsync

    def failing(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(5, "Input/output error")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", failing)
    try:
        pki.carry_out(root, new, ["trusted/certs/left.der"])
        failed = False
    except StorageError:
        failed = True
    monkeypatch.undo()
    pki.take_over(tmp_path)  # the next start
    found = everything(root)
    assert found in (old, new)
    assert found == new or failed
    assert (root / "own/private/enose.pem").stat().st_mode & 0o777 == 0o600


def test_a_change_that_was_cut_off_comes_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = pki.make_folders(tmp_path)

    def failing(root: Path) -> None:
        if pki.under_way(root):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(pki, "complete", failing)
    with pytest.raises(StorageError):
        pki.carry_out(root, {"trusted/certs/a.der": b"a"}, [])
    monkeypatch.undo()
    pki.carry_out(root, {"issuers/certs/b.der": b"b"}, [])
    assert everything(root) == {"trusted/certs/a.der": b"a", "issuers/certs/b.der": b"b"}
