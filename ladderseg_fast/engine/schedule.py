"""Learning rate over the course of a training."""


def poly_learning_rate(base: float, step: int, steps: int, power: float = 1.5) -> float:
    """Poly decay, base * (1 - step / steps)^power, of step 0 <= `step` < `steps` (Kreso et al. 2017, section 4)."""
    if not 0 <= step < steps:
        raise ValueError(f"step must be 0 to {steps - 1}, got {step}")
    return base * (1.0 - step / steps) ** power
