"""Choice of the device on which a model runs, or of several."""

import torch

#: The name of the GPU, or of the CPU where there is none.
AUTO = "auto"

_EXPECTED = 'device must be "auto", "cpu", "cuda" or "cuda:N"'


def find_device(name: str) -> torch.device:
    """Device called "cpu", "cuda" or "cuda:N"; AUTO gives "cuda" if torch finds a GPU, otherwise "cpu".

    Raises:
        ValueError: the name is another one, or this machine has no such device.
    """
    if "," in name:
        raise ValueError(f"one device is expected here, got {name!r}: only a training can have several")
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


def find_devices(names: str) -> list[torch.device]:
    """Devices of a text such as "cuda:0,cuda:1"; of each name, see find_device.

    Raises:
        ValueError: as find_device; or they are of different kinds, or "auto" is one of several.
    """
    devices = [find_device(name) for name in names.split(",")]
    if len(devices) > 1 and (AUTO in names.split(",") or len({device.type for device in devices}) > 1):
        raise ValueError(f"several devices must be of one kind, such as cuda:0,cuda:1, got {names!r}")
    return devices
