"""The language model of the zoo: needs packages of the group `zoo`, and the download."""

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("gguf")

from benchmarks import llama  # noqa: E402
from benchmarks.assets import member  # noqa: E402
from benchmarks.torch_export import traced  # noqa: E402
from graphpass.runtime.session import open_session, run  # noqa: E402

SIZES = llama.Sizes(vocabulary=11, width=12, hidden=20, depth=2, heads=3, groups=1, base=1e4, epsilon=1e-5)


def small() -> llama.Llama:
    torch.manual_seed(0)
    return llama.Llama(SIZES).eval()


def test_a_token_sees_itself_and_those_before_it():
    tokens = torch.tensor([[1, 2, 3, 4, 5]])
    changed = torch.tensor([[1, 2, 3, 9, 5]])
    with torch.no_grad():
        one, other = small()(tokens), small()(changed)
    np.testing.assert_array_equal(one[:, :3], other[:, :3])
    assert (one[:, 3:] != other[:, 3:]).any(-1).all()


def test_rotations_keep_lengths_and_know_distances_alone():
    """q·k of two places depends on how far they are apart: 2 and 5 as 4 and 7."""
    cosines, sines = llama.Rotations(SIZES)(torch.zeros(1, 8, dtype=torch.int64))
    x, y = torch.randn(2, 1, 1, 1, 4).expand(2, 1, 1, 8, 4)
    q, k = llama.turned(x, (cosines, sines)), llama.turned(y, (cosines, sines))
    np.testing.assert_allclose(q.norm(dim=-1), x.norm(dim=-1), rtol=1e-5)  # float32 rounding, and below
    scores = (q @ k.transpose(2, 3))[0, 0]
    np.testing.assert_allclose(scores[2, 5], scores[4, 7], rtol=1e-4, atol=1e-5)


def test_the_export_is_the_module_for_any_sizes(tmp_path):
    model = small()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own exporter
        path = traced(model, torch.zeros(2, 8, dtype=torch.int64), tmp_path / "net.onnx", ("tokens", "logits"), "NS")
    tokens = np.random.default_rng(0).integers(0, 11, (3, 5))
    with torch.no_grad():
        expected = model(torch.from_numpy(tokens)).numpy()
    found = run(open_session(path), {"tokens": tokens})["logits"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)  # float32 sums in another order


@pytest.mark.slow
def test_smollm2_knows_what_comes_next():
    """The weights are where they belong."""
    from benchmarks.zoo import texts

    path = member("smollm2", "*.gguf")
    encoder, model = texts.from_gguf(path), llama.from_gguf(path).eval()
    for text, word in (("The capital of France is", "ĠParis"), ("The quick brown fox jumps over the lazy", "Ġdog")):
        with torch.no_grad():
            following = int(model(torch.tensor([encoder.encode(text).ids]))[0, -1].argmax())
        assert encoder.id_to_token(following) == word
