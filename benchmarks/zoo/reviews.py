"""Film reviews for sentence vectors: word pieces, and samples for a linear probe."""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import BertWordPieceTokenizer

from benchmarks import networks
from benchmarks.assets import cache_folder, member
from benchmarks.datasets import Integers, save
from benchmarks.zoo.entry import Samples
from graphpass.runtime.session import open_session, run

LENGTH = 64  # tokens
SOURCE = "rotten_tomatoes"


def numbered(pieces: Sequence[str]) -> dict[str, int]:
    """Word piece → number, in BERT's spelling (`##` continues a word), from SentencePiece's (`▁` starts a word)."""
    return {
        piece[1:] if piece.startswith("▁") else piece if piece.startswith("[") else f"##{piece}": number
        for number, piece in enumerate(pieces)
    }


def encoded(texts: Sequence[str], numbers: dict[str, int]) -> dict[str, Integers]:
    """input_ids and attention_mask, int64 [N, 64]."""
    tokenizer = BertWordPieceTokenizer(numbers)
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    found = tokenizer.encode_batch(list(texts))
    ids, mask = ([getattr(each, key) for each in found] for key in ("ids", "attention_mask"))
    return {"input_ids": np.array(ids, np.int64), "attention_mask": np.array(mask, np.int64)}


def split(*counts: int) -> list[tuple[dict[str, Integers], Integers]]:
    """So many reviews of Rotten Tomatoes in seeded order, in disjoint parts: the inputs of each, and its labels [N]."""
    csv.field_size_limit(sys.maxsize)
    with member("reviews", "*.csv").open(encoding="utf-8", newline="") as stream:
        rows = [(row["text"], int(row["label"])) for row in csv.DictReader(stream) if row["source"] == SOURCE]
    order = np.random.default_rng(0).permutation(len(rows))[: sum(counts)]
    numbers = numbered(json.loads(member("wordpieces", "*/vocab.json").read_text("utf-8")))
    found = []
    for part in np.split(order, np.cumsum(counts)[:-1]):
        texts, labels = zip(*(rows[index] for index in part), strict=True)
        found.append((encoded(texts, numbers), np.array(labels, np.int64)))
    return found


def samples(calibration: int = 128, fitted: int = 2000, evaluation: int = 500) -> Samples:
    """Reviews for calibration, for the probe and for evaluation."""
    folder = cache_folder() / "data"
    paths: list[Path] = [folder / f"film_reviews_{part}.npz" for part in (calibration, evaluation, "truth")]
    if all(path.exists() for path in paths):
        return Samples(*paths)
    inputs, labels = zip(*split(calibration, fitted, evaluation), strict=True)
    session = open_session(networks.minilm())
    batches = [
        {name: values[start : start + 100] for name, values in inputs[1].items()} for start in range(0, fitted, 100)
    ]
    vectors = np.concatenate([run(session, batch, ["461"])["461"] for batch in batches])
    save(paths[0].name, **inputs[0])
    save(paths[1].name, **inputs[2])
    save(paths[2].name, outputs=vectors, classes=labels[1], labels=labels[2])
    return Samples(*paths)


def labelled(calibration: int = 128, evaluation: int = 2500) -> Samples:
    """Reviews for calibration, and with labels for evaluation: metrics fit their own probe on a part of these."""
    folder = cache_folder() / "data"
    paths = [folder / f"film_reviews_{part}.npz" for part in (calibration, f"labelled_{evaluation}")]
    if not all(path.exists() for path in paths):
        (first, _), (inputs, labels) = split(calibration, evaluation)
        save(paths[0].name, **first)
        save(paths[1].name, **inputs, labels=labels)
    return Samples(*paths)
