"""Check that a machine can hold the images of one batch at all."""

import math
import os

from ..memory import format_bytes
from .config import Config, decided


def check_images_fit(config: Config, processes: int = 1, here: int | None = None) -> None:
    """Raises ValueError if the images of one batch of the resolved `config` alone exceed the machine's memory.

    Systems promise more than they have, and end the process that takes it. Of the `processes` that share each batch,
    `here` are on this machine; None: all are.
    """
    here = processes if here is None else here
    batch, whole = config.training.batch, decided(config.data.size)
    size = config.data.crop or whole
    form = config.data.form
    # Drawing and scaling make at least one image at its whole size, in the bytes of its file, in each process; a batch
    # is of float32.
    images = batch // processes * math.prod(size) * form.bands * 4
    needed = max(images, math.prod(whole) * form.bytes_per_pixel) * here
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        share = "" if here == processes else f" in {here} of {processes} processes"
        raise ValueError(
            f"training.batch = {batch} at data.{'crop' if config.data.crop else 'size'} = {size[0]}x{size[1]} is "
            f"{format_bytes(needed)} for its images alone{share}, and this machine has {format_bytes(there)}"
        )
