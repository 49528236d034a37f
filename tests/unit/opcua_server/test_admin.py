import asyncio
import json
import socket
import stat

import pytest

from nodesets.errors import ConfigurationError, InvalidState
from opcua_server import admin


async def echo(user, command, arguments):
    if command == "fail":
        raise InvalidState("not now")
    return {"user": user, "command": command, **arguments}


async def test_a_command_is_answered_and_names_the_account_the_kernel_vouches_for(tmp_path):
    async with admin.listening(tmp_path, echo):
        answer = await asyncio.to_thread(admin.ask, tmp_path, "users.list", {"a": 1})
    assert answer["command"] == "users.list"
    assert answer["a"] == 1
    assert answer["user"].startswith("os:")


async def test_a_refusal_reaches_the_command_line_as_an_error(tmp_path):
    async with admin.listening(tmp_path, echo):
        with pytest.raises(admin.CommandFailed, match="not now"):
            await asyncio.to_thread(admin.ask, tmp_path, "fail", {})


async def test_a_defect_of_the_server_is_told_and_logged_not_swallowed(tmp_path, caplog):
    async def defect(*_):
        raise ValueError("all columns have one length, these had not")

    async with admin.listening(tmp_path, defect):
        with pytest.raises(admin.CommandFailed, match="ValueError in the server"):
            await asyncio.to_thread(admin.ask, tmp_path, "learn", {})
    assert "these had not" in caplog.text


async def test_nobody_else_can_open_the_door_and_it_is_gone_with_the_server(tmp_path):
    async with admin.listening(tmp_path, echo):
        assert stat.S_IMODE((tmp_path / admin.SOCKET).stat().st_mode) == 0o600
    with pytest.raises(ConnectionRefusedError):
        admin.ask(tmp_path, "users.list", {})


@pytest.mark.parametrize(
    "line", [b"\n", b"{}\n", b"not json\n", b"[1]\n", json.dumps({"command": "x"}).encode() + b"\n"]
)
async def test_a_line_that_is_no_command_closes_the_connection_and_not_the_server(tmp_path, line):
    async with admin.listening(tmp_path, echo):

        def probe() -> bytes:
            with socket.socket(socket.AF_UNIX) as door:
                door.connect(str(tmp_path / admin.SOCKET))
                door.sendall(line)
                return door.recv(100)

        assert await asyncio.to_thread(probe) == b""
        assert await asyncio.to_thread(admin.ask, tmp_path, "ok", {})


def test_a_data_folder_belongs_to_one_process(tmp_path):
    # One writer: a second server on the same folder would fork the audit log.
    with admin.data_folder(tmp_path / "data"):
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
        with pytest.raises(ConfigurationError, match="another process"), admin.data_folder(tmp_path / "data"):
            pass
    with admin.data_folder(tmp_path / "data"):
        pass
