"""Architectures of Hugging Face transformers, converted by `graphpass.from_torch`: which converge.

    python -m benchmarks.transformer_models [NAME …]

Each is made small, with random weights of variance 1/inputs: what is asked here is whether its graph is understood.
Printed: sites and layers that spikes reach, and √(Σ(y − a)²/Σ(a − ā)²) between the first output y of the converted
network (256 levels, rate code) and that of the module, a, on the samples that it was calibrated on; then the same with
identity sites. Needs `pip install --group torch`.
"""

import argparse
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import graphpass
from benchmarks.results import table
from benchmarks.torch_models import away
from graphpass.errors import UnsupportedModelError

SAMPLES = 8
WORDS = 60
STEPS = 255  # between 256 levels
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
DECODER = {**SIZES, "num_key_value_heads": 1, "use_cache": False}
STAGES = {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1]}
ATTENTION = {**STAGES, "num_attention_heads": [1, 1, 2, 2]}
WAVES = {"conv_dim": [16, 16], "conv_stride": [5, 2], "conv_kernel": [10, 3], "num_feat_extract_layers": 2}
POSITIONS = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}


@dataclass(frozen=True)
class SmallModel:
    """A class of transformers by name, the arguments of its configuration, and its inputs by name: their shapes.

    An input of two axes whose name ends in `ids` holds words, and one that ends in `mask` ones.
    """

    model: str
    options: Mapping[str, Any]
    inputs: Mapping[str, tuple[int, ...]]


def text(model: str, mask: bool = True, **options: Any) -> SmallModel:
    """One that reads words."""
    shape = SAMPLES, 12
    inputs = {"input_ids": shape, "attention_mask": shape} if mask else {"input_ids": shape}
    return SmallModel(model, {"vocab_size": WORDS, **options}, inputs)


def image(model: str, side: int = 32, **options: Any) -> SmallModel:
    """One that reads images."""
    return SmallModel(model, options, {"pixel_values": (SAMPLES, 3, side, side)})


def patches(model: str, **options: Any) -> SmallModel:
    """One that reads images in patches."""
    return image(model, image_size=32, patch_size=8, **options)


ARCHITECTURES: Mapping[str, SmallModel] = {
    "BERT": text("BertForSequenceClassification", **SIZES),
    "RoBERTa": text("RobertaForSequenceClassification", **SIZES),
    "DistilBERT": text("DistilBertForSequenceClassification", dim=32, n_layers=2, n_heads=2, hidden_dim=64),
    "ALBERT": text("AlbertForSequenceClassification", embedding_size=16, **SIZES),
    "ELECTRA": text("ElectraForSequenceClassification", embedding_size=16, **SIZES),
    "DeBERTa-v2": text(
        "DebertaV2ForSequenceClassification", relative_attention=True, pos_att_type=["c2p", "p2c"], **SIZES
    ),
    "MPNet": text("MPNetForSequenceClassification", **SIZES),
    "SqueezeBERT": text(
        "SqueezeBertForSequenceClassification", embedding_size=32, q_groups=1, k_groups=1, v_groups=1, **SIZES
    ),
    "ModernBERT": text(
        "ModernBertForSequenceClassification",
        **{f"{name}_token_id": number for number, name in enumerate(("pad", "bos", "eos", "cls", "sep"))},
        **SIZES,
    ),
    "FNet": text("FNetForSequenceClassification", mask=False, hidden_size=32, num_hidden_layers=2),
    "T5 (encoder)": text("T5EncoderModel", mask=False, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2),
    "GPT-2": text("GPT2LMHeadModel", mask=False, n_embd=32, n_layer=2, n_head=2, use_cache=False),
    "OPT": text(
        "OPTForCausalLM", hidden_size=32, num_hidden_layers=2, num_attention_heads=2, ffn_dim=64,
        word_embed_proj_dim=32, use_cache=False,
    ),
    "BLOOM": text("BloomForCausalLM", mask=False, hidden_size=32, n_layer=2, n_head=2, use_cache=False),
    "Phi": text("PhiForCausalLM", mask=False, use_cache=False, **SIZES),
    "Llama": text("LlamaForCausalLM", mask=False, **DECODER),
    "Qwen3": text("Qwen3ForCausalLM", mask=False, head_dim=16, **DECODER),
    "Gemma": text("GemmaForCausalLM", mask=False, head_dim=16, **DECODER),
    "Mamba": text("MambaForCausalLM", mask=False, hidden_size=32, num_hidden_layers=2, use_cache=False),
    "ViT": patches("ViTForImageClassification", **SIZES),
    "DeiT": patches("DeiTForImageClassification", **SIZES),
    "BEiT": patches("BeitForImageClassification", **SIZES),
    "DINOv2": patches("Dinov2ForImageClassification", hidden_size=32, num_hidden_layers=2, num_attention_heads=2),
    "CLIP (vision)": patches("CLIPVisionModel", **SIZES),
    "SigLIP (vision)": patches("SiglipVisionModel", **SIZES),
    "YOLOS": image("YolosForObjectDetection", image_size=[32, 32], patch_size=8, num_detection_tokens=5, **SIZES),
    "Swin": image(
        "SwinForImageClassification",
        image_size=32, patch_size=2, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4,
    ),
    "Swin v2": image(
        "Swinv2ForImageClassification",
        image_size=32, patch_size=2, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4,
    ),
    "Hiera": image(
        "HieraForImageClassification",
        image_size=[32, 32], embed_dim=16, depths=[1, 1], num_heads=[1, 2], patch_size=[7, 7], patch_stride=[4, 4],
        patch_padding=[3, 3], masked_unit_size=[4, 4], query_stride=[2, 2], num_query_pool=1,
    ),
    "ConvNeXt": image("ConvNextForImageClassification", hidden_sizes=[16, 32], depths=[1, 1], num_stages=2),
    "ConvNeXt v2": image("ConvNextV2ForImageClassification", hidden_sizes=[16, 32], depths=[1, 1], num_stages=2),
    "ResNet": image("ResNetForImageClassification", embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1]),
    "BiT": image("BitForImageClassification", embedding_size=32, hidden_sizes=[32, 64], depths=[1, 1], num_groups=8),
    "RegNet": image(
        "RegNetForImageClassification", embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], groups_width=8
    ),
    "MobileNet v1": image("MobileNetV1ForImageClassification", image_size=32, depth_multiplier=0.25),
    "MobileNet v2": image("MobileNetV2ForImageClassification", image_size=32, depth_multiplier=0.25),
    "MobileViT": image(
        "MobileViTForImageClassification",
        64, image_size=64, hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 16, 16, 24, 32, 64],
        num_attention_heads=2,
    ),
    "FocalNet": image(
        "FocalNetForImageClassification",
        image_size=32, embed_dim=16, depths=[1, 1], focal_levels=[2, 2], focal_windows=[3, 3], hidden_sizes=[16, 32],
    ),
    "PoolFormer": image("PoolFormerForImageClassification", 64, **STAGES),
    "PVT": image("PvtForImageClassification", 64, image_size=64, **ATTENTION),
    "LeViT": image(
        "LevitForImageClassification",
        64, image_size=64, hidden_sizes=[16, 24, 32], num_attention_heads=[2, 3, 4], depths=[1, 1, 1],
        key_dim=[8, 8, 8],
    ),
    "SegFormer": image("SegformerForSemanticSegmentation", 64, decoder_hidden_size=16, **ATTENTION),
    "GLPN": image("GLPNForDepthEstimation", 64, decoder_hidden_size=16, **ATTENTION),
    "Swin2SR": image(
        "Swin2SRForImageSuperResolution", 16, image_size=16, embed_dim=16, depths=[1], num_heads=[2], window_size=4
    ),
    "TimeSformer": SmallModel(
        "TimesformerForVideoClassification",
        {"image_size": 32, "patch_size": 8, "num_frames": 4, **SIZES},
        {"pixel_values": (SAMPLES, 4, 3, 32, 32)},
    ),
    "ViViT": SmallModel(
        "VivitForVideoClassification",
        {"image_size": 32, "num_frames": 4, "tubelet_size": [2, 8, 8], **SIZES},
        {"pixel_values": (SAMPLES, 4, 3, 32, 32)},
    ),
    "wav2vec 2.0": SmallModel(
        "Wav2Vec2ForCTC", {"vocab_size": 20, **WAVES, **POSITIONS, **SIZES}, {"input_values": (SAMPLES, 800)}
    ),
    "HuBERT": SmallModel(
        "HubertForCTC", {"vocab_size": 20, **WAVES, **POSITIONS, **SIZES}, {"input_values": (SAMPLES, 800)}
    ),
    "AST": SmallModel(
        "ASTForAudioClassification",
        {"max_length": 64, "num_mel_bins": 32, **SIZES},
        {"input_values": (SAMPLES, 64, 32)},
    ),
    "PatchTST": SmallModel(
        "PatchTSTForPrediction",
        {
            "num_input_channels": 2, "context_length": 32, "patch_length": 8, "patch_stride": 8, "prediction_length": 8,
            "d_model": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 32,
        },
        {"past_values": (SAMPLES, 32, 2)},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """sites; spiking: weight layers that spikes reach, of how many; error: None where nothing converts."""

    sites: int = 0
    spiking: str = ""
    error: float | None = None


def build(architecture: SmallModel) -> tuple[Any, dict[str, Any]]:
    """The module with random weights, and its inputs."""
    import torch
    import transformers

    torch.manual_seed(0)
    kind = getattr(transformers, architecture.model)
    module = kind(kind.config_class(**architecture.options)).eval()
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim > 1:
                weight.normal_(0, weight[0].numel() ** -0.5)
    return module, {name: _made_up(name, shape) for name, shape in architecture.inputs.items()}


def _made_up(name: str, shape: tuple[int, ...]) -> Any:
    import torch

    if name.endswith("mask"):
        return torch.ones(shape, dtype=torch.long)
    return torch.randint(5, WORDS, shape) if name.endswith("ids") else torch.randn(shape)


def measured(architecture: SmallModel, **options: Any) -> Outcome:
    """Convert it and compare. options: of from_torch."""
    import torch

    module, inputs = build(architecture)
    samples = [{name: values[number] for name, values in inputs.items()} for number in range(SAMPLES)]
    two = {name: values[:2] for name, values in inputs.items()}
    try:
        made = graphpass.from_torch(module, two, samples, time_steps=STEPS, threads=1, **options)
    except UnsupportedModelError:
        return Outcome()
    with torch.no_grad():
        expected = first(module(**inputs)).numpy()
    found = first(made.to_torch(threads=1)(**inputs)).numpy()
    coverage = made.network.coverage
    return Outcome(
        len(made.plan.sites),
        f"{coverage.spiking_layers} of {coverage.weight_layers}",
        away(found, expected),
    )


def first(outputs: Any) -> Any:
    """The first tensor among outputs of any kind."""
    while not hasattr(outputs, "shape"):
        outputs = next(iter(outputs.values() if isinstance(outputs, Mapping) else outputs))
    return outputs


def row(name: str, architecture: SmallModel) -> tuple[object, ...]:
    """A row of the table."""
    cells: list[object] = [name, f"`{architecture.model}`"]
    for options in ({}, {"identity_sites": True}):
        found = measured(architecture, **options)
        share = "–" if found.error is None else f"{100 * found.error:.2f}"
        cells += [found.sites or "–", found.spiking or "–", share]
    return tuple(cells)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ARCHITECTURES)}; default all")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    header = ("architecture", "class", "sites", "layers", "error %", "sites", "layers", "error %")
    table(header, (row(name, ARCHITECTURES[name]) for name in given.names or ARCHITECTURES))


if __name__ == "__main__":
    main(sys.argv[1:])
