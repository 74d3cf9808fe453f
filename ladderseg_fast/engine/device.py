"""Where a model runs."""

import torch


def find_device(name: str) -> torch.device:
    """The device called "cpu", "cuda" or "cuda:N".

    Raises:
        ValueError: another name, or no such device in this machine.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f'device must be "cpu", "cuda" or "cuda:N", got {name!r}') from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f'device must be "cpu", "cuda" or "cuda:N", got {name!r}')
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} is not available: torch finds {torch.cuda.device_count()} CUDA devices")
    return device
