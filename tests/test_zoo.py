"""The zoo's tasks on outputs made by hand, its results as JSON, its page, and its table."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.assets import ASSETS
from benchmarks.zoo import lines, page, reviews, sounds, tasks
from benchmarks.zoo.__main__ import failures
from benchmarks.zoo.entry import SETTINGS, Covered, Reason, Result, Row, Times, Variant, Verified, load_result
from benchmarks.zoo.files import File, load_files, save
from benchmarks.zoo.members import MEMBERS

COVERED = Covered(3, 4, 3, 2e6, 0.75, 0.5, (Reason("a gate", 2, 0.0), Reason("the network's own input", 1, 0.25)))
ROWS = tuple(Row(coding, steps, 16, 90.0, 80.0, 0.99, 0.9, 0.125, 0.5) for coding, steps in SETTINGS)
TIMES = Times(1, 2, 10.0, 12.5, None, "no integer form", "Machine: one")
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
    found = [File("a", "3", "2/3", "forms agree, 0 flips", ""), File("b", "", "", "", "has an LSTM")]
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


def test_the_page_holds_every_figure():
    files = [File("one", "3", "2/3", "forms agree, 0 flips", ""), File("two", "", "", "", "has | an LSTM")]
    text = page.page(MEMBERS, {"resnet20": RESULT}, "2026-01-03", files)
    for cell in (
        "| 256, 2000 | 2026-01-02 |",
        "| resnet20 | 3 | 3/4 | 2 | 75.0 % | 50.0 % | the network's own input (25.0 %, 1 node); 2 nodes without MACs |",
        "| resnet20 | top-1, % | 2000 | 91.00 | 90.00 (80.00) |",
        "| 0.125 / 0.50 |",
        "| resnet20 | 1 | 10.00 | 12.50 | no integer form |",
        "| one | 3 | 2/3 | forms agree, 0 flips |",
        "| two | has \\| an LSTM |",
    ):
        assert cell in text


def test_lines_are_exact_or_not():
    # a repeated class counts once unless a blank (0) parts it: 3 3 5 and 4 5
    scores = np.eye(6)[np.array([[0, 3, 3, 0, 3, 5], [4, 4, 0, 0, 5, 5]])]
    truth = {"classes": np.array([[3, 3, 5], [4, 5, 5]])}
    kept = tasks.read(scores)
    np.testing.assert_array_equal(kept, [[3, 3, 5, -1, -1, -1], [4, 5, -1, -1, -1, -1]])
    assert tasks.exact_lines(kept, truth, kept) == 50.0


def test_psnr_of_a_tenth_is_twenty_decibels():
    images = np.full((2, 3, 4, 4), 0.5)
    assert tasks.psnr(images + 0.1, {"images": images}, images) == pytest.approx(20.0)


def test_boxes_suppress_what_overlaps_and_match_one_to_one():
    output = np.zeros((6, 4), np.float32)  # x, y, width, height, two classes; four places
    output[:4] = np.array([[10, 10, 8, 8], [11, 10, 8, 8], [30, 30, 8, 8], [50, 50, 8, 8]]).T
    output[4:] = [[0.9, 0.8, 0.0, 0.1], [0.0, 0.0, 0.7, 0.1]]
    found = tasks.boxes(output)
    assert found.corners[:, 0].tolist() == [6.0, 26.0] and found.classes.tolist() == [0, 1]
    other = output.copy()
    other[5, 2] = 0.1  # its box is gone
    assert tasks.matched_boxes(output[None], {}, output[None]) == 100.0
    assert tasks.matched_boxes(other[None], {}, output[None]) == pytest.approx(200 / 3)


def test_overlap_notes_agreement_and_probe():
    y, a = np.array([[0.4, 0.4, 0.1]]), np.array([[0.4, 0.1, 0.4]])
    assert tasks.overlap(y, {}, a) == pytest.approx(100 / 3)
    assert tasks.notes(y, {"notes": np.array([[1, 0, 0]])}, a) == pytest.approx(200 / 3)
    assert tasks.agreement(np.array([1, 2]), {}, np.array([1, 3])) == 50.0
    truth = {"weights": np.array([1.0, -1.0]), "bias": np.array([0.5]), "labels": np.array([1, 0])}
    assert tasks.probe(np.array([[0.0, 0.0], [0.0, 1.0]]), truth, y) == 100.0
    assert tasks.cosine(np.array([[1.0, 0.0], [1.0, 1.0]]), {}, np.array([[1.0, 0.0], [1.0, -1.0]])) == 50.0


def test_word_pieces_take_the_longest_match():
    numbers = {"[UNK]": 0, "un": 1, "##able": 2, "##ab": 3, "##le": 4, "!": 5, "cafe": 6}
    assert reviews.tokens("Unable café! zebra", numbers) == [1, 2, 6, 5, 0]


def test_logistic_regression_finds_the_separating_direction():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(400, 3))
    labels = (rows @ [2.0, -1.0, 0.0] + 0.5 + generator.normal(size=400) > 0).astype(np.int64)
    weights, bias = reviews.logistic(rows, labels)
    assert abs(weights[0] / weights[1] + 2) < 0.5 and abs(weights[2]) < 0.5 and bias > 0
    # at the optimum the gradient vanishes
    chance = 1 / (1 + np.exp(-(rows @ weights + bias)))
    np.testing.assert_allclose(rows.T @ (chance - labels) + reviews.RIDGE * weights, 0, atol=1e-8)


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
