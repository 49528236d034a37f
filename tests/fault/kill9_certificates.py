"""Kill a process that changes key, certificate and trust list, again and again: they always belong together.

    python -m tests.fault.kill9_certificates --runs 1000

Each run is a child of this process on the folder the runs before it left. It pushes one of three states after another,
and is killed after a random time.
"""

import argparse
import itertools
import os
import random
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from opcua_server import pki, security
from opcua_server.security import Identity, TrustLists, TrustStore
from tests.fault.kill9 import killed

URI: Final = "urn:test:enose"
STATES: Final = 3
LONGEST: Final = 0.02
"""Seconds a child lives after its first change."""

State = tuple[Identity, TrustLists]


def states() -> list[State]:
    """Each its own key and certificate, and as many trusted applications."""
    keys = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(STATES)]
    own = [Identity(security.self_signed(key, URI, []), key) for key in keys]
    peers = [security.self_signed(keys[0], f"urn:test:{n}", []) for n in range(STATES)]
    ders = [Identity(peer, keys[0]).der for peer in peers]
    return [(identity, TrustLists(trusted=tuple(ders[: n + 1]))) for n, identity in enumerate(own)]


def push(data_dir: Path, known: list[State], first: int, done: int) -> None:
    """Change from state to state, beginning after `first`, until killed."""
    trust = TrustStore(data_dir)
    for number in itertools.count(first + 1):
        identity, lists = known[number % STATES]
        files, gone = trust.changes(lists)
        trust.carry_out(files | dict(identity.files), gone)
        os.write(done, number.to_bytes(8, "little"))


def check(data_dir: Path, known: list[State], reported: int) -> int:
    """The number of the change that is on the disk, after a start: the last reported one, or the one under way."""
    pki.take_over(data_dir)
    identity = security.load_identity(data_dir, URI, [])
    trusted = set(TrustStore(data_dir).contents().trusted)
    [found] = [n for n in (reported, reported + 1) if known[n % STATES][0].der == identity.der]
    assert trusted == set(known[found % STATES][1].trusted), "certificate and trust list of different changes"
    private = data_dir / "pki/own/private"
    assert [(f.name, f.stat().st_mode & 0o777) for f in private.iterdir()] == [("enose.pem", 0o600)]
    return found


def runs(count: int, seed: int) -> tuple[int, int]:
    """So many runs; how many changes were made, and how many of the kills came in the middle of one."""
    chosen, known = random.Random(seed), states()
    with tempfile.TemporaryDirectory(prefix="enose-kill9-") as folder:
        data_dir, number, cut = Path(folder), 0, 0
        root = pki.make_folders(data_dir)
        pki.carry_out(root, known[0][0].files, [])
        for _ in range(count):
            number = killed(partial(push, data_dir, known, number), chosen.uniform(0, LONGEST))
            cut += pki.under_way(root)
            number = check(data_dir, known, number)
    return number, cut


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=9)
    options = parser.parse_args()
    changes, cut = runs(options.runs, options.seed)
    print(f"{options.runs} kills, {cut} of them within one of {changes} changes: key, certificate and lists were one")
    return 0


if __name__ == "__main__":
    sys.exit(main())
