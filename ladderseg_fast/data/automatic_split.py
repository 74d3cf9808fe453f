"""Training and validation images out of a folder that has no splits."""

import hashlib
from collections.abc import Collection

#: The splits there are, the last of all images, and what val gets of them unless said otherwise.
AUTOMATIC_SPLITS = ("train", "val", "all")
VAL_SHARE = 0.1


def held_out(names: Collection[str], share: float = VAL_SHARE, seed: int = 0) -> set[str]:
    """Those of `names` that are the validation split: about `share` of them.

    Each is decided by itself, from the name and `seed`: it stays where it is when others come and go. Only where chance
    would give all of very few to one split, one more goes to the other.

    Raises:
        ValueError: fewer than two names, or a share that is not between 0 and 1.
    """
    check_val_share(share)
    if len(names) < 2:
        raise ValueError(f"{len(names)} image cannot be split into train and val")
    in_order = sorted(names, key=lambda name: (_place(name, seed), name))
    count = sum(_place(name, seed) < share for name in in_order)
    return set(in_order[: min(max(count, 1), len(in_order) - 1)])


def check_val_share(share: float) -> None:
    """Raises ValueError unless `share` leaves something for both splits."""
    if not 0.0 < share < 1.0:
        raise ValueError(f"val_share must be above 0 and below 1, got {share}")


def check_split_seed(seed: int) -> None:
    """Raises ValueError if `seed` is negative."""
    if seed < 0:
        raise ValueError(f"split_seed must be at least 0, got {seed}")


def _place(name: str, seed: int) -> float:
    """From 0 to 1, evenly over all names."""
    digest = hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
