"""Film reviews for sentence vectors: word pieces, and a linear probe on the original network's vectors."""

import csv
import json
import re
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import networks
from benchmarks.assets import cache_folder, member
from benchmarks.datasets import Integers, save
from benchmarks.zoo.entry import Array, Samples
from graphpass.session import open_session, run

LENGTH = 64  # tokens
SOURCE = "rotten_tomatoes"
RIDGE = 1.0


def pieces() -> dict[str, int]:
    """Word piece → number, as BERT writes them: `##` before what continues a word."""
    listed = json.loads(member("wordpieces", "*/vocab.json").read_text("utf-8"))
    return {
        piece[1:] if piece.startswith("▁") else piece if piece.startswith("[") else f"##{piece}": number
        for number, piece in enumerate(listed)
    }


def tokens(text: str, numbers: dict[str, int]) -> list[int]:
    """Word pieces of a text: lower case without accents, split at white space and punctuation, longest match first."""
    plain = unicodedata.normalize("NFD", text.lower())
    plain = "".join(each for each in plain if unicodedata.category(each) != "Mn")
    found: list[int] = []
    for word in re.findall(r"\w+|[^\w\s]", plain):
        start, parts = 0, []
        while start < len(word):
            lengths = range(len(word), start, -1)
            match = next((end for end in lengths if ("##" if start else "") + word[start:end] in numbers), None)
            if match is None:
                parts = [numbers["[UNK]"]]
                break
            parts.append(numbers[("##" if start else "") + word[start:match]])
            start = match
        found += parts
    return found


def encoded(texts: Sequence[str]) -> dict[str, Integers]:
    """input_ids and attention_mask, int64 [N, 64]."""
    numbers = pieces()
    ids, mask = (np.zeros((len(texts), LENGTH), np.int64) for _ in range(2))
    for row, text in enumerate(texts):
        found = [numbers["[CLS]"], *tokens(text, numbers)[: LENGTH - 2], numbers["[SEP]"]]
        ids[row, : len(found)], mask[row, : len(found)] = found, 1
    return {"input_ids": ids, "attention_mask": mask}


def logistic(vectors: Array, labels: Array, rounds: int = 20) -> tuple[Array, float]:
    """w, b of a logistic regression with ridge 1, by Newton's method in float64."""
    rows = np.hstack([vectors.astype(np.float64), np.ones((len(vectors), 1))])
    penalty = np.diag([RIDGE] * (rows.shape[1] - 1) + [0.0])
    weights = np.zeros(rows.shape[1])
    for _ in range(rounds):
        chance = 1 / (1 + np.exp(-rows @ weights))
        slope = rows.T @ (chance - labels) + penalty @ weights
        weights -= np.linalg.solve((rows * (chance * (1 - chance))[:, None]).T @ rows + penalty, slope)
    return weights[:-1], float(weights[-1])


def samples(calibration: int = 128, fitted: int = 2000, evaluation: int = 500) -> Samples:
    """Rotten Tomatoes in seeded order: reviews for calibration, for the probe and for evaluation, disjoint."""
    folder = cache_folder() / "data"
    paths: list[Path] = [folder / f"reviews_{part}.npz" for part in (calibration, evaluation, "truth")]
    if all(path.exists() for path in paths):
        return Samples(*paths)
    csv.field_size_limit(sys.maxsize)
    with member("reviews", "*.csv").open(encoding="utf-8", newline="") as stream:
        rows = [(row["text"], int(row["label"])) for row in csv.DictReader(stream) if row["source"] == SOURCE]
    order = np.random.default_rng(0).permutation(len(rows))[: calibration + fitted + evaluation]
    parts = np.split(order, [calibration, calibration + fitted])
    inputs = [encoded([rows[index][0] for index in part]) for part in parts]
    labels = [np.array([rows[index][1] for index in part], np.int64) for part in parts]
    session = open_session(networks.minilm())
    batches = [
        {name: values[start : start + 100] for name, values in inputs[1].items()} for start in range(0, fitted, 100)
    ]
    vectors = np.concatenate([run(session, batch, ["461"])["461"] for batch in batches])
    weights, bias = logistic(vectors, labels[1])
    save(paths[0].name, **inputs[0])
    save(paths[1].name, **inputs[2])
    save(paths[2].name, weights=np.float32(weights), bias=np.float32([bias]), labels=labels[2])
    return Samples(*paths)
