import asyncio
import os
import signal
import subprocess
import sys

import psutil

from compliance import passwords
from compliance.passwords import Hasher


async def test_a_password_fits_its_own_hash_alone(hasher: Hasher) -> None:
    hashed = await hasher.hash("correct horse")
    assert hashed.startswith("$argon2id$")
    assert await hasher.verify(hashed, "correct horse")
    assert not await hasher.verify(hashed, "correct horsf")
    assert await hasher.hash("correct horse") != hashed  # salted


async def test_a_composed_and_a_decomposed_letter_are_the_same_password(hasher: Hasher) -> None:
    # RFC 8265: which of the two a keyboard sends is not in the user's hands.
    hashed = await hasher.hash("R\u00f6stmeister")
    assert await hasher.verify(hashed, "Ro\u0308stmeister")
    assert not await hasher.verify(hashed, "\ud800 no text at all")


async def test_a_helper_that_was_killed_is_replaced(hasher: Hasher) -> None:
    # The kernel takes the largest process when memory runs out; logins must go on.
    hashed = await hasher.hash("correct horse")
    (helper,) = [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]
    helper.send_signal(signal.SIGKILL)
    await asyncio.to_thread(helper.wait)
    assert await hasher.verify(hashed, "correct horse")


async def test_the_helper_works_at_low_priority(hasher: Hasher) -> None:
    await hasher.hash("correct horse")
    (helper,) = [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]
    assert helper.nice() > psutil.Process().nice()


def test_the_helper_does_not_outlive_a_server_that_was_killed() -> None:
    # It would hold the server's output open and keep 64 MiB.
    program = """
import asyncio
from compliance.passwords import Hasher

async def main():
    hasher = Hasher()
    await hasher.hash("correct horse")
    print("ready", flush=True)
    await asyncio.Event().wait()

if __name__ == "__main__":
    asyncio.run(main())
"""
    server = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    helpers = psutil.Process(server.pid).children()
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    assert server.stdout.read() == b""  # end of file: nobody holds it open any more
    server.stdout.close()
    _, alive = psutil.wait_procs(helpers, timeout=60)
    assert not alive


def test_generated_passwords_are_long_and_never_the_same() -> None:
    made = {passwords.generate() for _ in range(1000)}
    assert len(made) == 1000
    assert all(len(p) >= passwords.SHORTEST and not set(p) & set("lo01") for p in made)
