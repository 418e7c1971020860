"""The zoo's tasks on outputs made by hand, its results as JSON, its page, and its table."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

from benchmarks.assets import ASSETS
from benchmarks.zoo import lines, page, reviews, sounds, tasks, texts
from benchmarks.zoo.__main__ import RESULTS, failures
from benchmarks.zoo.entry import (
    SETTINGS,
    Covered,
    Entry,
    FormTimes,
    Reason,
    Result,
    Samples,
    SettingResult,
    Variant,
    Verified,
    load_result,
)
from benchmarks.zoo.files import File, load_files, save
from benchmarks.zoo.measure import measured
from benchmarks.zoo.members import MEMBERS
from graphpass.errors import DataError
from graphpass.evaluation.metrics.score import Sampled
from tests.models import build, node

COVERED = Covered(3, 4, 2e6, 0.5, (Reason("a gate", 2, 0.0), Reason("the network's own input", 1, 0.25)))
ROWS = tuple(SettingResult(coding, steps, 16, 90.0, 80.0, 0.99, 0.9, 0.125, 0.5, 0.25) for coding, steps in SETTINGS)
TIMES = FormTimes(1, 2, 10.0, 12.5, None, "no integer form", "Machine: one")
VARIANT = Variant(COVERED, Verified(True, 4, 1000, 1), ROWS, TIMES)
RESULT = Result("resnet20", "2026-01-02", 256, 2000, 91.0, "", {"": VARIANT})


@pytest.mark.parametrize("name", MEMBERS)
def test_members_name_assets_and_say_what_they_show(name):
    entry = MEMBERS[name]
    assert set(entry.assets) <= set(ASSETS) and entry.what and entry.shows
    assert len(entry.loses) == len(entry.variants) and min(entry.loses) > 0


def test_results_survive_their_file(tmp_path):
    RESULT.save(tmp_path)
    assert load_result(tmp_path, "resnet20") == RESULT
    assert load_result(tmp_path, "magika") is None


def test_files_survive_their_file(tmp_path):
    found = [File("a", "3", "3", "forms agree, 0 flips", ""), File("b", "", "", "", "has an LSTM")]
    save(tmp_path, found)
    assert load_files(tmp_path)[1] == found


def test_failures_are_losses_and_forms_that_disagree():
    entry = replace(MEMBERS["resnet20"], loses=(1.5,))
    assert failures(entry, RESULT) == []
    assert "loses 1.60" in failures(entry, replace(RESULT, ann=91.6))[0]
    wrong = replace(VARIANT, verified=Verified(False, 4, 1000, 1))
    assert failures(entry, RESULT.with_variant("", wrong)) == ["activations: the forms disagree"]
    fidelity = replace(MEMBERS["openwakeword"], loses=(11.0,))
    assert failures(fidelity, replace(RESULT, ann=None)) == []
    assert failures(replace(fidelity, loses=(9.0,)), replace(RESULT, ann=None)) != []
    assert failures(entry, replace(RESULT, refusal="has an LSTM")) == ["refused: has an LSTM"]


@pytest.mark.parametrize("name", MEMBERS)
def test_what_the_repository_keeps_has_no_failure(name):
    result = load_result(RESULTS, name)
    assert result is not None and failures(MEMBERS[name], result) == []


def test_the_page_holds_every_figure():
    files = [File("one", "3", "3", "forms agree, 0 flips", ""), File("two", "", "", "", "has | an LSTM")]
    text = page.page(MEMBERS, {"resnet20": RESULT}, "2026-01-03", files)
    for cell in (
        "| 256, 2000 | 2026-01-02 |",
        "| resnet20 | 3 | 4 | 2 | 50.0 % | the network's own input (25.0 %, 1 node); 2 nodes without MACs |",
        "| resnet20 | top-1, % | 2000 | 91.00 | 90.00 (80.00) |",
        "| 0.125, 0.50 (0.25) |",
        "| resnet20 | 1 | 10.00 | 12.50 | no integer form |",
        "| one | 3 | 3 | forms agree, 0 flips |",
        "| two | has \\| an LSTM |",
    ):
        assert cell in text


def number(task, y, labels=None, reference=None, metric=None):
    """The task's number of one batch. reference: the ANN's output where it is another."""
    outputs = {"y": np.asarray(y, np.float32)}
    sampled = Sampled(len(y), labels, np.zeros(len(y), bool))
    theirs = outputs if reference is None else {"y": np.asarray(reference, np.float32)}
    return task.number((metric or task.metric).score(outputs, sampled, theirs))


def test_lines_are_exact_or_not():
    # a repeated class counts once unless a blank (0) parts it: 3 3 5 and 4 5
    scores = np.eye(6)[np.array([[0, 3, 3, 0, 3, 5], [4, 4, 0, 0, 5, 5]])]
    assert number(tasks.LINES, scores, np.array([[3, 3, 5], [4, 5, 5]])) == 50.0


def test_psnr_of_a_tenth_is_twenty_decibels():
    images = np.full((2, 3, 4, 4), 0.5)
    assert number(tasks.PSNR, images + 0.1, images) == pytest.approx(20.0, abs=1e-5)  # 0.6 in float32


def test_boxes_suppress_what_overlaps_and_match_one_to_one():
    output = np.zeros((1, 6, 8), np.float32)  # x, y, width, height, two classes; eight places, four empty
    output[0, :4, :4] = np.array([[10, 10, 8, 8], [11, 10, 8, 8], [30, 30, 8, 8], [50, 50, 8, 8]]).T
    output[0, 4:, :4] = [[0.9, 0.8, 0.0, 0.1], [0.0, 0.0, 0.7, 0.1]]
    other = output.copy()
    other[0, 5, 2] = 0.1  # its box is gone
    assert number(tasks.BOXES, output, None, output) == 100.0
    assert number(tasks.BOXES, other, None, output) == pytest.approx(200 / 3)
    assert number(tasks.BOXES, np.zeros_like(output), None, output) == 0.0


def test_overlap_notes_classes_and_cosine():
    assert number(tasks.OVERLAP, [[0.4, 0.4, 0.1]], None, [[0.4, 0.1, 0.4]]) == pytest.approx(100 / 3)
    assert number(tasks.NOTES, [[0.4, 0.4, 0.1]], np.array([[1, 0, 0]])) == pytest.approx(200 / 3)
    assert number(tasks.TOP1, np.eye(3)[[1, 2]], np.array([1, 0])) == 50.0
    assert number(tasks.COSINE, [[1.0, 0.0], [1.0, 1.0]], None, [[1.0, 0.0], [1.0, -1.0]]) == 50.0


@pytest.mark.parametrize("task", [tasks.BOXES, tasks.PSNR])
def test_a_member_is_measured(task, tmp_path):
    """From files to rows: with the ANN as the truth, and with images as labels."""
    generator = np.random.default_rng(0)
    conv = (generator.normal(size=(6, 4, 1, 1)) * 2).astype(np.float32), np.eye(6, dtype=np.float32)[..., None, None]
    nodes = [node("Conv", "x w", "c", "c"), node("Relu", "c", "a", "a"), node("Conv", "a v", "d", "d")]
    if task is tasks.BOXES:
        nodes += [node("Reshape", "d flat", "y", "y")]
    else:
        nodes[-1].output[0] = "y"
    constants = {"w": conv[0], "v": conv[1], "flat": np.array([0, 6, -1])}
    onnx.save(build(nodes, {"x": ["N", 4, 3, 4]}, {"y": None}, constants), tmp_path / "net.onnx")
    values = generator.normal(size=(24, 4, 3, 4)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=values)
    np.savez(tmp_path / "truth.npz", images=np.zeros((24, 6, 3, 4), np.float32))
    samples = Samples(tmp_path / "x.npz", tmp_path / "x.npz", tmp_path / "truth.npz")
    entry = Entry("", "", (), lambda: tmp_path / "net.onnx", lambda: samples, task, (1.0,), batch=10)
    result = measured("tiny", entry, [("phase", 4)], None, 1)
    variant = result.variants[""]
    row = variant.row("phase", 4)
    assert (result.ann is None) == task.fidelity and (result.calibration, result.evaluation) == (24, 24)
    assert variant.verified.agrees and variant.covered.additions == 0.6
    assert row.cosine > 0.98 and row.snn != 0 and 0 < row.firing_rate < 1 and row.energy > 0


def test_the_probe_is_fitted_on_the_vectors_of_the_ann():
    vectors, classes = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]], np.float32), np.array([0, 0, 1, 1])
    metric = tasks.PROBE.metric.fitted({"y": vectors}, classes)
    assert number(tasks.PROBE, [[0.1, 3.0], [0.9, 3.0]], np.array([0, 0]), metric=metric) == 50.0


def test_word_pieces_take_the_longest_match():
    listed = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁un", "able", "ab", "le", "▁!", "▁cafe"]
    found = reviews.encoded(["Unable café! zebra"], reviews.numbered(listed))
    assert found["input_ids"][0].tolist() == [2, 4, 5, 9, 8, 1, 3] + [0] * (reviews.LENGTH - 7)
    assert found["attention_mask"].sum() == 7


def test_perplexity_is_lost_in_percent_of_the_anns():
    assert number(tasks.NEXT_TOKEN, np.zeros((2, 3, 8)), np.full((2, 3), 5)) == pytest.approx(8.0)
    assert tasks.NEXT_TOKEN.lost(50.0, 55.0) == pytest.approx(10.0) and tasks.NEXT_TOKEN.lost(50.0, 50.0) == 0.0


def test_tokens_are_digits_and_merged_bytes_and_labels_the_next_of_them():
    encoder = texts.tokenizer(["a", "b", "ab", "1", "2", "Ġ", "Ġab"], ["a b", "Ġ ab"])
    assert encoder.encode("ab ab12").ids == [2, 6, 3, 4]
    found = texts.windows(iter(["ab", "ab" * 70, "1" * texts.LENGTH, "12" * 40]), encoder, 2)
    assert found["tokens"].shape == found["labels"].shape == (2, texts.LENGTH)
    assert found["tokens"][1, :4].tolist() == [3, 4, 3, 4] and found["labels"][1, :3].tolist() == [4, 3, 4]
    with pytest.raises(DataError, match="1 texts are long enough, not 2"):
        texts.windows(iter(["ab", "ab" * 65]), encoder, 2)


def test_a_chord_sounds_where_its_keys_say():
    sound, keys = sounds.chord(np.random.default_rng(3))
    assert sound.shape == (sounds.SOUND, 1) and keys.shape == (sounds.FRAMES, sounds.KEYS)
    loud = np.square(sound[: sounds.FRAMES * sounds.HOP - sounds.HOP, 0]).reshape(-1, sounds.HOP).mean(1)
    silent = keys[: len(loud)].sum(1) == 0
    assert silent.any() and loud[silent].mean() < 0.01 * loud[~silent].mean()


def test_the_scalogram_is_largest_at_the_scale_of_a_tone():
    time = np.arange(sounds.EEG) / sounds.EEG_RATE
    tones = [np.sin(2 * np.pi * frequency * time) for frequency in (12.0, 16.0)]
    found = sounds.scalogram(np.stack(tones).astype(np.float32))
    assert found.shape == (2, sounds.SCALES, sounds.EEG)
    slow, fast = found[:, :, 2000:5500].mean(2).argmax(1)
    assert slow > fast  # a slower wave fits a longer scale


def test_classes_of_lines_leave_the_blank_free():
    np.testing.assert_array_equal(lines.classes_of(["ab", "b"], ["a", "b"]), [[1, 2], [2, -1]])
