"""Choice of the device on which a model runs."""

import torch

#: The name of the GPU, or of the CPU where there is none.
AUTO = "auto"

_EXPECTED = 'device must be "auto", "cpu", "cuda" or "cuda:N"'


def find_device(name: str) -> torch.device:
    """Device called "cpu", "cuda" or "cuda:N"; AUTO gives "cuda" if torch finds a GPU, otherwise "cpu".

    Raises:
        ValueError: the name is another one, or this machine has no such device.
    """
    if name == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"{_EXPECTED}, got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"{_EXPECTED}, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} is not available: torch finds {torch.cuda.device_count()} CUDA devices")
    return device
