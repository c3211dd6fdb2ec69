"""What a network is told by the shapes of its weights alone, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mrs.export.architectures import detect
from mrs.export.architectures.unet.config import Config
from mrs.export.architectures.unet.detection import infer_config
from mrs.export.architectures.unet.weights import weight_shapes
from mrs.export.checkpoint import read_checkpoint
from mrs.runtime.errors import CheckpointError, InputError
from tests.golden.networks import weights

PUBLISHED = {
    "irsde_unet_d2": Config(8, (8, 16, 32)),
    "irsde_unet_d4": Config(4, (4, 8, 16, 32, 64)),
    "daclip_unet_full": Config(
        32, (32, 32, 32, 32, 64), middle="transformer", transformers=1, context=32, prompt=True
    ),
    "daclip_unet_degra": Config(32, (32, 32), context=32, prompt=True),
    "daclip_unet_none": Config(32, (32, 32)),
    "daclip_unet_wild": Config(32, (32, 32, 32), middle="transformer", transformers=1, context=32, half=True),
    "unet_denoising": Config(8, (8, 16, 32), condition=False, middle="softmax"),
}  # fmt: skip
# As in the published settings: IR-SDE, its deshadowing, DA-CLIP, the one for wild pictures, denoising.
SETTINGS = [
    Config(64, (64, 128, 256, 512, 1024)),
    Config(32, (32, 64, 128, 256, 512, 1024)),
    Config(64, (64, 64, 128, 256, 512), middle="transformer", transformers=1, context=512, prompt=True),
    Config(64, (64, 64, 128, 256, 512), middle="transformer", transformers=1, context=768, half=True),
    Config(64, (64, 128, 256, 512, 1024), condition=False, middle="softmax"),
    Config(4, (4, 6), channels=1),
    Config(32, (32, 32, 64, 96), middle="transformer", context=5, transformers=2),
]


def claimed(config: Config) -> dict[str, Tensor]:
    """Weights without numbers."""
    return {key: torch.empty(shape, device="meta") for key, shape in weight_shapes(config).items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_checkpoints(tmp_path: Path, name: str) -> None:
    state = read_checkpoint(weights(f"{name}.pth", tmp_path)).state
    assert infer_config(state) == PUBLISHED[name]
    found = detect(state)
    assert found.name == "ConditionalUNet"
    assert found.to_dict() == vars(PUBLISHED[name])
    assert (found.multiple, found.padding) == (2 ** (len(PUBLISHED[name].widths) - 1), "reflect")


@pytest.mark.parametrize("config", SETTINGS, ids=str)
def test_published_settings(config: Config) -> None:
    assert infer_config(claimed(config)) == config


def test_parameters_of_the_published_sizes() -> None:
    # As counted in the published code.
    counts = [sum(value.numel() for value in claimed(config).values()) for config in SETTINGS[:4]]
    assert (counts[0], counts[2], counts[3]) == (137_147_523, 48_975_747, 49_470_467)


# Bytes of one pixel that OpenVINO needs beyond the weights, measured at 512x512 (IR-SDE of width 64 at 256x256).
MEASURED = [
    (Config(32, (32, 64, 128, 256, 512)), 1630),
    (SETTINGS[0], 2270),
    (Config(32, (32, 32, 64, 128, 256), middle="transformer", transformers=1, context=512, prompt=True), 1556),
    (SETTINGS[3], 1274),
    (Config(32, (32, 64, 128, 256, 512), condition=False, middle="softmax"), 1652),
]


@pytest.mark.parametrize(("config", "measured"), MEASURED, ids=str)
def test_memory_of_a_pixel_is_what_was_measured(config: Config, measured: int) -> None:
    assert measured <= config.bytes_per_pixel <= 1.25 * measured


# The same of other engines: the table of docs/plan.md.
MEASURED_ON = [
    ("onnxruntime", MEASURED[2][0], 3407), ("onnxruntime", MEASURED[0][0], 4655), ("torch", MEASURED[2][0], 2654),
]  # fmt: skip


@pytest.mark.parametrize(("engine", "config", "measured"), MEASURED_ON, ids=str)
def test_memory_of_a_pixel_on_other_engines(engine: str, config: Config, measured: int) -> None:
    counted = config.bytes_per_pixel_on[engine]
    assert max(measured, config.bytes_per_pixel) <= counted <= 1.35 * measured


def test_a_deeper_level_may_need_the_most_memory() -> None:
    # Tokens of a transformer at full resolution; a second level that is much wider than the first.
    plain, wide = Config(32, (32, 32)), Config(32, (32, 32, 4096))
    told = Config(32, (32, 32), middle="transformer", transformers=1, context=4)
    assert told.bytes_per_pixel == plain.bytes_per_pixel + 4 * 10 * 32
    assert wide.bytes_per_pixel == 4 * (256 + 4 * 32 + 4096) // 4


def test_summaries_say_what_a_network_is() -> None:
    assert [config.summary for config in SETTINGS[1:5]] == [
        "width 32, levels 32,64,128,256,512, middle 1024",
        "width 64, levels 64,64,128,256, middle 512, transformer in the middle and 1 levels, degradation prompt, "
        "context 512",
        "width 64, levels 64,64,128,256, middle 512, transformer in the middle and 1 levels, context 768, "
        "half resolution",
        "width 64, levels 64,128,256,512, middle 1024, no condition, softmax in the middle",
    ]


def test_weights_of_other_networks_are_none(golden) -> None:
    state = claimed(PUBLISHED["irsde_unet_d2"])
    assert infer_config(read_checkpoint(golden.weights).state) is None
    for part in ("init_conv", "final_conv", "mid_block1", "time_mlp"):
        assert infer_config({key: value for key, value in state.items() if not key.startswith(part)}) is None
    # The UNet of a latent pair has no time.
    assert infer_config({**state, "init_conv.weight": torch.zeros(8)}) is None


def test_a_network_for_stereo_pairs_is_refused_by_name(tmp_path: Path) -> None:
    state = read_checkpoint(weights("unet_stereo.pth", tmp_path)).state
    with pytest.raises(CheckpointError, match=r"that\.pth is a ConditionalUNet for stereo super-resolution, which is"):
        infer_config(state, "that.pth")


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("downs.1.", "every weight of downs.1"),
        ("downs.0.0.block1", r"downs\.0\.0\.block1\.proj\.weight is missing"),
        ("text_mlp", r"text_mlp\.0\.weight is missing"),
    ],
    ids=str,
)
def test_missing_weights_that_sizes_are_read_from(without: str, message: str) -> None:
    state = claimed(PUBLISHED["daclip_unet_full"])
    drop = (without, without.replace("downs.1.", "ups.1."))
    with pytest.raises(CheckpointError, match=rf"x is no ConditionalUNet: {message}"):
        infer_config({key: value for key, value in state.items() if not key.startswith(drop)}, "x")


@pytest.mark.parametrize(
    "change", [("missing", "final_conv.bias"), ("left over", "surplus"), ("misshapen", "ups.0.0.mlp.1.bias"),
               ("misshapen", "init_conv.weight"), ("misshapen", "ups.3.2.fn.norm.g")], ids=str,
)  # fmt: skip
def test_what_does_not_fit_is_named(tmp_path: Path, change: tuple[str, str]) -> None:
    state = dict(read_checkpoint(weights("daclip_unet_full.pth", tmp_path)).state)
    kind, key = change
    if kind == "missing":
        del state[key]
    else:
        state[key] = torch.zeros(1) if kind == "left over" else torch.zeros(32, 7, 7, 7)[..., :1]
    with pytest.raises(CheckpointError, match=key.replace(".", r"\.")):
        detect(state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 5, "widths": (5, 8)}, "width 5 is not an even number of at least 4"),
        ({"width": 2, "widths": (2, 8)}, "width 2 is not an even number of at least 4"),
        ({"widths": (8,)}, r"levels of \(8,\) channels are of no network of width 8"),
        ({"widths": (16, 32)}, r"levels of \(16, 32\) channels are of no network of width 8"),
        ({"widths": (8,) * 11}, "1 to 9 levels and the middle"),
        ({"widths": (8, 0)}, "not of 1 to 65536"),
        ({"channels": 0}, "0 channels"),
        ({"widths": (8, 1 << 17)}, "not of 1 to 65536"),
        ({"middle": "none"}, "use one of linear, softmax, transformer"),
        ({"transformers": 1}, "1 of 2 levels cannot have transformers"),
        ({"middle": "transformer", "context": 4, "widths": (8, 16, 48)}, "have no whole heads"),
        ({"middle": "transformer", "context": 4, "transformers": 1, "widths": (8, 16, 32)}, "have no whole heads"),
        ({"middle": "transformer", "transformers": 3, "widths": (8, 32, 32), "context": 4}, "3 of 2 levels"),
        ({"context": 4}, "a context of 4 numbers does not fit"),
        ({"prompt": True}, "a context of 0 numbers does not fit"),
    ],
    ids=str,
)  # fmt: skip
def test_sizes_that_no_network_has(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Config(**{"width": 8, "widths": (8, 16, 32), **options})
