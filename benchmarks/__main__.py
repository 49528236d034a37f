"""Run every benchmark, one after the other, each in a process of its own."""

import subprocess
import sys

NAMES = ("line_scale", "address_space", "fanout", "historian", "history_service", "trends", "alarms")

if __name__ == "__main__":
    sys.exit(max(subprocess.call([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]]) for name in NAMES))
