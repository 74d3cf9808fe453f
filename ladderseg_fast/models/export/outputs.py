"""Outputs of an exported model."""

#: Names of outputs: class labels, or class scores, both at the images' resolution.
OUTPUTS = ("labels", "logits")


def check_output(output: str) -> None:
    """Raises ValueError unless `output` is one of OUTPUTS."""
    if output not in OUTPUTS:
        raise ValueError(f"output must be {' or '.join(OUTPUTS)}, got {output!r}")
