"""The sampler's work between two network evaluations as Triton kernels: one launch each, the fewest bytes possible.

One restore is `start`, then for each step but the last the network and `step`, then the network and `finish`; with the
dynamic threshold, `threshold` before every `step` and before `finish`; for networks that were trained with reflected
padding, `mirror` before every evaluation; for those that are told of the whole picture, `scale` before the first.
`audit` finds out whether numbers are finite.
docs/kernels.md derives what they compute and counts the bytes; `reference` states it in NumPy. Importing this package
loads triton, not torch.
"""

from mrs.kernels.gpu.audit import audit
from mrs.kernels.gpu.finish import finish
from mrs.kernels.gpu.mirror import mirror
from mrs.kernels.gpu.scale import scale
from mrs.kernels.gpu.start import start
from mrs.kernels.gpu.step import step
from mrs.kernels.gpu.tables import key, records
from mrs.kernels.gpu.threshold import threshold, workspace

__all__ = ["audit", "finish", "key", "mirror", "records", "scale", "start", "step", "threshold", "workspace"]
