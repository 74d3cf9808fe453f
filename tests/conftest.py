"""What all tests share: two threads and one seed, so that a failure repeats; and the emulation, if asked for."""

import emulation
import pytest
import torch

torch.set_num_threads(2)

if emulation.CHOICE:
    emulation.start()


def pytest_report_header() -> str | None:
    if emulation.CHOICE:
        return f"CUDA kernels on the CPU: emulating {emulation.CHOICE}, seed {emulation.SEED}"
    return None


@pytest.fixture(autouse=True)
def seed() -> None:
    """Every test starts from the same random state."""
    torch.manual_seed(0)
