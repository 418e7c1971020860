"""Settings: where they come from, what is wrong with a bad one, and that the documentation has them all."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.errors import SettingsError
from service.settings import Quota, Settings, load_settings, table, unknown_variables

ROOT = Path(__file__).parents[2]
NOW = datetime.now(UTC)


def test_the_documentation_has_exactly_this_table() -> None:
    page = (ROOT / "docs" / "service.md").read_text("utf-8")
    begin, end = "<!-- settings:begin -->\n", "<!-- settings:end -->"
    assert page.partition(begin)[2].partition(end)[0] == table(), "write what `python -m service.settings` prints"


def test_the_table_is_what_the_module_prints() -> None:
    done = subprocess.run([sys.executable, "-m", "service.settings"], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.returncode) == (table(), 0), done.stderr


def test_every_bound_is_in_the_table_of_bounds() -> None:
    page = (ROOT / "docs" / "service.md").read_text("utf-8")
    bounds = page.partition("\n## Bounds\n")[2].partition("\n## ")[0]
    others = {"port", "workers", "upload_ttl_hours", "unfinished_ttl_hours", "result_ttl_hours"}
    others |= {"garbage_grace_minutes", "job_threads", "shard_samples"}
    numbers = {name for name in Settings.model_fields if isinstance(getattr(load_settings(), name), int | float)}
    assert others < numbers
    assert {name for name in numbers - others if f"`GRAPHPASS_{name.upper()}`" not in bounds} == set()


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert len(table().splitlines()) == len(Settings.model_fields) + 2


def test_settings_come_from_the_environment_and_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "GRAPHPASS_DATABASE_URL": "postgres://me@host/db",
        "GRAPHPASS_STORE_URL": "s3://bucket/prefix/",
        "GRAPHPASS_MAX_UPLOAD_BYTES": "1.5 GiB",
        "GRAPHPASS_QUOTA_BYTES": "1000",
        "GRAPHPASS_QUEUES": "gpu, shards",
        "GRAPHPASS_PORT": "9000",
        "GRAPHPASS_LOG_LEVEL": "WARNING",
        "GRAPHPASS_HOST": "",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(port=None, host=None, data_dir="relative")
    assert settings.database_url == "postgresql://me@host/db" and settings.store_url == "s3://bucket/prefix"
    assert settings.max_upload_bytes == 3 * 2**29 and settings.quota == Quota(1000, 100, 4, 10_000)
    assert settings.queues == ("gpu", "shards") and settings.log_level == "warning"
    assert (settings.host, settings.port) == ("127.0.0.1", 9000)
    assert settings.data_dir == Path.cwd() / "relative"
    assert load_settings(port=1, queues=()).port == 1
    monkeypatch.setenv("GRAPHPASS_QUEUES", "none")
    assert load_settings().queues == ()


def test_the_data_folder_is_where_such_things_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert load_settings().data_dir == Path("/home/me/.local/share/graphpass")
    monkeypatch.setenv("XDG_DATA_HOME", "/elsewhere")
    assert load_settings().data_dir == Path("/elsewhere/graphpass")
    assert load_settings(data_dir="~/x").data_dir == Path("/home/me/x")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "tcp://10.0.0.1:80"),
        ("PORT", "65536"),
        ("QUEUES", "convert,slow"),
        ("MAX_UPLOAD_BYTES", "2 pounds"),
        ("MAX_UPLOAD_BYTES", "0"),
        ("QUOTA_BYTES", "-1"),
        ("STORE_URL", "gs://bucket"),
        ("STORE_ENDPOINT", "minio:9000"),
        ("UPLOAD_TTL_HOURS", "nan"),
        ("UPLOAD_TTL_HOURS", "1e9"),
        ("UNFINISHED_TTL_HOURS", "0"),
        ("GARBAGE_GRACE_MINUTES", "0"),
        ("EXECUTOR_ID", "two words"),
        ("LOG_LEVEL", "loud"),
        ("RATE_PER_MINUTE", "many"),
        ("JOB_MEMORY_BYTES", "1MiB"),
        ("JOB_SECONDS", "0"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("TRUSTED_PROXIES", "proxy.example"),
        ("HEADER_SECONDS", "0"),
        ("STALL_SECONDS", "inf"),
        ("CONNECTIONS", "-1"),
        ("QUOTA_RUNNING", "99999999999999999999"),
        ("JOB_SECONDS", "2147483648"),
        ("MAX_UPLOAD_BYTES", "1025PiB"),
        ("JOB_THREADS", "1000000"),
        ("PORT", "8_0"),
        ("PORT", " 80"),
        ("RATE_PER_MINUTE", "+5"),
        ("JOB_SECONDS", "\u0663"),
        ("JOB_THREADS", "1.0"),
        ("RESULT_TTL_HOURS", "1_0"),
        ("GARBAGE_GRACE_MINUTES", "\u0665"),
        ("QUOTA_BYTES", "\u0665 GiB"),
        ("MAX_UPLOAD_BYTES", " 5GiB"),
    ],
)
def test_a_bad_value_is_one_line_with_the_variable_and_its_meaning(monkeypatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"GRAPHPASS_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    message = str(caught.value)
    wrong = value.removeprefix("convert,")
    assert message.startswith(f"GRAPHPASS_{name}={wrong}: ") and "\n" not in message
    assert Settings.model_fields[name.lower()].description in caught.value.remedy
    assert ("enableServiceLinks" in message) == value.startswith("tcp://")


def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHPASS_DATABASE_URL", "mysql://me:secret@host/db")
    with pytest.raises(SettingsError, match=r"^GRAPHPASS_DATABASE_URL: is neither") as caught:
        load_settings()
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(load_settings(database_url="postgresql://me:secret@host/db"))


def test_several_bad_values_are_all_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHPASS_PORT", "x")
    monkeypatch.setenv("GRAPHPASS_RATE_PER_MINUTE", "x")
    with pytest.raises(SettingsError, match=r"^GRAPHPASS_PORT=x: .*; also wrong: GRAPHPASS_RATE_PER_MINUTE$"):
        load_settings()


def test_an_argument_that_is_no_setting_is_refused() -> None:
    with pytest.raises(SettingsError, match="GRAPHPASS_PROT is not a setting"):
        load_settings(prot=1)


def test_variables_that_are_no_settings_are_named() -> None:
    environment = {"GRAPHPASS_PROT": "1", "GRAPHPASS_XYZ": "1", "GRAPHPASS_PORT": "1", "GRAPHPASS_KEY": "k", "PATH": ""}
    assert unknown_variables(environment) == (
        "GRAPHPASS_PROT is not a setting; did you mean GRAPHPASS_PORT?",
        "GRAPHPASS_XYZ is not a setting",
    )


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        load_settings().port = 1


def test_lives_are_in_hours_and_zero_is_for_ever() -> None:
    settings = load_settings(upload_ttl_hours=2, unfinished_ttl_hours=0.5, result_ttl_hours=0)
    assert settings.upload_expiry(NOW) == NOW + timedelta(hours=2)
    assert settings.unfinished_expiry(NOW) == NOW + timedelta(minutes=30)
    assert settings.result_expiry(NOW) is None


def test_reading_settings_imports_no_database() -> None:
    source = "import sys, service.settings; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], cwd=ROOT, env={**os.environ}).returncode == 0
