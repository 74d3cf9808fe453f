"""An exported model in onnxruntime, against the model that it was made from."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .graph import ExportedNetwork
from .images import Pixels

#: Largest difference of a score, as a share of the largest score.
TOLERANCE = 1e-4


@torch.no_grad()
def compare(content: bytes, network: ExportedNetwork, pixels: Pixels | None) -> None:
    """Runs the ONNX file `content` on random images of two sizes, and compares it with `network`.

    Scores may differ by `TOLERANCE` times the largest of them. Labels must be the same wherever the two best scores are
    further apart than twice that.

    Raises:
        RuntimeError: they differ.
    """
    session = _session(content)
    model = network.network
    device, least = next(model.parameters()).device, model.min_size
    scores = ExportedNetwork(model, "logits", pixels).eval()
    generator = torch.Generator().manual_seed(0)
    for batch, height, width in ((1, least + 1, 2 * least + 35), (2, 4 * least, 3 * least)):
        shape = batch, model.in_channels, height, width
        images = torch.randn(shape, generator=generator) if pixels is None else pixels.random(shape, generator)
        found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
        expected = scores(images.to(device)).cpu()
        difference = _difference(found, expected) if network.output == "logits" else _wrong_labels(found, expected)
        if difference is not None:
            raise RuntimeError(
                f"onnxruntime's result of the exported model is not the model's: {difference}, with random images of "
                f"shape {shape}"
            )


def _session(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _difference(found: Tensor, expected: Tensor) -> str | None:
    """Text about scores [N, K, H, W] that differ by more than allowed; None if they do not."""
    if found.shape != expected.shape:
        return f"shape {tuple(found.shape)} instead of {tuple(expected.shape)}"
    largest, allowed = (found - expected).abs().max().item(), _allowed(expected)
    if largest <= allowed:  # not for NaN
        return _wrong_labels(found.argmax(dim=1).to(torch.uint8), expected)
    return f"a score differs by {largest:.2g}, allowed is {allowed:.2g}"


def _wrong_labels(found: Tensor, scores: Tensor) -> str | None:
    """Text about labels [N, H, W] uint8 that contradict `scores` [N, K, H, W]; None if they do not."""
    expected = scores.argmax(dim=1).to(torch.uint8)
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return f"labels {found.dtype} {tuple(found.shape)} instead of {expected.dtype} {tuple(expected.shape)}"
    own = scores.gather(1, found.long().clamp(max=scores.shape[1] - 1)[:, None])[:, 0]
    wrong = ~(scores.amax(dim=1) - own <= 2.0 * _allowed(scores)) | (found >= scores.shape[1])
    count = int(np.count_nonzero(wrong.numpy()))
    return f"{count} of {wrong.numel()} labels are not of the best score" if count else None


def _allowed(scores: Tensor) -> float:
    return TOLERANCE * max(1.0, scores.abs().max().item())
