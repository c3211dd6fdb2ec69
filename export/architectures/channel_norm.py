"""The norm over the channels of each pixel, which both kinds of network have, in the forms that engines run fastest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mrs.export.graph_variant import GraphVariant
from mrs.export.onnx_writer import F32, Emitter
from mrs.runtime.backends.protocol import MEANS

# The published norm uses 1e-5 in float32 and 1e-3 in any other dtype, so that casting a network changes its function.
# Every checkpoint was trained in float32: pin its value.
NORM_EPS = 1e-5


class NormEmitter(Emitter):
    """An emitter with this norm in one variant."""

    def __init__(self, state: Mapping[str, F32], variant: GraphVariant) -> None:
        super().__init__(state)
        self.variant = variant

    def normalised(self, x: str, channels: int) -> str:
        """x less its mean, by its deviation: without a gain."""
        if self.variant.norm == "layernorm":
            y = self("Transpose", x, perm=[0, 2, 3, 1])
            y = self("LayerNormalization", y, self.constant(np.ones(channels, np.float32)), axis=-1, epsilon=NORM_EPS)
            return self("Transpose", y, perm=[0, 3, 1, 2])
        mean = self._mean(x, channels)
        centred = self("Sub", x, mean)
        if self.variant.norm == "raw":
            variance = self("Sub", self._mean_square(x, channels), self("Mul", mean, mean))
            # Rounding may leave a little less than nothing, which has no root.
            variance = self("Max", variance, self.number(0))
        elif self.variant.norm == "length":
            variance = self._mean_square(centred, channels)
        else:
            variance = self._mean(self("Mul", centred, centred), channels)
        return self("Div", centred, self("Sqrt", self("Add", variance, self.number(NORM_EPS))))

    def _mean(self, x: str, channels: int) -> str:
        """The mean over the channels."""
        if self.variant.norm in ("convolution", "raw"):
            weight = self.weight(f"{MEANS}{channels}", np.full((1, channels, 1, 1), 1 / channels, np.float32))
            return self("Conv", x, weight, kernel_shape=[1, 1], pads=[0] * 4, strides=[1, 1], group=1)
        return self("ReduceMean", x, self.whole(1), keepdims=1)

    def _mean_square(self, x: str, channels: int) -> str:
        """The mean square over the channels, without a tensor of squares."""
        length = self("ReduceL2", x, self.whole(1), keepdims=1)
        return self("Mul", self("Mul", length, length), self.number(1 / channels))
