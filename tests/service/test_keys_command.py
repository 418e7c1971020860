"""`graphpass keys`, as people type it."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from graphpass.cli.app import main
from service.auth import authenticate
from service.settings import load_settings
from service.storage.metadata import opened


def graphpass(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str, int]:
    """Run a command; its standard output, standard error and status."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    captured = capsys.readouterr()
    return captured.out, captured.err, int(caught.value.code or 0)


def test_a_key_is_printed_alone_and_works_until_it_is_revoked(tmp_path: Path, capsys) -> None:
    data = ("--data", str(tmp_path))
    out, err, status = graphpass(capsys, "keys", "create", "acme", "--label", "ci", *data)
    assert (err, status) == ("", 0)
    text = out.removesuffix("\n")
    assert text.startswith("gp_") and len(text.split()) == 1
    with opened(load_settings(data_dir=tmp_path)) as metadata:
        key = authenticate(metadata, text)
        assert key.tenant == "acme"
        out, _, _ = graphpass(capsys, "keys", "list", *data)
        assert out.startswith(f"{key.id}  acme  ") and out.endswith("valid  ci\n") and text not in out
        assert graphpass(capsys, "keys", "revoke", key.id, *data) == (f"revoked {key.id} of acme\n", "", 0)
        assert authenticate(metadata, text) is None
    assert "  revoked 20" in graphpass(capsys, "keys", "list", *data)[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", "two words"), "'two words' is not the name of a tenant; use at most 100 letters"),
        (("revoke", "key_1"), "there is no 'key_1'"),
        (("create",), "Missing argument"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, capsys, arguments: tuple[str, ...], message: str) -> None:
    out, err, status = graphpass(capsys, "keys", *arguments, "--data", str(tmp_path))
    assert (out, status) == ("", 2) and err.startswith(f"graphpass: error: {message}") and err.count("\n") == 1


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    _, err, status = graphpass(capsys, "keys", "list", "--data", str(tmp_path / "file" / "data"))
    assert status == 2 and "GRAPHPASS_DATA_DIR" in err


def test_the_commands_of_the_documentation_work(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "service.md").read_text("utf-8")
    lines = [
        shlex.split(line, comments=True)[1:] for line in page.splitlines() if line.startswith("    graphpass keys")
    ]
    assert [line[1] for line in lines] == ["create", "create", "create", "list", "revoke"]
    monkeypatch.setenv("GRAPHPASS_DATA_DIR", str(tmp_path))
    key = ""
    for line in lines:
        out, err, status = graphpass(capsys, *(key if each == "key_01…" else each for each in line))
        assert (err, status) == ("", 0)
        key = out.split()[0] if out.startswith("key_01") else key


def test_without_the_extra_it_is_named(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "service.settings", raising=False)
    monkeypatch.setitem(sys.modules, "pydantic_settings", None)
    out, err, status = graphpass(capsys, "keys", "list", "--data", str(tmp_path))
    assert (out, status) == ("", 2)
    assert err == "graphpass: error: pydantic_settings is not installed; pip install 'graphpass[service]'\n"


def test_without_a_command_there_is_help(capsys) -> None:
    out, _, status = graphpass(capsys, "keys")
    assert status == 0 and all(name in out for name in ("create", "list", "revoke"))


def test_the_installed_command_has_keys_and_loads_nothing_for_them() -> None:
    source = (
        "import sys; from graphpass.cli.app import main\n"
        "try: main(['--version'])\nexcept SystemExit: pass\n"
        "sys.exit(bool({'sqlalchemy', 'pydantic_settings', 'service.settings'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", source], capture_output=True).returncode == 0
