"""THE list of options: their names, values, defaults and meanings.

The command line, Python, the service and its page have the same options under the same names (`--time-steps` is
`time_steps`), and take their help, limits and defaults from here. None means that an option was not given.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphpass.options.providers import WORDS, is_provider
from graphpass.options.values import (
    ALWAYS_THREADS,
    LARGEST,
    MOST_LEVELS,
    THREADS_OF_A_CORE,
    Check,
    flag,
    items_of,
    levels,
    most_threads,
    number,
    number_of,
    one_or_several,
    size,
    text,
    text_or_mapping,
    text_or_path,
    text_or_texts,
    whole,
    whole_of,
)

LARGEST_IMAGE = 4096  # pixels of a side
STEPS = 8  # T, where none is given
MADE_UP = 256  # samples that are made up, where no limit is given
VERIFIED = 64  # samples of `verify`, where no limit is given
DRAWN = 64  # samples whose currents are drawn, where no limit is given
MOST_NEURONS = 256  # that are drawn of a site
IMAGE_NUMBERS = "one number, or one for each channel"
PRESETS = {
    "imagenet": (
        "ImageNet",
        "The shorter side becomes 256/224 of the frame, and the centre is cut out; ImageNet's mean and deviation.",
    )
}


@dataclass(frozen=True)
class Option:
    """One option of a conversion, evaluation or sweep.

    words, check: what a value has to be, in words and as a function. about: what it decides, for the help. default: the
    value if none is given; None where the network decides, and then `usual` if the network does not. several: the
    default of a sweep. names: the names that it may have as value, each with a title and its meaning. least, most: the
    limits of a number, None where there is no limit. read: a number out of its text; None for other values. absent:
    what a single conversion takes if none is given, in words; a sweep has `several` instead.
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
    read: Callable[[Any], Any] | None = None
    absent: str = ""

    @property
    def help(self) -> str:
        """What it decides, the names to choose from, and what a single conversion takes if it is not given."""
        return f"{self.meaning} {self.absent}".strip()

    @property
    def meaning(self) -> str:
        """What it decides, and the names to choose from."""
        *names, last = self.names or ("",)
        return self.about + (f": {', '.join(names)} or {last}." if names else ".")


def _count(about: str, least: int = 1, most: int | None = None, default: int | None = None, **more: Any) -> Option:
    ends = f"{least} or more" if most is None else f"{least} to {most}"
    check = whole(least) if most is None else whole(least, most)
    return Option(f"a whole number of {ends}", check, about, default, least=least, most=most, read=whole_of, **more)


def _number(words: str, least: float, about: str) -> Option:
    return Option(words, number(least), about, read=number_of)


def _name(about: str, default: str, names: Mapping[str, tuple[str, str]]) -> Option:
    """An option whose value is a name. Unknown names are refused where names are used, beside other options."""
    return Option("a text", text, about, default, (default,), names)


def _one_of(about: str, default: str, names: Mapping[str, tuple[str, str]]) -> Option:
    """An option whose value is one of these names alone."""
    return Option(" or ".join(names), lambda value: text(value) and value in names, about, default, (default,), names)


def _patterns(about: str) -> Option:
    return Option("a regular expression, or several", text_or_texts, about)


def _switch(about: str) -> Option:
    return Option("true or false", flag, about, False)


OPTIONS: Mapping[str, Option] = {
    "time_steps": _count(
        "Number of time-steps T", several=(1, 2, 4, 8, 16, 32), usual=STEPS,
        absent=f"If not given: {STEPS}, or the network's own if it was trained with QCFS.",
    ),
    "coding": _name("How a count is sent", "rate", {
        "rate": ("Rate code", "A value is how many of the T steps spike: T + 1 levels. Robust, and the usual choice."),
        "phase": ("Phase code", "A spike counts twice as much as a spike one step later: 2^T levels from T steps. More "
                  "exact with few steps."),
    }),
    "method": _name("How thresholds are calibrated (docs/calibration.md)", "optimal", {
        "optimal": ("Optimal", "Thresholds with the least error, and weights corrected layer by layer. The most exact "
                    "method, and the slowest."),
        "da-qcfs": ("DA-QCFS", "Thresholds from the range, shifted so that means agree. Weights stay as they are."),
        "percentile": ("Percentile", "Thresholds from the range without 0.1 % outliers. Weights stay as they are."),
        "max": ("Max", "Thresholds from the whole range. The quickest method, and the coarsest."),
    }),
    "form": _name("In which form the converted network is written", "folded", {
        "folded": ("Folded", "All steps in one pass: runs everywhere, and costs the same for any T."),
        "unrolled": ("Unrolled", "Every step and every binary spike is explicit: for study and for spiking hardware."),
        "integer": ("Integer", "Counts and weights of 8 bits: on CPUs the fastest form of most networks, and a little "
                    "less exact."),
    }),
    "precision": _name("Which floating-point type the converted network has (docs/formats.md)", "source", {
        "source": ("As the network", "Weights and tensors have the types of the network that was given."),
        "float16": ("float16", "Half the memory, and the fastest type on GPUs; a little less exact. Inputs and "
                    "outputs keep their types. Not in the integer form."),
    }),
    "target": _name("For which runtime the integer form is written (docs/runtimes.md)", "onnxruntime", {
        "onnxruntime": ("onnxruntime, OpenVINO", "Numbers from 0 to 255, with zero points."),
        "tensorrt": ("TensorRT", "Numbers from -128 to 127, and only zero points of 0: at most 128 levels. Not run on "
                     "a GPU yet."),
    }),
    "levels": Option(
        f"auto, or in Python a dict from names of sites to 2 to {MOST_LEVELS} levels", levels,
        "auto: each site gets as many levels as the outputs need, within a budget of energy or of mean levels, and T "
        "is the most that a site may take. If not given, every site has all levels of T",
    ),
    "energy": _number(
        "a number", -math.inf,
        "Budget for levels auto: additions behind sites, as a share of those with all levels of T; 0.5 if not given",
    ),
    "mean_levels": _number(
        "a number", -math.inf, "Budget for levels auto: mean number of levels over all neurons"
    ),
    "max_drop": _number(
        "a number above 0", math.ulp(0.0),
        "Search for the cheapest network that loses at most this many points of the evaluation's metric "
        "(docs/search.md). T is then the largest that is tried",
    ),
    "minimise": _name("What the search minimises", "energy", {
        "energy": ("Energy", "Of all operations, with and without spikes, and of their memory traffic."),
        "time-steps": ("Time-steps", "T, for hardware where every step takes time."),
        "latency": ("Latency", "Milliseconds of one run on this machine."),
    }),
    "cache": Option(
        "the path of a folder", text_or_path,
        "Folder that stores the results of each step, so that the next run continues there",
    ),
    "synthetic": _switch(
        f"Calibrate without data, on made-up inputs. The limit is their number ({MADE_UP} if not given). This costs "
        "accuracy, and the network's metadata will say so; evaluate the network"
    ),
    "include": _patterns("Convert only sites whose node name matches this regular expression"),
    "exclude": _patterns("Leave sites whose node name matches this regular expression analogue"),
    "identity_sites": _switch(
        "Also put neurons in front of layers with inputs that do not come from activations, or not only from them"
    ),
    "allow_partial": _switch("Convert although some sites that should be converted cannot be converted"),
    "metric": Option(
        "the name of a metric, or several", text_or_texts, "What to measure (docs/metrics.md)",
        names={
            "classes": ("Classes", "Class scores: top-1, top-5 and agreement."),
            "ctc": ("CTC", "Recognised texts: how many are exact, and errors of characters."),
            "embedding": ("Embedding", "Vectors: cosine to the ANN's, and accuracy of a linear classifier."),
            "psnr": ("PSNR", "Images: signal-to-noise ratio in dB."),
            "detection": ("Detection", "Boxes: average precision, and the share of boxes that both networks find."),
            "regression": ("Regression", "Numbers: mean errors."),
            "perplexity": ("Perplexity", "Logits of the next token: perplexity, lower is better, and KL to the ANN's."),
        },
    ),
    "energy_model": _one_of("How energy with memory traffic is estimated (docs/energy.md)", "lemaire22", {
        "lemaire22": ("Lemaire 2022", "32-bit integers; the data of each layer is in an SRAM of exactly its size."),
        "horowitz45": ("Horowitz 2014", "32-bit floating point; caches of 8 KiB, 32 KiB or 1 MiB with DRAM behind."),
    }),
    "limit": _count("Use at most this many samples; in a conversion, calibration samples"),
    "calibration_limit": _count("Calibrate on at most this many samples"),
    "seed": _count("Seed for the random positions of samples: the same seed gives the same plan", 0, LARGEST - 1, 0),
    "memory_budget": Option(
        "a size such as 512MiB or 2GiB, or a number of bytes", size,
        "Memory for calibration, on top of the network's own, such as 512MiB or 2GiB", "2GiB",
    ),
    "threads": Option(
        f"a whole number of 0 to {most_threads()}", lambda value: whole(0, most_threads())(value),
        f"Number of threads for the runtime and for linear algebra; 0 for all cores. At most {THREADS_OF_A_CORE} for "
        f"each core of the machine, or {ALWAYS_THREADS}", 0, least=0, read=whole_of,
    ),
    "provider": Option(
        WORDS, is_provider,
        "Where the networks run, with options of onnxruntime as in cuda:device_id=1,use_tf32=1", "cpu",
        names={
            "cpu": ("CPU", "This machine's processors."),
            "cuda": ("CUDA", "An NVIDIA GPU; a service has a separate queue for it."),
        },
    ),
    "sample": _count("Which sample to draw, counted from 0", 0, LARGEST - 1, 0),
    "neurons": _count(
        "Neurons to draw of each site, chosen at random. If not given: as many as fit into a picture of all sites",
        1, MOST_NEURONS,
    ),
    "site": Option("the name of a site", text, "Which site to draw, by the name that `graphpass inspect` prints"),
    "channel": _count("Which channel of the site to draw, from 0. If not given: some of its channels", 0, LARGEST - 1),
    "preset": Option(
        f"the name of a preparation: {', '.join(PRESETS)}", lambda value: text(value) and value in PRESETS,
        "How images are prepared: the name of the dataset that the network was trained on", names=PRESETS,
    ),
    "preprocess": Option(
        "a preprocessor_config.json, or in Python its contents", text_or_mapping,
        "How images are prepared: the preprocessor_config.json of an image processor of Hugging Face",
    ),
    "image_size": _count(
        "Side of images in pixels, for a folder of images, if the model leaves it open", 1, LARGEST_IMAGE, 224
    ),
    "mean": Option(
        IMAGE_NUMBERS, one_or_several(number(-math.inf)), f"Mean to subtract from pixels/255: {IMAGE_NUMBERS}", 0.0
    ),
    "std": Option(
        f"{IMAGE_NUMBERS}, above 0", one_or_several(number(math.ulp(0.0))),
        f"Standard deviation to divide by after that: {IMAGE_NUMBERS}", 1.0
    ),
}  # fmt: skip

SELECTION = ("include", "exclude", "identity_sites")
IMAGES = ("preset", "preprocess", "image_size", "mean", "std")
BUDGETS = ("energy", "mean_levels")
AFTERWARDS = ("metric", "energy_model")  # of a conversion: what the evaluation after it does
SEARCH = ("max_drop", "minimise", "cache")
WORK = ("seed", "memory_budget", "threads")
RANKING = ("time_steps", "coding", "method", "limit", *WORK)  # of sites, with calibration data
# command → its options; in a sweep, those of SEVERAL are lists
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "inspect": (*SELECTION, *RANKING, *IMAGES),
    "convert": (
        *(
            "time_steps",
            "coding",
            "method",
            "form",
            "precision",
            "target",
            "levels",
            *BUDGETS,
            "synthetic",
            *SELECTION,
            "allow_partial",
        ),
        *("limit", *WORK, *IMAGES, *AFTERWARDS, *SEARCH),
    ),
    "search": (
        *("time_steps", "coding", "method", "form", "precision", "target", *SELECTION, "allow_partial", "limit"),
        *(*AFTERWARDS, *WORK, *IMAGES, *SEARCH),
    ),
    "evaluate": (*AFTERWARDS, "limit", "threads", "provider", *IMAGES),
    "sweep": (
        *("time_steps", "coding", "method", *SELECTION, "allow_partial", *AFTERWARDS),
        *("calibration_limit", "limit"),
        *(*WORK, *IMAGES, "cache"),
    ),
    "verify": ("limit", "threads", *IMAGES),
    "plot_raster": ("sample", "neurons", "threads", *IMAGES),
    "plot_thresholds": ("site", "channel", "limit", "threads", *IMAGES),
    "open_dataset": IMAGES,  # from Python alone
}
SEVERAL = ("time_steps", "coding", "method")
LISTS = ("include", "exclude", "metric", "mean", "std")  # of one value or of several; a service takes lists alone


def form_words(form: str, precision: str | None = None, target: str | None = None) -> str:
    """A form as texts name it; None is the default.

    >>> form_words("folded", "float16"), form_words("integer", target="tensorrt"), form_words("folded form")
    ('folded in float16', 'integer for tensorrt', 'folded form')
    """
    said = [("in", "precision", precision), ("for", "target", target)]
    return " ".join([form, *(f"{word} {v}" for word, name, v in said if v not in (None, OPTIONS[name].default))])


def is_default(name: str, value: Any) -> bool:
    """Whether a value is the option's default, alone or as the only one of a list."""
    items = items_of(value)
    only = items[0] if items and len(items) == 1 else value
    return type(only) is type(OPTIONS[name].default) and only == OPTIONS[name].default
