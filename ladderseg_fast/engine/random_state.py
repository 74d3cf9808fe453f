"""States of all random number generators that a training may use, as plain values for a checkpoint."""

import random
from typing import Any

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Starts the generators of Python, NumPy and torch from `seed`."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def get_random_states() -> dict[str, Any]:
    """Present states of all generators."""
    numpy = np.random.get_state(legacy=False)
    keys, position = numpy["state"]["key"], numpy["state"]["pos"]
    return {
        "python": random.getstate(),
        "numpy": [
            numpy["bit_generator"],
            torch.from_numpy(keys.astype(np.int64)),
            position,
            numpy["has_gauss"],
            numpy["gauss"],
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Restores the result of get_random_states; states of CUDA devices that do not exist here are passed over.

    Raises:
        ValueError: `states` are not such a result.
    """
    try:
        random.setstate(states["python"])
        name, keys, position, has_gauss, gauss = states["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
        torch.set_rng_state(states["torch"])
        cuda = states["cuda"][: torch.cuda.device_count()]
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"no states of random number generators ({error})") from error
    for device, state in enumerate(cuda):
        torch.cuda.set_rng_state(state, device)
