"""Networks of transformers, torchvision and timm with random weights: close with many levels, same bytes twice."""

import numpy as np
import pytest

import graphpass
from benchmarks import torch_models
from benchmarks.torch_models import away
from benchmarks.transformer_models import ARCHITECTURES, measured

torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install --group torch)")
transformers = pytest.importorskip("transformers")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def test_a_resnet_by_its_processor() -> None:
    torch.manual_seed(0)
    config = transformers.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic")
    module = transformers.ResNetForImageClassification(config)
    random = np.random.default_rng(0)
    photos = [random.integers(0, 256, (50, 60, 3), np.uint8) for _ in range(12)]
    processor = transformers.ConvNextImageProcessorPil(size={"shortest_edge": 48})
    from PIL import Image

    items = [{"pixel_values": Image.fromarray(photo)} for photo in photos]
    made = graphpass.from_torch(
        module, {"pixel_values": torch.zeros(2, 3, 48, 48)}, items, preprocess=processor.to_dict(), time_steps=255,
        method="max", threads=1,
    )  # fmt: skip
    inputs = processor(photos, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = module.eval()(inputs).logits
    assert away(made.to_torch(threads=1)(pixel_values=inputs).numpy(), expected.numpy()) < 0.05


def test_a_bert_on_texts() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    module = transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=50, **sizes))
    tokens = torch.randint(0, 50, (16, 10), generator=torch.Generator().manual_seed(0))
    example = {"input_ids": tokens[:2], "attention_mask": torch.ones(2, 10, dtype=torch.long)}
    items = [{"input_ids": each, "attention_mask": [1] * 10, "label": 0} for each in tokens.tolist()]
    made = graphpass.from_torch(module, example, items, time_steps=255, method="max", threads=1)
    masks = torch.ones_like(tokens)
    with torch.no_grad():
        expected = module.eval()(input_ids=tokens, attention_mask=masks).logits
    found = made.to_torch(threads=1)(input_ids=tokens, attention_mask=masks)
    assert away(found.numpy(), expected.numpy()) < 0.05


FEW = ("DistilBERT", "Llama", "Hiera", "SegFormer", "wav2vec 2.0")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_is_converted_and_close(name: str, request: pytest.FixtureRequest) -> None:
    """Gated networks have no site that reaches a layer, and are refused without identity sites."""
    if request.config.option.explore == 1 and name not in FEW:
        pytest.skip("one of the architectures that --explore 1 leaves out")
    plain, identities = (measured(ARCHITECTURES[name], **options) for options in ({}, {"identity_sites": True}))
    assert plain.error is None or plain.error < 0.02
    assert identities.error is not None and identities.error < 0.03 and identities.sites >= plain.sites


@pytest.mark.parametrize(
    ("library", "name"), [("torchvision", "mobilenet_v3_small"), ("torchvision", "resnet18"), ("timm", "lcnet_050")]
)
def test_an_untrained_network_gives_the_same_bytes_twice(library: str, name: str) -> None:
    pytest.importorskip(library)
    (module, _), images = torch_models.build(library, name), torch.randn(8, 3, 64, 64)
    made = [graphpass.from_torch(module, images[:2], images, method="max", threads=1) for _ in range(2)]
    again = graphpass.convert(made[0].network, images, method="max", threads=1)
    texts = {each.proto.SerializeToString(deterministic=True) for each in (*made, again)}
    assert len(texts) == 1
