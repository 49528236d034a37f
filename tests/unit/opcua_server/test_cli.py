import csv
import io
import json
import re

import pytest
from typer.testing import CliRunner

from config.load import DEMO, load
from historian import schema
from historian.alarms import Transition, save
from opcua_server import admin
from opcua_server.cli import app
from opcua_server.pki import make_folders
from opcua_server.plant.alarm_states import State
from opcua_server.plant.space import nodes, space
from opcua_server.security import TrustStore, load_identity
from tests.servers import free_port

runner = CliRunner()
PASSWORD = "Correct-Horse-7"


def enose(*arguments: str, given: str = "", code: int = 0) -> str:
    result = runner.invoke(app, list(arguments), input=given, env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return re.sub(r"\x1b\[[0-9;]*m", "", result.output)


@pytest.fixture
def data(tmp_path):
    return str(tmp_path / "data")


def test_the_tag_list_names_every_recorded_value_with_unit_and_range_and_needs_no_server():
    rows = list(csv.DictReader(io.StringIO(enose("tags"))))
    by_id = {r["node_id"]: r for r in rows}
    first = by_id["ns=3;s=EN01.Array.S01.SensorValue"]
    assert (first["data_type"], first["unit"], first["low"], first["high"]) == ("Double", "kΩ", "0.0", "500.0")
    assert first["historized"] == "True"
    known = {f"ns=3;s={node}" for node, _, _ in nodes(space(load(DEMO)).instances)}
    assert set(by_id) <= known
    assert len(rows) == len(by_id)


def test_csv_and_json_hold_the_same_tags():
    in_json = json.loads(enose("tags", "--format", "json"))
    in_csv = list(csv.DictReader(io.StringIO(enose("tags", "--format", "csv"))))
    assert [r["node_id"] for r in in_json] == [r["node_id"] for r in in_csv]


def test_a_wrong_plant_is_told_with_its_lines_by_every_command(tmp_path):
    plant = tmp_path / "plant.yaml"
    plant.write_text("devices:\n  - {id: EN01, channels: [{id: S01, unit: XX}], colour: red}\n")
    for command in (["tags"], ["check"], ["run"], ["users", "list"]):
        told = enose(*command, "--config", str(plant), "--data-dir", str(tmp_path / "d"), code=1)
        assert f"{plant}:2: devices[0].channels[0].unit" in told
        assert f"{plant}:2: devices[0].colour: unknown key" in told


def test_check_tells_everything_that_is_wrong_at_once(tmp_path, data):
    first, second = free_port(), free_port()  # where nobody listens
    plant = tmp_path / "plant.yaml"
    plant.write_text(DEMO.read_text().replace("5020", str(first)).replace("5021", str(second)))
    told = enose("check", "--config", str(plant), "--data-dir", data, code=1)
    assert "good   plant file" in told
    assert f"wrong  device EN01 at 127.0.0.1:{first}" in told
    assert f"wrong  device EN02 at 127.0.0.1:{second}" in told


def test_an_account_lives_and_is_closed_on_the_command_line(data):
    enose("users", "add", "anna", "--role", "QA", "--full-name", "Anna A.", "--data-dir", data, given=PASSWORD + "\n")
    assert "Anna A." in enose("users", "list", "--data-dir", data)
    again = enose("users", "add", "ANNA", "--role", "QA", "--data-dir", data, given=PASSWORD + "\n", code=1)
    assert "never given again" in again  # R22, R26
    enose("users", "reset", "anna", "--reason", "forgotten", "--data-dir", data, given="Another-Horse-8\n")
    assert "must change" in enose("users", "list", "--data-dir", data)
    enose("users", "disable", "anna", "--reason", "left", "--data-dir", data)
    assert "disabled" in enose("users", "list", "--data-dir", data)
    enose("audit", "verify", "--data-dir", data)


def test_an_account_whose_password_somebody_else_typed_must_change_it_first(data):
    # R25: whoever knows another's password could sign as that person.
    enose("users", "add", "anna", "--role", "QA", "--must-change", "--data-dir", data, given=PASSWORD + "\n")
    assert "must change" in enose("users", "list", "--data-dir", data)


def test_a_password_is_never_taken_from_the_arguments_nor_a_weak_one_from_anywhere(data):
    assert "No such option" in enose("users", "add", "x", "--role", "QA", "--password", "p", "--data-dir", data, code=2)
    enose("users", "add", "anna", "--role", "QA", "--data-dir", data, given="short\n", code=1)
    assert "anna" not in enose("users", "list", "--data-dir", data)


def test_a_rejected_certificate_is_accepted_by_the_beginning_of_its_thumbprint(tmp_path, data):
    make_folders(tmp_path / "data")
    client = load_identity(tmp_path / "client", "urn:client", ["localhost"])
    TrustStore(tmp_path / "data").reject(client.certificate)
    [listed] = TrustStore(tmp_path / "data").list_rejected()
    assert "rejected" in enose("trust", "list", "--data-dir", data)
    assert "urn:client" in enose("trust", "accept", listed.thumbprint[:12], "--data-dir", data)
    assert "trusted" in enose("trust", "list", "--data-dir", data)
    assert "0 rejected" in enose("trust", "accept", "feed", "--data-dir", data, code=1)


def test_a_product_is_learned_as_a_draft_with_the_rate_it_realised(data):
    lots = [x for n in range(10) for x in ("--lot", f"EN01.Stream01=coffee_a@{n}")]
    told = enose("learn", "COFFEE-A", *lots, "--data-dir", data)
    assert "40 good cycles of 10 lots" in told
    assert "draft COFFEE-A/1" in told
    assert "COFFEE-A/1" in enose("learn", "COFFEE-A", *lots, "--data-dir", data)  # the same cycles, the same draft
    enose("audit", "verify", "--data-dir", data)


@pytest.mark.parametrize(
    ("product", "lots", "why"),
    [
        ("TEA", ["EN01.Stream01=coffee_a"], "no product"),
        ("COFFEE-A", ["EN01.Stream01=coffee_a"], "lots"),
        ("COFFEE-A", ["EN09.Stream01=coffee_a"], "no stream"),
        ("COFFEE-A", ["NOBATCH"], "NOBATCH"),
        ("COFFEE-A", ["2026-01-01/2026-01-02"], "offset"),
        ("COFFEE-A", ["EN01.Stream01=/nowhere.csv"], "nowhere"),
    ],
)
def test_what_cannot_be_learned_says_why(data, product, lots, why):
    told = enose("learn", product, *[x for lot in lots for x in ("--lot", lot)], "--data-dir", data, code=1)
    assert why in told


def test_a_recording_is_the_one_in_this_folder_whichever_the_server_runs_in(data, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("opcua_server.commands.carry_out", lambda *given: asked.append(given[-1]) or [])
    monkeypatch.chdir(tmp_path)
    for name in ("good.csv", "own.yaml"):
        (tmp_path / name).touch()
    lots = ["EN01.Stream01=good.csv", "EN01.Stream01=own.yaml@2", "EN01.Stream01=coffee_a@1", "B1"]
    enose("learn", "COFFEE-A", *[x for lot in lots for x in ("--lot", lot)], "--data-dir", data)
    here = f"EN01.Stream01={tmp_path.resolve()}"
    assert asked[0]["lots"] == [f"{here}/good.csv", f"{here}/own.yaml@2", *lots[2:]]


def test_phases_that_are_no_numbers_are_a_mistake_not_a_traceback(data):
    assert "three whole numbers" in enose("learn", "TEA", "--lot", "B1", "--phases", "a,b", "--data-dir", data, code=2)


def test_a_data_folder_in_use_by_another_process_is_refused(tmp_path, data):
    with admin.data_folder(tmp_path / "data"):
        told = enose("users", "list", "--data-dir", data, code=1)
    assert "another process" in told


def test_verifying_nothing_is_not_a_pass(data):
    enose("audit", "verify", "--data-dir", data, code=2)


def test_the_version_is_told():
    assert enose("--version").startswith("enose 0.")


def test_a_recording_is_imported_under_its_own_name_and_exported_again(data, tmp_path):
    recording, out = tmp_path / "smell.csv", tmp_path / "out.csv"
    recording.write_text("NO2,CO\n1.5,2.5\n3.5,\n")
    given = ["--source", "Smell", "--start", "2026-01-01T00:00:00Z", "--data-dir", data]
    told = enose("import", str(recording), "--reason", "reference", *given)
    assert "2 lines, tags Import.Smell.NO2, Import.Smell.CO" in told
    assert "a reason is required" in enose("import", str(recording), "--reason", " ", *given, code=1)
    window = ["--from", "2026-01-01", "--to", "2026-01-02"]
    assert "4 values" in enose("export", str(out), "--tags", "Import.*", *window, "--data-dir", data)
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [(row["tag"], row["source_time"][17:19], row["status"], row["value"]) for row in rows] == [
        ("Import.Smell.CO", "00", "0x00000000", "2.5"),
        ("Import.Smell.CO", "01", "0x809B0000", "nan"),
        ("Import.Smell.NO2", "00", "0x00000000", "1.5"),
        ("Import.Smell.NO2", "01", "0x00000000", "3.5"),
    ]
    assert "File exists" in enose("export", str(out), "--tags", "Import.*", *window, "--data-dir", data, code=1)
    assert "no recorded tag" in enose("export", f"{out}.csv", "--tags", "X*", *window, "--data-dir", data, code=1)
    assert "'soon'" in enose("export", f"{out}.csv", "--tags", "*", "--from", "soon", "--to", "2027", code=2)
    assert "clean" in enose("audit", "verify", "--data-dir", data)


@pytest.mark.parametrize(
    ("storage", "told"),
    [
        ("{url: 'postgresql+psycopg://a:secret@h/d'}", "no password here"),
        ("{url: 'mysql://h/d'}", "is expected"),
        ("{password_file: a, password_env: B}", "either"),
    ],
)
def test_a_plant_file_names_its_database_without_the_password(tmp_path, storage, told):
    plant = tmp_path / "plant.yaml"
    plant.write_text(f"storage: {storage}\n{DEMO.read_text()}")
    answer = enose("tags", "--config", str(plant), code=1)
    assert told in answer
    assert "secret" not in answer


def test_a_password_others_can_read_is_not_used(tmp_path, data, monkeypatch):
    secret, plant = tmp_path / "secret", tmp_path / "plant.yaml"
    secret.write_text("hunter2\n")
    secret.chmod(0o644)
    storage = f"{{url: 'postgresql+psycopg://e@127.0.0.1:1/e', password_file: '{secret}'}}"
    plant.write_text(f"storage: {storage}\n{DEMO.read_text()}")
    answer = enose("users", "list", "--config", str(plant), "--data-dir", data, code=1)
    assert "chmod 600" in answer
    plant.write_text(plant.read_text().replace(f"password_file: '{secret}'", "password_env: NOT_SET"))
    assert "NOT_SET is not set" in enose("users", "list", "--config", str(plant), "--data-dir", data, code=1)
    monkeypatch.setenv("NOT_SET", "hunter2")
    answer = enose("users", "list", "--config", str(plant), "--data-dir", data, code=1)
    assert "onnection refused" in answer
    assert "hunter2" not in answer


def test_the_alarms_of_a_shift_are_reported_as_table_and_picture(data, tmp_path):
    assert "no database" in enose("alarms", "report", "--data-dir", data, code=1)
    enose("users", "list", "--data-dir", data)
    row = Transition(
        time=1_767_225_660 * 10**9, event_id=b"1", node="EN01.Alarms.FlowLow", source="EN01", kind="FlowLow", branch=0,
        state=State.UNACKED.value, level="Active", severity=700, retain=True, hidden=False, actor="", comment="",
        message="",
    )  # fmt: skip
    engine = schema.engine(f"sqlite:///{data}/enose.db")
    with engine.begin() as tx:
        save(tx, {}, [row])
    engine.dispose()
    picture = tmp_path / "shift.svg"
    shift = ("--from", "2026-01-01T00:00:00", "--hours", "8", "--picture", str(picture))
    table = list(csv.reader(io.StringIO(enose("alarms", "report", "--data-dir", data, *shift))))
    assert ["worst", "EN01.Alarms.FlowLow", "1", "", ""] in table
    assert picture.read_text().startswith("<svg")
