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


def samples(calibration: int = 128, fitted: int = 2000, evaluation: int = 500) -> Samples:
    """Rotten Tomatoes in seeded order: reviews for calibration, for the probe and for evaluation, disjoint."""
    folder = cache_folder() / "data"
    paths: list[Path] = [folder / f"film_reviews_{part}.npz" for part in (calibration, evaluation, "truth")]
    if all(path.exists() for path in paths):
        return Samples(*paths)
    csv.field_size_limit(sys.maxsize)
    with member("reviews", "*.csv").open(encoding="utf-8", newline="") as stream:
        rows = [(row["text"], int(row["label"])) for row in csv.DictReader(stream) if row["source"] == SOURCE]
    order = np.random.default_rng(0).permutation(len(rows))[: calibration + fitted + evaluation]
    parts = np.split(order, [calibration, calibration + fitted])
    numbers = numbered(json.loads(member("wordpieces", "*/vocab.json").read_text("utf-8")))
    inputs = [encoded([rows[index][0] for index in part], numbers) for part in parts]
    labels = [np.array([rows[index][1] for index in part], np.int64) for part in parts]
    session = open_session(networks.minilm())
    batches = [
        {name: values[start : start + 100] for name, values in inputs[1].items()} for start in range(0, fitted, 100)
    ]
    vectors = np.concatenate([run(session, batch, ["461"])["461"] for batch in batches])
    save(paths[0].name, **inputs[0])
    save(paths[1].name, **inputs[2])
    save(paths[2].name, outputs=vectors, classes=labels[1], labels=labels[2])
    return Samples(*paths)
