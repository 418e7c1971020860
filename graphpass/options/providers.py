"""Where networks run: `cpu`, `cuda`, or `cuda` with options of onnxruntime as in `cuda:device_id=1,use_tf32=1`.

The options are few and their values are checked, since the text may come from a user of a service: others of
onnxruntime's name addresses in memory, or need inputs that stay where they are. `graphpass.open_session` takes all.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphpass.options.values import SIZE, bytes_of, text

PROVIDERS: Mapping[str, tuple[str, ...] | None] = {  # of onnxruntime, by preference
    "cpu": None,
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
}


@dataclass(frozen=True)
class ProviderOption:
    """An option of onnxruntime's CUDA provider.

    words, pattern: its values. hosted: whether a service leaves it to its users. size: whether the value is a size, of
    which onnxruntime takes the bytes.
    """

    words: str
    pattern: str
    hosted: bool = False
    size: bool = False


CUDA_OPTIONS: Mapping[str, ProviderOption] = {
    "device_id": ProviderOption("the number of a GPU", "[0-9]{1,3}"),
    "use_tf32": ProviderOption("0 (the default here) or 1", "[01]", hosted=True),
    "cudnn_conv_algo_search": ProviderOption(
        "EXHAUSTIVE, HEURISTIC or DEFAULT", "EXHAUSTIVE|HEURISTIC|DEFAULT", hosted=True
    ),
    "gpu_mem_limit": ProviderOption("a size such as 8GiB", SIZE.pattern, size=True),
}
WORDS = f"cpu, cuda, or cuda with options as in cuda:device_id=1,use_tf32=1 ({', '.join(CUDA_OPTIONS)})"
# what a service takes
_HOSTED = "|".join(f"{name}=({known.pattern})" for name, known in CUDA_OPTIONS.items() if known.hosted)
HOSTED = rf"^(cpu|cuda(:({_HOSTED})(,({_HOSTED}))*)?)$"


def is_provider(value: Any) -> bool:
    """Whether the text names a provider, with options that it has, each once and with a value that it takes."""
    if not text(value):
        return False
    name, colon, rest = value.partition(":")
    if name not in PROVIDERS or (colon and name == "cpu"):
        return False
    given = [part.partition("=") for part in rest.split(",")] if colon else []
    keys = [key for key, _, _ in given]
    return len(set(keys)) == len(keys) and all(_takes(key, found) for key, _, found in given)


def _takes(key: str, value: str) -> bool:
    known = CUDA_OPTIONS.get(key)
    return known is not None and re.fullmatch(known.pattern, value) is not None


def provider_name(value: str) -> str:
    """The provider without its options.

    >>> provider_name("cuda:device_id=1")
    'cuda'
    """
    return value.partition(":")[0]


def runtime_providers(value: str) -> tuple[str | tuple[str, Mapping[str, str]], ...] | None:
    """A text that `is_provider` takes as onnxruntime's providers; None for the CPU alone.

    >>> runtime_providers("cuda:device_id=1")
    (('CUDAExecutionProvider', {'device_id': '1'}), 'CPUExecutionProvider')
    """
    name, _, rest = value.partition(":")
    providers = PROVIDERS[name]
    if providers is None or not rest:
        return providers
    given = dict(part.split("=", 1) for part in rest.split(","))
    options = {key: str(bytes_of(each)) if CUDA_OPTIONS[key].size else each for key, each in given.items()}
    return ((providers[0], options), *providers[1:])
