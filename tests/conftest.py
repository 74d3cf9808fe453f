"""What all tests share: two threads and one seed, so that a failure repeats."""

import pytest
import torch

torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def seed() -> None:
    """Every test starts from the same random state."""
    torch.manual_seed(0)
