"""Execution providers with their options, as texts: for onnxruntime, and for a service."""

import re

import pytest
from pydantic import ValidationError

from graphpass.options.providers import CUDA_OPTIONS, HOSTED, provider_name, runtime_providers
from graphpass.options.table import OPTIONS
from service.api.requests import EvaluationOptions


def test_a_provider_with_its_options_as_onnxruntime_takes_them() -> None:
    assert runtime_providers("cpu") is None
    assert runtime_providers("cuda") == ("CUDAExecutionProvider", "CPUExecutionProvider")
    options = {"device_id": "1", "use_tf32": "0", "gpu_mem_limit": str(3 << 29)}
    given = runtime_providers("cuda:device_id=1,use_tf32=0,gpu_mem_limit=1.5GiB")
    assert given == (("CUDAExecutionProvider", options), "CPUExecutionProvider")
    assert [provider_name(text) for text in ("cpu", "cuda", "cuda:device_id=1", "")] == ["cpu", "cuda", "cuda", ""]


@pytest.mark.parametrize("name", CUDA_OPTIONS)
def test_a_service_takes_the_options_that_do_not_choose_its_machine(name: str) -> None:
    value = {"cudnn_conv_algo_search": "DEFAULT"}.get(name, "1")
    text = f"cuda:{name}={value}"
    assert OPTIONS["provider"].check(text)
    assert bool(re.match(HOSTED, text)) is CUDA_OPTIONS[name].hosted
    if CUDA_OPTIONS[name].hosted:
        assert EvaluationOptions(provider=text).provider == text
    else:
        with pytest.raises(ValidationError):
            EvaluationOptions(provider=text)
