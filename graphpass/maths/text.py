"""Text read off per-frame scores by connectionist temporal classification (CTC), and how far two texts are apart.

    decode    best class of each frame, repeats merged, blanks dropped    (Graves et al., ICML 2006, best-path decoding)
    edits     least number of insertions, deletions and substitutions     (Levenshtein distance)

A text is a tuple of class numbers: characters by their place in the network's dictionary.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Text = tuple[int, ...]


def decode(scores: Array, blank: int = 0) -> list[Text]:
    """The texts of scores [N, frames, C]; any monotone scale: probabilities, their logarithms or logits.

    blank: the class that stands for no character; a negative one counts from the end.
    >>> frames = np.eye(3)[[1, 1, 0, 1, 2, 2]]
    >>> decode(frames[None])
    [(1, 1, 2)]
    """
    best = np.where(np.isnan(scores), -np.inf, scores).argmax(2)
    none = blank % scores.shape[2]
    first = np.ones(best.shape, bool)
    first[:, 1:] = best[:, 1:] != best[:, :-1]
    return [tuple(int(c) for c in row[kept & (row != none)]) for row, kept in zip(best, first, strict=True)]


def edits(one: Text, other: Text) -> int:
    """Levenshtein distance.

    >>> edits((1, 2, 3), (1, 3, 4))
    2
    """
    target = np.array(other, np.int64)
    steps = np.arange(len(other) + 1)
    row = steps.copy()
    for number, character in enumerate(one, 1):
        changed = np.empty_like(row)
        changed[0] = number
        changed[1:] = np.minimum(row[1:] + 1, row[:-1] + (target != character))
        row = np.minimum.accumulate(changed - steps) + steps  # insertions: the least of row[j] + (k − j), j ≤ k
    return int(row[-1])
