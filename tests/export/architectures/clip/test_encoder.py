"""DA-CLIP's encoder gives the published features, and a file of anything else is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import mrs
from mrs.export.architectures.clip import Encoder, load_encoder, read_encoder
from mrs.export.architectures.clip.module import DACLIPEncoder
from mrs.runtime.errors import CheckpointError, InputError, MrsError
from tests.golden.networks import TOLERANCE, golden, weights

pytestmark = pytest.mark.usefixtures("one_thread")

# The heads that they were made with; the second has those of the rule.
HEADS = {"daclip_encoder_a": 2, "daclip_encoder_b": None}
ARCHS = {"daclip_encoder_a": Encoder(64, 3, 16, 64, 48, 2), "daclip_encoder_b": Encoder(128, 2, 8, 32, 32, 2)}
State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def close(output: Tensor, expected: Any) -> None:
    np.testing.assert_allclose(output.numpy(), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", HEADS)
def test_published_features(name: str, tmp_path: Path) -> None:
    encoder, arrays = mrs.load_encoder(weights(f"{name}.pt", tmp_path), HEADS[name]), golden(name)
    assert encoder.arch == ARCHS[name]
    assert not encoder.training
    image = torch.tensor(arrays["image"])
    shown, degradation = encoder(image)
    close(shown, arrays["image_features"])
    close(degradation, arrays["degra_features"])
    close(encoder.picture(image), arrays["image_features_nocontrol"])
    again, hiddens = encoder.control(image)
    close(again, arrays["degra_features"])
    close(torch.stack(hiddens).transpose(1, 2), arrays["control_hiddens"])
    # Pictures of a batch do not touch each other.
    close(encoder(image[1:])[0], arrays["image_features"][1:])


@pytest.mark.parametrize("arch", [*ARCHS.values(), Encoder(8, 1, 2, 2, 3, 8)], ids=str)
def test_the_shapes_are_those_of_the_module(arch: Encoder) -> None:
    with torch.device("meta"):
        state = DACLIPEncoder(arch).state_dict()
    assert arch.weight_shapes() == {key: tuple(value.shape) for key, value in state.items()}


def test_published_sizes() -> None:
    # ViT-B-32: 182.8 M of the checkpoint's numbers are needed.
    shapes = Encoder(768, 12, 32, 224, 512, 12).weight_shapes()
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 87_849_216 + 94_936_320


def state_of(tmp_path: Path) -> State:
    loaded: State = torch.load(weights("daclip_encoder_a.pt", tmp_path), weights_only=True)
    return loaded


def written(path: Path, state: Any) -> Path:
    torch.save(state, path)
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {key: value for key, value in state.items() if key.startswith("visual")},
        lambda state: {key: value for key, value in state.items() if not key.startswith("visual.")},
        lambda state: {key: value * torch.nan if key.startswith("clip.") else value for key, value in state.items()},
        lambda state: {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {key: value.clone() for key, value in state.items()},
    ],
    ids=["towers alone", "one copy of the picture's", "the text is nothing", "training's", "each by itself"],
)  # fmt: skip
def test_other_files_of_the_same_encoder(change: Callable[[State], Any], tmp_path: Path) -> None:
    encoder = load_encoder(written(tmp_path / "encoder.pt", change(state_of(tmp_path))), 2)
    arrays = golden("daclip_encoder_a")
    shown, degradation = encoder(torch.tensor(arrays["image"]))
    close(shown, arrays["image_features"])
    close(degradation, arrays["degra_features"])


def test_of_two_copies_the_published_loader_ends_with_visual(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    state = {key: torch.zeros_like(value) if key.startswith("clip.visual.") else value for key, value in state.items()}
    encoder = load_encoder(written(tmp_path / "encoder.pt", state), 2)
    arrays = golden("daclip_encoder_a")
    close(encoder.picture(torch.tensor(arrays["image"])), arrays["image_features_nocontrol"])


ONE = "visual_control.transformer.transformer.resblocks.1.mlp.c_fc.weight"


def less(key: str) -> Callable[[State], Any]:
    """What takes all weights away whose keys begin so."""
    return lambda state: [state.pop(other) for other in list(state) if other.startswith(key)]


@pytest.mark.parametrize(
    ("change", "heads", "kind", "named"),
    [
        (less("visual_control."), 2, CheckpointError, r"is no DA-CLIP encoder: it lacks visual_control\.conv1\.weight"),
        (less(ONE), 2, CheckpointError, f"does not fit DA-CLIP encoder; missing: {ONE}"),
        (less("visual.ln_post.bias"), 2, CheckpointError, r"missing: visual\.ln_post\.bias"),
        (less("visual_control.transformer.transformer.resblocks.1."), 2, CheckpointError, "left over: "),
        (lambda state: state.update(extra=torch.zeros(1)), 2, CheckpointError, "left over: extra"),
        (lambda state: state.update({ONE: torch.zeros(3)}), 2, CheckpointError, r"shape: .*c_fc\.weight is \(3,\)"),
        (lambda state: state[ONE].fill_(torch.nan), 2, CheckpointError, f"NaN or infinite: {ONE}"),
        (
            lambda state: state.update({"visual_control.positional_embedding": torch.zeros(16, 64)}),
            2, CheckpointError, "16 tokens are no square of patches and one",
        ),
        (
            lambda state: state.update({"visual_control.conv1.weight": torch.zeros(64, 3, 0, 0)}),
            2, CheckpointError, "is no DA-CLIP encoder: .* has a size below 1",
        ),
        (
            lambda state: state.update({"visual_control.conv1.weight": torch.zeros(96, 3, 16, 16)}),
            None, InputError, "width of 96 is no multiple of 64 .*give the number of heads",
        ),
        (lambda state: None, 3, InputError, "3 heads do not divide the encoder's width of 64 "),
        (lambda state: None, 0, InputError, "0 heads do not divide"),
    ],
    ids=[
        *("no control tower", "a missing weight", "a missing norm", "a missing block", "a weight more", "a shape"),
        *("NaN", "no square", "no patch", "no rule", "heads that do not divide", "no heads"),
    ],
)  # fmt: skip
def test_what_is_no_encoder_is_refused(
    change: Callable[[State], Any], heads: int | None, kind: type[MrsError], named: str, tmp_path: Path
) -> None:
    state = {key: value.clone() for key, value in state_of(tmp_path).items()}
    change(state)
    with pytest.raises(kind, match=named) as caught:
        read_encoder(written(tmp_path / "encoder.pt", state), heads)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 3, 64, 32), (1, 1, 64, 64)], ids=str)
def test_an_image_of_another_size(shape: tuple[int, ...], tmp_path: Path) -> None:
    encoder = load_encoder(weights("daclip_encoder_a.pt", tmp_path), 2)
    with pytest.raises(InputError, match=r"an image of .* is none for this encoder \(give \(B, 3, 64, 64\)\)"):
        encoder(torch.zeros(shape))


def test_heads_matter(tmp_path: Path) -> None:
    arrays = golden("daclip_encoder_a")
    other = load_encoder(weights("daclip_encoder_a.pt", tmp_path))
    assert other.arch.heads == 1
    assert np.abs(other(torch.tensor(arrays["image"]))[0].numpy() - arrays["image_features"]).max() > 0.01
