"""The peer of benchmarks/fanout.py: asyncua's server as shipped, with Doubles that change ten times a second."""

import argparse
import asyncio
import math
import time

from asyncua import Server, ua

PERIOD = 0.1


async def serve(port: int, items: int) -> None:
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace("urn:enose:benchmark")
    nodes = [
        await server.nodes.objects.add_variable(ua.NodeId(f"S{i:05d}.SensorValue", index), f"S{i:05d}", 0.0)
        for i in range(items)
    ]
    async with server:
        print(f"opc.tcp://127.0.0.1:{port}", flush=True)
        start = time.monotonic()
        while True:
            now = time.monotonic() - start
            for i, node in enumerate(nodes):
                await server.write_attribute_value(node.nodeid, ua.DataValue(ua.Variant(math.sin(now + i))))
            await asyncio.sleep(max(0.0, PERIOD - (time.monotonic() - start - now)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("items", type=int)
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.port, arguments.items))
