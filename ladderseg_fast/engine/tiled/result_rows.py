"""Some rows of an image's results."""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ... import ops

#: Numbers in the class scores of a strip at the image's width.
_STRIP_VALUES = 2**21


class ResultRows:
    """Rows from `top` to before `bottom`, of which the labels and the probabilities are made when they are asked for.

    Args:
        top: the first row.
        scores: [1, K, n, w], interpolated to the rows' places but not yet along them.
        width: W of the image.
    """

    def __init__(self, top: int, scores: Tensor, width: int) -> None:
        self.top, self.bottom = top, top + scores.shape[2]
        self._scores, self._width = scores, width

    @cached_property
    def labels(self) -> np.ndarray:
        """Classes [n, W] uint8, the best of the upsampled scores."""
        return ops.upsample_argmax(self._scores, (self.bottom - self.top, self._width))[0].cpu().numpy()

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Softmax of the upsampled scores: [n, K, W] float16."""
        _, classes, rows, _ = self._scores.shape
        found = np.empty((rows, classes, self._width), np.float16)
        step = max(1, _STRIP_VALUES // (classes * self._width))
        for start in range(0, rows, step):
            part = self._scores[:, :, start : start + step]
            size = (part.shape[2], self._width)
            upsampled = interpolate(part, size, mode="bilinear", align_corners=False)
            # Along neighbours in memory, so that no pixel's bits depend on which rows are together.
            shares = upsampled[0].permute(1, 2, 0).contiguous().softmax(2)
            found[start : start + step] = shares.to(torch.float16).permute(0, 2, 1).cpu().numpy()
        return found
