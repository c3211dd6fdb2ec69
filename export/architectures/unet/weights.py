"""The names and shapes of a ConditionalUNet's weights. Knows no library."""

from __future__ import annotations

from mrs.export.architectures.unet.config import HEAD, HEADS, WIDENING, Config, block_names


def weight_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """The state dict's keys and shapes, without making a module: what a file claims may be of any size."""
    shapes = _Shapes(config)
    shapes.ends()
    shapes.blocks()
    shapes.levels()
    return shapes.found


class _Shapes:
    """Collects them part by part."""

    def __init__(self, config: Config) -> None:
        self.found: dict[str, tuple[int, ...]] = {}
        self.config = config

    def ends(self) -> None:
        """What is made of time, of features, and the convolutions at full resolution."""
        config, layer = self.config, self.layer
        layer("init_conv", config.width, config.channels * (1 + config.condition), 7, 7, bias=False)
        layer("final_conv", config.channels, config.width, 3, 3)
        layer("time_mlp.1", config.time, config.width)
        layer("time_mlp.3", config.time, config.time)
        if config.prompt:
            self.found["prompt"] = (1, config.time)
            layer("text_mlp.0", config.time, config.context)
            layer("text_mlp.2", config.time, config.time)
            layer("prompt_mlp", config.time, config.time)
        if config.half:
            layer("downsample", config.width, config.width, 4, 4)
            layer("upsample.1", config.width, config.width, 3, 3)

    def blocks(self) -> None:
        """The residual blocks."""
        for name, channels, made in block_names(self.config):
            self.layer(f"{name}.mlp.1", 2 * made, self.config.time)
            self.layer(f"{name}.block1.proj", made, channels, 3, 3, bias=False)
            self.layer(f"{name}.block2.proj", made, made, 3, 3, bias=False)
            if channels != made:
                self.layer(f"{name}.res_conv", made, channels, 1, 1, bias=False)

    def levels(self) -> None:
        """What attends, and what leads from one resolution to the next."""
        widths, last = self.config.widths, self.config.levels - 1
        self.attention("mid_attn.fn", widths[-1], self.config.middle)
        for level in range(self.config.levels):
            outer, inner, up = widths[level], widths[level + 1], last - level
            kind = "transformer" if level >= self.config.first_transformer else "linear"
            self.attention(f"downs.{level}.2.fn", outer, kind)
            self.attention(f"ups.{up}.2.fn", inner, kind)
            if level == last:
                self.layer(f"downs.{level}.3", inner, outer, 3, 3, bias=False)
            else:
                self.layer(f"downs.{level}.3", inner, outer, 4, 4)
            if level == 0:
                self.layer(f"ups.{up}.3", outer, inner, 3, 3, bias=False)
            else:
                self.layer(f"ups.{up}.3.1", outer, inner, 3, 3)

    def attention(self, name: str, channels: int, kind: str) -> None:
        """One of a kind that `Config` knows."""
        self.found[f"{name}.norm.g"] = (1, channels, 1, 1)
        if kind == "transformer":
            self.transformer(f"{name}.fn", channels)
            return
        self.layer(f"{name}.fn.to_qkv", 3 * HEADS * HEAD, channels, 1, 1, bias=False)
        out = f"{name}.fn.to_out.0" if kind == "linear" else f"{name}.fn.to_out"
        self.layer(out, channels, HEADS * HEAD, 1, 1)
        if kind == "linear":
            self.found[f"{name}.fn.to_out.1.g"] = (1, channels, 1, 1)

    def transformer(self, name: str, channels: int) -> None:
        """One block between two layers for each pixel."""
        block = f"{name}.transformer_blocks.0"
        self.norm(f"{name}.norm", channels)
        self.layer(f"{name}.proj_in", channels, channels, 1, 1)
        self.layer(f"{name}.proj_out", channels, channels, 1, 1)
        for attention, told in (("attn1", channels), ("attn2", self.config.context)):
            self.layer(f"{block}.{attention}.to_q", channels, channels, bias=False)
            self.layer(f"{block}.{attention}.to_k", channels, told, bias=False)
            self.layer(f"{block}.{attention}.to_v", channels, told, bias=False)
            self.layer(f"{block}.{attention}.to_out.0", channels, channels)
        self.layer(f"{block}.ff.net.0.proj", 2 * WIDENING * channels, channels)
        self.layer(f"{block}.ff.net.2", channels, WIDENING * channels)
        for norm in ("norm1", "norm2", "norm3"):
            self.norm(f"{block}.{norm}", channels)

    def norm(self, name: str, channels: int) -> None:
        """Gain and bias."""
        self.found |= {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}

    def layer(self, name: str, *shape: int, bias: bool = True) -> None:
        """A matrix or convolution."""
        self.found[f"{name}.weight"] = shape
        if bias:
            self.found[f"{name}.bias"] = shape[:1]
