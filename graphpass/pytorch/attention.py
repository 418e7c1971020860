"""Attention with any number of leading axes, for PyTorch's exporter, which takes queries of four axes alone.

attention(q, k, v) [A, …, B, H, L, E] = attention of [A·…·B, H, L, E], its first axis split again
attention(q, k, v) [B, L, E]          = attention of [B, 1, L, E], without its second axis
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

AXES = 4


class FourAxes(TorchFunctionMode):  # type: ignore[misc]
    """Inside, scaled_dot_product_attention computes with queries, keys and values of four axes."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """See TorchFunctionMode."""
        attends = function is scaled_dot_product_attention
        return (_attention if attends else function)(*args, **(kwargs or {}))


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *more: Any, **named: Any
) -> Any:
    attend: Callable[..., Any] = scaled_dot_product_attention
    lead = query.shape[:-2]
    if query.ndim == AXES or key.shape[:-2] != lead or value.shape[:-2] != lead:
        return attend(query, key, value, attn_mask, *more, **named)
    if attn_mask is not None:
        attn_mask = _with_four(attn_mask.expand(*lead, query.shape[-2], key.shape[-2]))
    found = attend(*map(_with_four, (query, key, value)), attn_mask, *more, **named)
    return found.squeeze(1) if len(lead) == 1 else found.unflatten(0, lead[:-1])


def _with_four(tensor: Tensor) -> Tensor:
    return tensor.unsqueeze(1) if tensor.ndim < AXES else tensor.flatten(0, -AXES)
