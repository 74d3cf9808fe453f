"""Learning rate over the course of a training."""


def learning_rate_factor(step: int, steps: int, power: float = 1.5, warmup_steps: int = 0) -> float:
    """Factor of the learning rate in step 0 <= `step` < `steps`.

    Poly decay, (1 - step / steps)^power (Kreso et al. 2017, section 4). In the first `warmup_steps` steps it is also
    multiplied by a number that grows linearly to 1.

    Raises:
        ValueError: `step` is out of range.
    """
    if not 0 <= step < steps:
        raise ValueError(f"step must be 0 to {steps - 1}, got {step}")
    factor = (1.0 - step / steps) ** power
    return factor * (step + 1) / warmup_steps if step < warmup_steps else factor
