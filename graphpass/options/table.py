"""THE list of options: their names, values, defaults and meanings.

The command line, Python, the service and its page have the same options under the same names (`--time-steps` is
`time_steps`), and take their help, limits and defaults from here; None is an option that was not given.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphpass.options.values import (
    LARGEST,
    MOST_LEVELS,
    Check,
    flag,
    items_of,
    levels,
    number,
    one_or_several,
    size,
    text,
    text_or_texts,
    whole,
)

MOST_THREADS = 1024
LARGEST_IMAGE = 4096  # pixels of a side
STEPS = 8  # T, where none is given
MADE_UP = 256  # samples that are made up, where no limit is given
VERIFIED = 64  # samples of `verify`, where no limit is given
IMAGE_NUMBERS = "one number, or one a channel"
PROVIDERS: Mapping[str, tuple[str, ...] | None] = {  # of onnxruntime, by preference
    "cpu": None,
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
}


@dataclass(frozen=True)
class Option:
    """One option of a conversion, evaluation or sweep.

    words, check: what a value has to be. about: what it decides, as the help has it. default: what holds where none is
    given; None where the network decides, and then `usual` where that does not. several: the default of a sweep. names:
    what it may be, each with a title and its meaning. least, most: the ends of a number, None where there is none.
    """

    words: str
    check: Check
    about: str
    default: Any = None
    several: tuple[Any, ...] = ()
    names: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    least: int | None = None
    most: int | None = None
    usual: int | None = None

    @property
    def help(self) -> str:
        """What it decides, and between which."""
        *names, last = self.names or ("",)
        return self.about + (f": {', '.join(names)} or {last}." if names else ".")


def _count(about: str, least: int = 1, most: int | None = None, default: int | None = None, **more: Any) -> Option:
    ends = f"{least} or more" if most is None else f"{least} to {most}"
    check = whole(least) if most is None else whole(least, most)
    return Option(f"a whole number of {ends}", check, about, default, least=least, most=most, **more)


def _name(about: str, default: str, names: Mapping[str, tuple[str, str]]) -> Option:
    """Which names there are is checked where they are used, beside other options."""
    return Option("a text", text, about, default, (default,), names)


def _patterns(about: str) -> Option:
    return Option("a regular expression, or several", text_or_texts, about)


def _switch(about: str) -> Option:
    return Option("true or false", flag, about, False)


OPTIONS: Mapping[str, Option] = {
    "time_steps": _count(
        f"T, time-steps; where none are given {STEPS}, or the network's own if it was trained with QCFS",
        several=(1, 2, 4, 8, 16, 32), usual=STEPS,
    ),
    "coding": _name("How a count is sent", "rate", {
        "rate": ("Rate code", "A value is how many of the T steps spike: T + 1 levels. Robust, and the usual choice."),
        "phase": ("Phase code", "A spike counts twice as much as one a step later: 2^T levels from T steps. More exact "
                  "for few steps."),
    }),
    "method": _name("How thresholds are calibrated (docs/calibration.md)", "optimal", {
        "optimal": ("Optimal", "Thresholds with the least error, and weights corrected layer by layer. The most exact; "
                    "takes longest."),
        "da-qcfs": ("DA-QCFS", "Thresholds from the range, shifted so that means agree. Weights stay as they are."),
        "percentile": ("Percentile", "Thresholds from the range without 0.1 % outliers. Weights stay as they are."),
        "max": ("Max", "Thresholds from the whole range. Quick, and the coarsest."),
    }),
    "form": _name("What the converted network is written as", "folded", {
        "folded": ("Folded", "All steps in one pass: runs everywhere, and costs the same for any T."),
        "unrolled": ("Unrolled", "Every step and every binary spike is there to see: for study and for spiking "
                     "hardware."),
        "integer": ("Integer", "Counts of 8 bits and weights of 8 bits: fastest on CPUs, a little less exact."),
    }),
    "levels": Option(
        f"auto, or from Python 2 to {MOST_LEVELS} by the name of a site", levels,
        "auto: each site gets as many levels as the outputs need of it, within a budget of energy or of mean levels, "
        "and T is the most that a site may take; where it is left out, every site has all levels of T",
    ),
    "energy": Option(
        "a number", number(-math.inf),
        "Budget of levels auto: additions behind sites, as a share of those at T everywhere; 0.5 where none is given",
    ),
    "mean_levels": Option("a number", number(-math.inf), "Budget of levels auto: levels, mean over all neurons"),
    "synthetic": _switch(
        f"Without calibration data: make inputs up, as many as the limit says ({MADE_UP} where there is none). It "
        "costs accuracy, and the network says so for good; evaluate it"
    ),
    "include": _patterns("Only sites whose node name matches this regular expression"),
    "exclude": _patterns("Leave sites whose node name matches this regular expression analogue"),
    "identity_sites": _switch("Neurons in front of layers that activations do not feed, or not alone"),
    "allow_partial": _switch("Convert although sites that should convert cannot"),
    "metric": Option(
        "the name of a metric, or several", text_or_texts, "What to measure (docs/metrics.md)",
        names={
            "classes": ("Classes", "Top-1, top-5 and agreement of class scores: where an output holds them."),
            "ctc": ("CTC", "Texts that are read: exact ones, and errors of characters."),
            "embedding": ("Embedding", "Vectors: cosine to the ANN's, neighbours, and a classifier on them."),
            "psnr": ("PSNR", "Images: signal to noise in dB."),
            "detection": ("Detection", "Boxes: average precision, and those that both networks find."),
            "regression": ("Regression", "Numbers: mean errors."),
        },
    ),
    "limit": _count("Use at most so many samples; of a conversion, calibration samples"),
    "calibration_limit": _count("Calibrate on at most so many samples"),
    "seed": _count("Of the sampled positions: the same seed gives the same plan", 0, LARGEST - 1, 0),
    "memory_budget": Option(
        "a size, as 512MiB or 2GiB, or a number of bytes", size, "Memory for calibration, as 512MiB or 2GiB", "2GiB"
    ),
    "threads": _count("Threads of the runtime and of linear algebra; 0 for all cores", 0, MOST_THREADS, 0),
    "provider": Option(
        "cpu or cuda", lambda value: text(value) and value in PROVIDERS, "Where the networks run", "cpu",
        names={
            "cpu": ("CPU", "This machine's processors."),
            "cuda": ("CUDA", "An NVIDIA GPU; a service has a queue for it."),
        },
    ),
    "image_size": _count("Side of the images of an image folder, if the model leaves it open", 1, LARGEST_IMAGE, 224),
    "mean": Option(
        IMAGE_NUMBERS, one_or_several(number(-math.inf)), f"Of images: subtracted from pixels/255, {IMAGE_NUMBERS}", 0.0
    ),
    "std": Option(
        f"{IMAGE_NUMBERS}, above 0", one_or_several(number(math.ulp(0.0))),
        f"Of images: then divided by, {IMAGE_NUMBERS}", 1.0,
    ),
}  # fmt: skip

SELECTION = ("include", "exclude", "identity_sites")
IMAGES = ("image_size", "mean", "std")
BUDGETS = ("energy", "mean_levels")
WORK = ("seed", "memory_budget", "threads")
# command → its options; those of SEVERAL are lists in a sweep
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "inspect": SELECTION,
    "convert": (
        *("time_steps", "coding", "method", "form", "levels", *BUDGETS, "synthetic", *SELECTION, "allow_partial"),
        *("limit", *WORK, *IMAGES, "metric"),
    ),
    "evaluate": ("metric", "limit", "threads", "provider", *IMAGES),
    "sweep": (
        *("time_steps", "coding", "method", *SELECTION, "allow_partial", "metric", "calibration_limit", "limit"),
        *(*WORK, *IMAGES),
    ),
    "verify": ("limit", "threads", *IMAGES),
    "open_dataset": IMAGES,  # from Python alone
}
SEVERAL = ("time_steps", "coding", "method")


def is_default(name: str, value: Any) -> bool:
    """Whether a value is the option's default, alone or as the only one of a list."""
    items = items_of(value)
    only = items[0] if items and len(items) == 1 else value
    return type(only) is type(OPTIONS[name].default) and only == OPTIONS[name].default
