"""The graph of torch's operators that is exported."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ... import ops
from ..network import Network
from .adaptive_pooling import average_bins
from .images import Normalise, Pixels

if TYPE_CHECKING:
    from torch.export import ExportedProgram

#: Functions whose operators ONNX has only for fixed sizes, by operators that it has for all.
_FOR_ALL_SIZES: dict[Callable[..., Any], Callable[..., Tensor]] = {F.adaptive_avg_pool2d: average_bins}


class _ForAllSizes(TorchFunctionMode):
    """Replaces functions where the graph is made, which is cheaper than a second trace that replaces operators."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _FOR_ALL_SIZES.get(func, func)(*args, **(kwargs or {}))


class ExportedNetwork(nn.Module):
    """The plain modules of `network`, from images to what `output` names.

    Args:
        output: "labels" [N, H, W] uint8, or "logits" [N, K, H, W].
        pixels: what the images are; None: normalised ones.
    """

    def __init__(self, network: Network, output: str, pixels: Pixels | None) -> None:
        super().__init__()
        self.network = network
        self.normalise = nn.Identity() if pixels is None else Normalise(pixels).to(next(network.parameters()).device)
        self.output = output

    def forward(self, images: Tensor) -> Tensor:
        scores = Network.forward(self.network, self.normalise(images)).logits
        size = images.shape[2], images.shape[3]
        if self.output == "labels":
            return ops.reference.upsample_argmax(scores, size)
        return F.interpolate(scores, size, mode="bilinear", align_corners=False)


@torch.no_grad()
def exported(network: ExportedNetwork, images: Tensor) -> "ExportedProgram":
    """Graph of `network` in evaluation mode, for any batch size, height and width.

    images: [N, C, H, W] to trace with, N at least 2. Torch notes, as conditions of the graph, that no map in the
    network has a side of one pixel if none has with these images. Where one has, the operators are the same.
    """
    from torch.export import Dim, export  # not above: it imports torch._dynamo, which takes a second

    sizes = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    with _ForAllSizes():
        return export(network, (images,), dynamic_shapes=(sizes,), strict=False)
