"""Who may do what in one database: teams by schema, a role that only reads, and passwords that are nowhere on record."""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from places import Place

from workbench import process
from workbench.errors import EnvironmentFault, UsageError
from workbench.ledger import Ledger, shown
from workbench.study import load

SECRET = "s3cr3t-w0rd"


def told(server, *statements):
    connection = psycopg2.connect(host="127.0.0.1", port=server.port, user="tuner", dbname="postgres")
    connection.autocommit = True
    with closing(connection), connection.cursor() as cursor:
        for each in statements:
            cursor.execute(each)
        return cursor.fetchall() if cursor.description else []


ROOM = Path(__file__).parents[1] / "workbench" / "cli" / "README.md"
TEAM = re.search(r"```sql\n(.*?)```", ROOM.read_text(encoding="utf-8"), re.S)[1]
"""What people are told to do for a team."""


def url(server, role, schema):
    return f"postgresql+psycopg2://{role}:{SECRET}@127.0.0.1:{server.port}/postgres?options=-csearch_path%3D{schema}"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_teams_readers_and_passwords(tmp_path, tiny, postgresql, command):
    for team in ("team_a", "team_b"):
        told(postgresql, TEAM.replace("team_a", team))
    place = Place(tmp_path, tiny, train=64, epochs=1)
    place.finish("--storage", url(postgresql, "team_a", "team_a"), "--trials", "1", "--no-progress")

    # A password is in no file that the sweep has left, nor in what it said, nor in the ledger itself.
    assert SECRET not in place.said
    for path in [p for p in tmp_path.rglob("*") if p.is_file()]:
        assert SECRET.encode() not in path.read_bytes(), path
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as notebook:
        told_there = [value for (value,) in notebook.execute("SELECT value FROM tags UNION SELECT value FROM params")]
    assert any("team_a:***@127.0.0.1" in value for value in told_there)  # the command is there, without it
    tables = ("trial_user_attributes", "trial_system_attributes", "study_user_attributes", "study_system_attributes")
    for table in tables:
        assert not told(postgresql, f"SELECT 1 FROM team_a.{table} WHERE value_json LIKE '%{SECRET}%'")

    # The other team sees nothing of it, and may not look.
    other = url(postgresql, "team_b", "team_b")
    assert Ledger.open(load(place.file), other).results() == []
    with pytest.raises(EnvironmentFault, match=r"permission denied|does not exist"):
        Ledger.find(None, url(postgresql, "team_b", "team_a"))

    # A reader reads, and is told that it may not write.
    reader = url(postgresql, "team_a_reader", "team_a")
    for words in (("front", "--json"), ("status", "--json"), ("runs", "--json"), ("doctor",)):
        code, out, err = command(*words, "--storage", reader)
        assert code == 0, err
        assert SECRET not in out + err
    assert len(json.loads(command("runs", "--json", "--storage", reader)[1])) == 1
    code, out, err = command("sweep", "tiny.py", "--trials", "2", "--storage", reader)
    assert code == 4, err
    assert "Its role may only read" in err
    assert SECRET not in out + err
    results = [Ledger.find(None, url(postgresql, role, "team_a")).results() for role in ("team_a_reader", "team_a")]
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "address, said",
    [
        ("postgresql+psycopg2://me:a@b:c@host/name", "postgresql+psycopg2://me:***@host/name"),
        (
            "postgresql://host/name?user=me&password=secret&sslmode=require",
            "postgresql://host/name?user=me&password=***&sslmode=require",
        ),
        ("https://me:secret@host:5000", "https://me:***@host:5000"),
        ("s3://bucket/states?secret_key=secret", "s3://bucket/states?secret_key=***"),
        ("postgresql://me@host/name", "postgresql://me@host/name"),
        ("sqlite:///a:b@c.db", "sqlite:///a:b@c.db"),
    ],
)
def test_an_address_is_shown_without_what_is_secret(address, said, monkeypatch):
    assert process.without_secrets(address) == said
    monkeypatch.setattr("sys.argv", ["workbench", "sweep", "qa.py", "--storage", address])
    assert "secret" not in process.command_line().replace("secret_key", "")


def test_an_address_that_cannot_be_read_is_told_without_its_password(command):
    for address in ("postgresql+psycopg2//me:secret@host/name", "postgresql+psycopg2://me:secret@host:port/name"):
        code, out, err = command("status", "--storage", address)
        assert code
        assert "secret" not in out + err
    assert "secret" not in shown("postgresql+psycopg2://me:secret@host:port/name")
    with pytest.raises(UsageError) as caught:
        Ledger.names("postgresql+psycopg2://me:secret@host:port/name")
    assert "secret" not in str(caught.value)
