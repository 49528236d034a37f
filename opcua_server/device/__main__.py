"""`python -m opcua_server.device`: one e-nose process."""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from config.schema import RegisterMap
from nodesets.errors import ConfigurationError
from opcua_server.device.replay import load_recording
from opcua_server.device.server import Unit, replayed, serve, simulated
from opcua_server.drivers.physics import find_scenario, load_scenario


def three(text: str) -> tuple[int, int, int]:
    """`5,10,5` -> rows of baseline, exposure and purge."""
    try:
        baseline, exposure, purge = (int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError("three whole numbers: BASELINE,EXPOSURE,PURGE") from error
    if min(baseline, exposure, purge) < 1:
        raise argparse.ArgumentTypeError("each phase lasts at least one row")
    return baseline, exposure, purge


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser("python -m opcua_server.device", description="An e-nose on Modbus TCP.")
    source = p.add_mutually_exclusive_group(required=True)
    source.add_argument("--physics", metavar="SCENARIO", help="scenario file, or the name of a shipped one")
    source.add_argument("--replay", metavar="CSV", type=Path, help="recording to play")
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--port", type=int, default=5020)
    p.add_argument("--units", type=int, default=1, help="unit ids 1..N, each an e-nose")
    p.add_argument("--period", type=float, default=1.0, help="seconds from one measurement or row to the next")
    p.add_argument("--speed", type=float, default=1.0, help="how many times faster than that to play")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--word-order", choices=("big", "little"), default="big")
    p.add_argument("--phases", type=three, metavar="B,E,P", help="replay: rows of baseline, exposure, purge")
    p.add_argument("--columns", default="", metavar="A,B,..", help="replay: columns that are the channels, in order")
    p.add_argument("--loop", action="store_true", help="replay: begin again after the last row")
    return p


def units(options: argparse.Namespace) -> list[Unit]:
    registers = RegisterMap(word_order=options.word_order)
    if options.replay is not None:
        recording = load_recording(options.replay, [c for c in options.columns.split(",") if c])
        return replayed(recording, units=options.units, phases=options.phases, loop=options.loop, registers=registers)
    scenario = load_scenario(find_scenario(options.physics))
    return simulated(scenario, units=options.units, seed=options.seed, period=options.period, registers=registers)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)

    def tell(port: int) -> None:
        print(f"e-nose: {options.units} unit(s) at {options.host}:{port}", flush=True)

    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(
                serve(
                    units(options),
                    host=options.host,
                    port=options.port,
                    step=options.period / options.speed,
                    listening=tell,
                )
            )
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
