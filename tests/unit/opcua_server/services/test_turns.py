"""Long requests give way to those of other clients."""

import asyncio

from opcua_server.services.turns import Turnstile


async def test_of_long_requests_that_come_together_one_is_let_through_in_a_turn_of_the_loop() -> None:
    # Five clients create items at once: a Read that comes meanwhile waits for one of them, not for five.
    turnstile, turns = Turnstile(), [0]

    async def count() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    async def request() -> int:
        await turnstile.pass_through()
        return turns[0]

    counting = asyncio.create_task(count())
    passed = await asyncio.gather(*(request() for _ in range(5)))
    counting.cancel()
    assert len(set(passed)) == 5
    assert passed == sorted(passed)


async def test_who_gives_up_waiting_keeps_nobody_else_back() -> None:
    turnstile = Turnstile()
    waiting = [asyncio.create_task(turnstile.pass_through()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    waiting[1].cancel()
    await waiting[2]
