"""For other benchmarks: a client that reads ServerStatus.State until its input ends, then prints its p99 wait, ms."""

import asyncio
import gc
import sys
import time

import numpy as np
from asyncua import Client, ua

STATE = ua.NodeId(ua.ObjectIds.Server_ServerStatus_State)
PAUSE = 0.05


async def probe(url: str) -> float:
    waits = list[float]()
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    async with Client(url) as client:
        state = client.get_node(STATE)
        print("ready", flush=True)
        gc.collect()
        gc.freeze()  # else the pauses of this process' collector are taken for the server's
        while not ended.done():
            begin = time.monotonic()
            await state.read_value()
            waits.append(1000 * (time.monotonic() - begin))
            await asyncio.sleep(PAUSE)
    return float(np.percentile(waits, 99))


if __name__ == "__main__":
    print(asyncio.run(probe(sys.argv[1])))
