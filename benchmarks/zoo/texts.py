"""Film reviews as tokens, for language models: which token comes next."""

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from benchmarks.assets import cache_folder, member
from benchmarks.datasets import Integers, save
from benchmarks.zoo.entry import Samples
from graphpass.errors import DataError

LENGTH = 64  # tokens
SOURCE = "imdb"  # its reviews are long


def tokenizer(vocabulary: Sequence[str], merges: Sequence[str]) -> Tokenizer:
    """Byte-level BPE as SmolLM2 has it, which also parts numbers into digits. merges: pairs with a space between."""
    numbers = {token: number for number, token in enumerate(vocabulary)}
    found = Tokenizer(models.BPE(numbers, [tuple(pair.split(" ")) for pair in merges]))
    digits = pre_tokenizers.Digits(individual_digits=True)
    found.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return found


def from_gguf(path: Path) -> Tokenizer:
    """The tokenizer that a GGUF file holds."""
    try:
        import gguf
    except ModuleNotFoundError as error:
        raise DataError(f"{path.name}: gguf is missing", "pip install --group zoo") from error
    reader = gguf.GGUFReader(path)
    parts = (reader.get_field(f"tokenizer.ggml.{name}").contents() for name in ("tokens", "merges"))
    return tokenizer(*parts)


def windows(texts: Iterator[str], encoder: Tokenizer, count: int) -> dict[str, Integers]:
    """tokens and labels, int64 [count, 64]: the beginnings of the first texts that are long enough."""
    rows: list[list[int]] = []
    for text in texts:
        found = encoder.encode(text).ids
        if len(found) > LENGTH:
            rows.append(found[: LENGTH + 1])
        if len(rows) == count:
            break
    else:
        raise DataError(f"{len(rows)} texts are long enough, not {count}", "ask for fewer")
    both = np.array(rows, np.int64)
    return {"tokens": both[:, :-1], "labels": both[:, 1:]}


def next_tokens(calibration: int = 64, evaluation: int = 128) -> Samples:
    """IMDB in seeded order: beginnings of reviews for calibration and of others for evaluation."""
    folder = cache_folder() / "data"
    paths = [folder / f"next_tokens_{part}_{LENGTH}.npz" for part in (calibration, evaluation)]
    if all(path.exists() for path in paths):
        return Samples(*paths)
    csv.field_size_limit(sys.maxsize)
    with member("reviews", "*.csv").open(encoding="utf-8", newline="") as stream:
        rows = sorted({row["text"] for row in csv.DictReader(stream) if row["source"] == SOURCE})
    order = np.random.default_rng(0).permutation(len(rows))
    texts = (rows[index].replace("<br />", "\n") for index in order)
    encoder = from_gguf(member("smollm2", "*.gguf"))
    for path, count in zip(paths, (calibration, evaluation), strict=True):  # one stream: no review is in both
        save(path.name, **windows(texts, encoder, count))
    return Samples(*paths)
