"""The images and the compose file against the code: settings, commands, ports, what is copied, no secrets."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from service import commands
from service.settings import PREFIX, Settings

ROOT = Path(__file__).parents[1]
IMAGES = (ROOT / "Dockerfile", ROOT / "docker" / "cuda.Dockerfile")
BUILD_ONLY = {"GRAPHPASS_CUDA"}
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text("utf-8"))
OURS = {name: service for name, service in COMPOSE["services"].items() if service["image"] == "graphpass"}
each_image = pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)


def instructions(path: Path) -> list[tuple[str, str]]:
    """Instruction and argument of every instruction, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text("utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line.strip())]


def environment(path: Path) -> dict[str, str]:
    """What the image sets."""
    found = {}
    for word, rest in instructions(path):
        if word == "ENV":
            found |= dict(pair.split("=", 1) for pair in shlex.split(rest))
    return found


def parse(arguments: list[str]) -> None:
    """Parse a command of the service without running it. Raises the usage errors of the command line."""
    app = typer.Typer()
    commands.add(app)
    name, *rest = arguments
    found = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert name in found, f"no command {name}"
    found[name].make_context(name, rest)


def settings_in(text: str) -> set[str]:
    return set(re.findall(rf"\b{PREFIX}[A-Z_]+\b", text))


@pytest.mark.parametrize("path", [*IMAGES, ROOT / "docker" / "compose.yaml"], ids=lambda path: path.name)
def test_every_variable_is_a_setting(path: Path) -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert settings_in(path.read_text("utf-8")) - BUILD_ONLY <= known


@each_image
def test_values_of_variables_make_sense(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(path).items():
        if name.startswith(PREFIX):
            monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.host == "0.0.0.0"
    assert dict(instructions(path))["EXPOSE"] == str(settings.port)
    assert dict(instructions(path))["VOLUME"] == str(settings.data_dir)


@each_image
def test_it_ends_as_an_unprivileged_user_with_tagged_bases(path: Path) -> None:
    last = dict(instructions(path))
    assert last["USER"] == "10001:10001"
    assert last["ENTRYPOINT"] == '["graphpass"]'
    parse([yaml.safe_load(last["CMD"])[0]])
    bases = [rest.split()[0] for word, rest in instructions(path) if word == "FROM"]
    assert all(":" in base and not base.endswith(":latest") for base in bases)


@each_image
def test_what_is_copied_exists_and_is_not_ignored(path: Path) -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")]
    sources = [
        source
        for word, rest in instructions(path)
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert sorted(sources) == sorted(kept)
    assert all((ROOT / source).exists() for source in sources)


def test_compose_runs_commands_that_exist_on_ports_that_agree() -> None:
    port = environment(IMAGES[0])["GRAPHPASS_PORT"]
    for name, service in OURS.items():
        arguments = service.get("command", ["serve"])
        parse(arguments)
        if arguments[0] == "worker":
            metrics = arguments[arguments.index("--metrics-port") + 1]
            assert f":{metrics}/" in " ".join(service["healthcheck"]["test"]), name
    assert [mapping.rpartition(":")[2] for mapping in OURS["api"]["ports"]] == [port]
    store = COMPOSE["services"]["store"]["command"]
    assert OURS["api"]["environment"]["GRAPHPASS_STORE_ENDPOINT"].endswith(store[store.index("--port") + 1])


def test_executors_have_fixed_names_of_their_own_and_come_back() -> None:
    names = [service["environment"]["GRAPHPASS_EXECUTOR_ID"] for service in OURS.values()]
    assert names == list(OURS)
    assert all(service["restart"] == "unless-stopped" for service in COMPOSE["services"].values())
    assert len({service["volumes"][0] for service in OURS.values()}) == len(OURS)


def test_ours_may_do_no_more_than_they_need() -> None:
    for service in OURS.values():
        assert service["read_only"] and service["tmpfs"] == "/tmp" and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["mem_limit"] and service["pids_limit"]


def test_settings_of_compose_make_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in OURS.values():
        for name, value in service["environment"].items():
            monkeypatch.setenv(name, value)
        Settings()


def test_no_secret_is_in_the_compose_file() -> None:
    secrets = {
        name: value
        for service in COMPOSE["services"].values()
        for name, value in service["environment"].items()
        if re.search("PASSWORD|KEY", name)
    }
    assert secrets and all(re.fullmatch(r"\$\{\w+:\?.+\}", value) for value in secrets.values())
    wanted = {re.match(r"\$\{(\w+)", value)[1] for value in secrets.values()}  # type: ignore[index]
    made = set(re.findall(r'echo "(\w+)=', (ROOT / "docker" / "secrets").read_text("utf-8")))
    assert wanted == made


def test_the_images_that_are_made_for_the_run_in_podman_are_those_that_are_used() -> None:
    script = (ROOT / "scripts" / "container-test").read_text("utf-8")
    others = {service["image"] for name, service in COMPOSE["services"].items() if name not in OURS}
    assert others and all(re.search(rf"/{re.escape(image)}[\s;]", script) for image in others)
    (release,) = re.findall(r"^release=(\w+)", script, re.MULTILINE)
    assert ("ARG", f"PYTHON=3.13-slim-{release}") in instructions(IMAGES[0])
    assert "base=docker.io/library/python:3.13-slim-$release" in script
    for path in (ROOT / "tests" / "containers").glob("*.Dockerfile"):
        assert instructions(path)[0] == ("FROM", f"docker.io/library/python:3.13-slim-{release}")


def test_the_run_in_podman_takes_its_folder_from_tmpdir_and_says_what_failed() -> None:
    """The folder of TMPDIR is outside of the file system that is made, whose programs would look for it."""
    lines = (ROOT / "scripts" / "container-test").read_text("utf-8").splitlines()
    assert all("env --unset=TMPDIR chroot" in line for line in lines if re.search(r"\bchroot\b[^#]*\$", line))
    silent = [line for line in lines if "2>&1" in line and "|| true" not in line and "dpkg" not in line]
    assert len(silent) == 1 and "tail" in silent[0], silent  # `quietly`, which shows the output of what fails
