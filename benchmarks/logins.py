"""For benchmarks/fanout.py: a client that logs in so many times a second, each time over a connection of its own.

Reads the password from its input. Prints JSON: logins done and the longest wait for one, ms.
"""

import argparse
import asyncio
import json
import sys
import time

from asyncua import Client
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

SESSION_MS = 60_000
"""As the server grants it."""


async def login(args: argparse.Namespace, password: str) -> float:
    """Seconds from the connection to the activated session."""
    client = Client(args.url, timeout=30)
    client.application_uri, client.session_timeout = args.application_uri, SESSION_MS
    await client.set_security(
        SecurityPolicyBasic256Sha256, args.certificate, args.key, server_certificate=args.server_certificate
    )
    client.set_user(args.user)
    client.set_password(password)
    begin = time.monotonic()
    async with client:
        return time.monotonic() - begin


async def logins(args: argparse.Namespace, password: str) -> list[float]:
    begin, tasks = time.monotonic(), []
    for number in range(round(args.rate * args.seconds)):
        await asyncio.sleep(max(0.0, begin + number / args.rate - time.monotonic()))
        tasks.append(asyncio.create_task(login(args, password)))
    return await asyncio.gather(*tasks)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("url", "certificate", "key", "server_certificate", "application_uri", "user"):
        parser.add_argument(name)
    parser.add_argument("rate", type=float)
    parser.add_argument("seconds", type=float)
    arguments = parser.parse_args()
    waits = asyncio.run(logins(arguments, sys.stdin.readline().rstrip("\n")))
    print(json.dumps({"logins": len(waits), "longest_ms": 1000 * max(waits)}))
