"""The command line as a user types it: exit status, one-line errors, files written, every command once."""

import json
import sys
import tarfile
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import onnx
import pytest
import typer

from graphpass.cli.app import app, main
from graphpass.graph.model import read
from graphpass.runtime.session import available_providers
from tests.models import build, node, run
from tests.sources import save_image
from tests.test_conversion import data, network


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "ann.onnx")
    np.savez("data.npz", **data(12))
    return tmp_path


def status(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def convert(*more: str) -> int:
    return status("convert", "ann.onnx", "snn.onnx", "--calibration", "data.npz", "--time-steps", "4", *more)


def test_convert_evaluate_verify_inline(folder, capsys):
    assert convert("--plan-out", "plan.json") == 0
    assert (
        status("evaluate", "ann.onnx", "snn.onnx", "--data", "data.npz", "--json", "e.json", "--report", "r.html") == 0
    )
    found = json.loads(Path("e.json").read_text())
    assert (found["samples"], found["time_steps"], found["levels"]) == (12, 4, 5)
    assert Path("r.html").stat().st_size > 1_000_000
    assert status("verify", "snn.onnx", "--data", "data.npz") == 0
    assert "the forms agree" in capsys.readouterr().out
    assert status("inline", "snn.onnx", "plain.onnx") == 0
    assert not read(Path("plain.onnx")).functions
    assert status("convert", "ann.onnx", "again.onnx", "--plan", "plan.json") == 0
    assert Path("again.onnx").read_bytes() == Path("snn.onnx").read_bytes()


def test_images_in_one_file_prepared_by_name_or_by_configuration(folder, capsys):
    nodes = [
        node("Conv", "x w", "c", "conv"), node("Relu", "c", "r", "relu"), node("GlobalAveragePool", "r", "p", "pool"),
        node("Flatten", "p", "f", "flat"), node("Gemm", "f v", "y", "fc"),
    ]  # fmt: skip
    weights = {"w": np.ones((4, 3, 3, 3), np.float32), "v": np.eye(4, 5, dtype=np.float32)}
    onnx.save(build(nodes, {"x": ["N", 3, 8, 8]}, {"y": ["N", 5]}, weights), "ann.onnx")
    with tarfile.open("images.tar", "w") as tar:
        for number in range(4):
            tar.add(save_image(folder / f"{number}.png", np.full((20, 30, 3), 60 * number, np.uint8)), f"{number}.png")
    config = {"size": {"height": 8, "width": 8}, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    Path("p.json").write_text(json.dumps(config))
    digests = set()
    for more in ((), ("--preset", "imagenet"), ("--preprocess", "p.json"), ("--mean", "0.5", "--std", "0.5")):
        options = ("--calibration", "images.tar", "--method", "max", "--plan-out", "plan.json", *more)
        assert status("convert", "ann.onnx", "snn.onnx", *options) == 0
        digests.add(json.loads(Path("plan.json").read_text())["data_sha256"])
    assert len(digests) == 4
    for more, words in (
        (("--preset", "imagenet", "--mean", "0.5"), "--mean and --preset exclude each other"),
        (("--preprocess", "p.json", "--image-size", "8"), "--image-size and --preprocess exclude each other"),
        (("--preset", "cifar"), "--preset is 'cifar'"),
        (("--preprocess", "none.json"), "none.json: cannot be read as a preprocessor_config.json"),
    ):
        assert status("convert", "ann.onnx", "snn.onnx", "--calibration", "images.tar", *more) == 2
        assert words in capsys.readouterr().err.replace("\n", " ")
    assert convert("--preset", "imagenet") == 2  # arrays are taken as they are
    assert "--preset has no effect" in capsys.readouterr().err


def test_a_search_prints_what_evaluate_prints(folder, capsys):
    assert convert("--evaluation", "data.npz", "--max-drop", "1000", "--coding", "rate", "--json", "s.json") == 0
    printed = capsys.readouterr().out
    energy = json.loads(Path("s.json").read_text())["evaluation"]["energy"]
    for words in ("trials", "firing rate", "energy with memory traffic, model lemaire22", energy["verdict"]):
        assert words in printed


def test_inspect_of_a_network_without_layers_says_so(folder, capsys):
    onnx.save(build([node("Relu", "x", "y")], {"x": ["N", 4]}, {"y": ["N", 4]}, {}), "plain.onnx")
    assert status("inspect", "plain.onnx") == 0
    found = capsys.readouterr().out
    assert "no sites, nothing to convert: the network has no weight layer" in found and "feeds" not in found


@pytest.mark.parametrize("group", [(), ("plot",), ("keys",)], ids=" ".join)
def test_a_group_without_a_command_lists_its_commands(group, capsys):
    assert status(*group) == 0
    assert "\nCommands:\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "help_of"),
    [
        ("nothing", "graphpass"),
        ("--nothing", "graphpass"),
        ("convert", "graphpass convert"),
        ("convert ann.onnx snn.onnx --nothing", "graphpass convert"),
        ("plot nothing", "graphpass plot"),
        ("plot thresholds snn.onnx", "graphpass plot thresholds"),
        ("keys revoke", "graphpass keys revoke"),
    ],
)
def test_an_error_of_use_names_the_help_of_its_command(arguments, help_of, capsys):
    assert status(*arguments.split()) == 2
    assert capsys.readouterr().err.endswith(f"; see `{help_of} --help`\n")


def test_inspect_ranks_sites(folder, capsys):
    more = ("--calibration", "data.npz", "--time-steps", "2", "--method", "max")
    assert status("inspect", "ann.onnx", *more, "--json") == 0
    ranking = json.loads(capsys.readouterr().out)["ranking"]
    assert status("inspect", "ann.onnx", *more) == 0
    found = capsys.readouterr().out
    assert f"error of the outputs {ranking['error']:.3g} with all sites: T = 2" in found.replace("\n", " ")
    options = found.partition("leave the worst analogue with ")[2].split()
    assert options[::2] == ["--exclude"] * len(ranking["exclude"]) and len(ranking["exclude"]) > 0


def test_sweep_writes_rows(folder):
    assert status(
        "sweep", "ann.onnx", "--calibration", "data.npz", "--data", "data.npz", "--time-steps", "1,4",
        "--coding", "rate,phase", "--method", "optimal,max", "--json", "s.json", "--report", "s.html",
    ) == 0  # fmt: skip
    assert Path("s.html").exists()
    rows = json.loads(Path("s.json").read_text())
    rows = rows["rows"] if isinstance(rows, dict) else rows
    assert len(rows) == 8


def test_own_metrics_and_metrics_by_name(folder, capsys):
    assert convert() == 0
    Path("mine.py").write_text(
        "def top(outputs, labels, reference):\n    return {'top': outputs['y'].reshape(12, -1).max(1)}\n"
    )
    metrics = ("--metric", "mine.py:top", "--metric", "regression:output=y")
    (targets,) = run(network(), data(12)["x"])
    np.savez("targets.npz", **data(12), labels=targets)
    assert status("evaluate", "ann.onnx", "snn.onnx", "--data", "targets.npz", *metrics, "--json", "e.json") == 0
    found = {each["name"]: each for each in json.loads(Path("e.json").read_text())["metrics"]}
    # the targets were made without graph optimisations: another order of float32 sums
    assert found["mean_absolute_error"]["ann"] < 1e-5 < found["mean_absolute_error"]["snn"]
    assert found["top"]["metric"] == "mine.py:top"
    assert "top (mine.py:top)" in capsys.readouterr().out
    calibration = ("--calibration", "data.npz", "--data", "targets.npz", "--time-steps", "2")
    assert status("sweep", "ann.onnx", *calibration, *metrics, "--json", "s.json") == 0
    assert json.loads(Path("s.json").read_text())[0]["evaluation"]["metrics"][0]["name"] == "top"
    again = ("convert", "ann.onnx", "snn.onnx", "--calibration", "data.npz", *metrics)
    assert status(*again, "--evaluation", "targets.npz", "--json", "c.json") == 0
    assert {each["name"] for each in json.loads(Path("c.json").read_text())["metrics"]} == set(found)
    assert status(*again) == 2
    assert "--metric needs --evaluation" in capsys.readouterr().err
    Path("snn.onnx").unlink()
    assert status(*again[:-4], "--evaluation", "targets.npz", "--metric", "bleu") == 2
    assert not Path("snn.onnx").exists()  # refused before the work
    assert status("evaluate", "ann.onnx", "snn.onnx", "--data", "data.npz", "--metric", "bleu") == 2
    server = ("--server", "http://127.0.0.1:1")
    assert status("evaluate", "ann.onnx", "snn.onnx", "--data", "data.npz", "--metric", "mine.py:top", *server) == 2
    assert "a service does not run your functions" in capsys.readouterr().err


def test_inspect_prints_json(folder, capsys):
    assert status("inspect", "ann.onnx", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [site["name"] for site in found["sites"]] == ["relu1"]
    assert [entry["node"] for entry in found["left"]] == ["conv1"]


def test_an_interrupt_is_one_line(folder, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("graphpass.api.inspect", interrupted)
    assert status("inspect", "ann.onnx") == 130
    assert capsys.readouterr().err == "graphpass: error: interrupted\n"


def test_doctor_and_version(capsys):
    assert status("doctor") == 0
    assert status("--version") == 0
    assert status() == 0
    printed = capsys.readouterr().out
    assert "onnxruntime" in printed
    assert "sweep" in printed
    assert "CUDAExecutionProvider" in printed or "[gpu]" in printed  # the extra is no markup


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("inspect", "nothing.onnx"), "nothing.onnx: no such file"),
        (("inspect", "."), ".: is a folder"),
        (("convert", "ann.onnx", "out.onnx"), "--calibration"),
        (("convert", ".", "out.onnx", "--calibration", "data.npz"), ".: is a folder; give the path of an ONNX model"),
        (("convert", "ann.onnx", "out.onnx", "--plan", "."), ".: cannot be read (Is a directory); give the plan"),
        (
            ("convert", "ann.onnx", "out.onnx", "--calibration", "data.npz", "--threads", "1000000"),
            "--threads is 1000000; give a whole number of 0 to",
        ),
        (("convert", "ann.onnx", "out.onnx", "--calibration", "nothing.npz"), "nothing.npz"),
        (("convert", "ann.onnx", "no/out.onnx", "--calibration", "data.npz"), "no: no such folder"),
        (("convert", "ann.onnx", "out.onnx", "--calibration", "data.npz", "--exclude", "("), "regular expression"),
        (("convert", "ann.onnx", "out.onnx", "--calibration", "data.npz", "--memory-budget", "much"), "give a size"),
        (("convert", "ann.onnx", "out.onnx", "--plan", "p.json", "--calibration", "data.npz"), "exclude each other"),
        (
            ("sweep", "ann.onnx", "--calibration", "data.npz", "--data", "data.npz", "--time-steps", "x"),
            "whole number of 1 or more; several with commas",
        ),
        (("evaluate", "ann.onnx", "ann.onnx", "--data", "data.npz"), "error: ann.onnx: not a converted network"),
        (("verify", "ann.onnx", "--data", "data.npz"), "error: ann.onnx: the model has no spiking neurons"),
        (
            ("verify", "ann.onnx", "--data", "data.npz", "--reference", "ann.onnx"),
            "error: ann.onnx: not a converted network",
        ),
        (("card", "ann.onnx", "card.md"), "error: ann.onnx: not a converted network"),
        (tuple("convert ann.onnx o --calibration data.npz --levels auto --energy 0".split()), "energy budget of 0"),
        (tuple("convert ann.onnx o --calibration data.npz --levels auto --mean-levels 0".split()), "a mean of 0.0"),
        (tuple("convert ann.onnx o --calibration data.npz --energy 0".split()), "--energy needs --levels"),
        (
            tuple("convert ann.onnx o --calibration data.npz --evaluation data.npz --max-drop 0".split()),
            "--max-drop is 0.0; give a number above 0",
        ),
        (("inspect", "ann.onnx", "--seed", "0"), "--seed needs --calibration"),
        (("inspect", "ann.onnx", "--threads", "0"), "--threads needs --calibration"),
        (("inspect", "ann.onnx", "--server", "http://127.0.0.1:9"), "--server needs --calibration: it is for ranking"),
        (("inspect", "ann.onnx", "--key", "gp_key"), "--key needs --server"),
        (
            ("evaluate", "ann.onnx", "ann.onnx", "--data", "data.npz", "--provider", "cuda:speed=9"),
            "--provider is 'cuda:speed=9'; give cpu, cuda, or cuda with options as in cuda:device_id=1,use_tf32=1 (",
        ),
        (
            tuple("convert ann.onnx o.onnx --calibration data.npz --form integer --precision float16".split()),
            "--precision float16 and --form integer exclude each other: its counts and weights have 8 bits",
        ),
        (
            tuple("convert ann.onnx o.onnx --calibration data.npz --precision float8".split()),
            "unknown precision 'float8'",
        ),
        (
            tuple("convert ann.onnx o.onnx --calibration data.npz --target tensorrt".split()),
            "--target needs --form integer: the other forms are the same for every runtime; give --form integer, or",
        ),
        (
            tuple("convert ann.onnx o.onnx --calibration data.npz --form integer --target openvino".split()),
            "unknown target 'openvino'",
        ),
        (
            tuple("evaluate a b --data d --server http://127.0.0.1:9 --provider cuda:device_id=1".split()),
            "--provider cuda:device_id=1: the service decides that by itself; give cpu, cuda, or cuda:use_tf32=1",
        ),
        (("convert", "ann.onnx", "out.onnx", "--nonsense"), "--nonsense"),
        (("convert",), "ANN.onnx"),
        (("nonsense",), "nonsense"),
    ],
)
def test_errors_are_one_line_with_status_2(folder, capsys, arguments, what):
    assert status(*arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("graphpass: error: ")
    assert printed.count("\n") == 1
    assert what in printed


def numbers_typed() -> list[tuple[str, ...]]:
    """Every option of every command that is a number, with the words of its command."""
    for command in entry_points(group="graphpass.commands"):
        command.load()(app)

    def walk(words: tuple[str, ...], command: Any) -> list[tuple[str, ...]]:
        if hasattr(command, "commands"):
            return [found for name, each in command.commands.items() for found in walk((*words, name), each)]
        hints = get_type_hints(command.callback)
        return [
            (*words, each.opts[0])
            for each in command.params
            if {int, float} & {hints.get(each.name), *get_args(hints.get(each.name))}
        ]

    return walk((), typer.main.get_command(app))


def test_numbers_are_digits_alone_on_the_command_line(capsys):
    found = numbers_typed()
    assert {("convert", "--time-steps"), ("convert", "--energy"), ("plot", "raster", "--sample")} <= set(found)
    assert {("serve", "--port"), ("worker", "--metrics-port")} <= set(found)
    for words in found:
        for text in ("1_0", " 1", "+5", "\u0665", "1e", "nan", "inf", "1e999", "0x1", ""):
            assert status(*words, text) == 2
            printed = capsys.readouterr().err
            assert f"{words[-1]}: {text!r} is not a " in printed, (words, printed)
            assert "; give a " in printed
    for port in ("65536", "-1"):
        assert status("serve", "--port", port) == status("worker", "--metrics-port", port) == 2
        assert capsys.readouterr().err.count(f"port: {port} is no port; give a whole number of 0 to 65535") == 2


@pytest.mark.parametrize("wrong", ["1_0", "1,+5", "1,\u0665", "1,,2", "0x1", ""])
def test_numbers_in_lists_are_digits_alone(folder, capsys, wrong):
    assert status("sweep", "ann.onnx", "--calibration", "data.npz", "--data", "data.npz", "--time-steps", wrong) == 2
    assert "--time-steps: '" in (printed := capsys.readouterr().err) and "is not a whole number" in printed
    for option in ("--mean", "--std"):
        assert convert(option, wrong) == 2
        assert f"{option}: '" in (printed := capsys.readouterr().err) and "is not a number" in printed


@pytest.mark.parametrize("form", ["folded", "unrolled"])
def test_float16(folder, capsys, form):
    assert convert("--precision", "float16", "--form", form) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"form {form} in float16; spikes reach" in printed
    assert f"the {form} form in float16 differs from the folded form by" in printed
    assert status("verify", "snn.onnx", "--data", "data.npz") == 0
    assert "the forms agree" in capsys.readouterr().out
    assert status("evaluate", "ann.onnx", "snn.onnx", "--data", "data.npz", "--json", "e.json") == 0
    found = json.loads(Path("e.json").read_text())
    assert (found["form"], found["precision"]) == (form, "float16")


def test_a_target(folder, capsys):
    assert convert("--plan-out", "p.json") == 0
    assert status("convert", "ann.onnx", "i.onnx", *"--plan p.json --form integer --target tensorrt".split()) == 0
    assert "form integer for tensorrt; spikes reach" in " ".join(capsys.readouterr().out.split())
    assert status("verify", "i.onnx", "--reference", "snn.onnx", "--data", "data.npz") == 0
    assert status("evaluate", "ann.onnx", "i.onnx", "--data", "data.npz", "--json", "e.json", "--report", "e.html") == 0
    assert "integer form for tensorrt" in Path("e.html").read_text("utf-8")
    assert json.loads(Path("e.json").read_text())["form"] == "integer"


def test_where_an_evaluation_runs(folder, capsys):
    if "CUDAExecutionProvider" in available_providers():
        pytest.skip("this onnxruntime has CUDA")
    assert convert("--method", "max") == 0
    assert status("evaluate", "ann.onnx", "snn.onnx", "--data", "data.npz", "--provider", "cpu") == 0
    assert status("evaluate", "ann.onnx", "snn.onnx", "--data", "data.npz", "--provider", "cuda:use_tf32=1") == 2
    assert "provider: CUDAExecutionProvider is not in this onnxruntime" in capsys.readouterr().err


def test_data_from_a_function(folder):
    Path("feed.py").write_text(
        "import numpy as np\ndef batches():\n    yield {'x': np.random.rand(8, 2, 6, 6).astype('float32')}\n"
    )
    assert status("convert", "ann.onnx", "snn.onnx", "--calibration", "feed.py:batches") == 0


def test_help_needs_no_runtime(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert status("convert", "--help") == 0
    assert "--identity-sites" in capsys.readouterr().out


def test_every_command_names_nodes_in_training_mode(folder, capsys):
    """inspect, convert and evaluate name the node whose results differ from run to run."""
    constants = {"w": np.eye(4, dtype=np.float32), "half": np.float32(0.5), "true": np.array(True)}
    nodes = [
        node("MatMul", "x w", "c", "one"), node("Relu", "c", "r", "act"), node("Dropout", "r half true", "d", "drop"),
        node("MatMul", "d w", "y", "two"),
    ]  # fmt: skip
    onnx.save(build(nodes, {"x": ["N", 4]}, {"y": ["N", 4]}, constants), "training.onnx")
    np.savez("x.npz", x=np.ones((8, 4), np.float32))
    reason = "training mode"
    assert status("inspect", "training.onnx") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "drop" in text and reason in text and "where a rule almost applied" in text
    assert status("convert", "training.onnx", "snn.onnx", "--calibration", "x.npz", "--allow-partial") == 0
    converted = capsys.readouterr()
    assert "node 'drop' (Dropout) is in training mode" in converted.err and reason in " ".join(converted.out.split())
    assert status("evaluate", "training.onnx", "snn.onnx", "--data", "x.npz", "--json", "e.json") == 0
    assert "note: node 'drop' (Dropout) is in training mode" in capsys.readouterr().out
    assert any("'drop' (Dropout)" in note for note in json.loads(Path("e.json").read_text())["notes"])
