"""What the process of a server is, whatever the plant."""

import platform
import subprocess
import sys

import pytest

HEAPS = """
import ctypes, sys, threading
from opcua_server import app

def heaps() -> int:
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
    libc.malloc_info(0, file)
    libc.fclose(file)
    return open(sys.argv[1]).read().count("<heap ")

before = heaps()
app._share_one_heap()
held, done = threading.Barrier(9), threading.Barrier(9)

def work() -> None:
    kept = bytearray(10_000)
    held.wait()
    done.wait()

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
held.wait()
print(heaps() - before)
done.wait()
for thread in threads: thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_threads_have_no_heaps_of_their_own(tmp_path) -> None:
    # F26: a reader's, a sealer's, a writer's would each stay as large as what it held once.
    command = [sys.executable, "-c", HEAPS, str(tmp_path / "malloc")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0"]
