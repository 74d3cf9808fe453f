"""Training and validation split of a folder that has none."""

import hashlib
from collections.abc import Collection

#: Names of the splits, of which the last has all images, and the default share of val.
AUTOMATIC_SPLITS = ("train", "val", "all")
VAL_SHARE = 0.1


def held_out(names: Collection[str], share: float = VAL_SHARE, seed: int = 0) -> set[str]:
    """Chooses the validation split: about `share` of `names`.

    Each name is decided by itself and `seed`, so it stays in its split when others come and go. Only if chance gave all
    of very few names to one split, the other gets one of them.

    Raises:
        ValueError: there are fewer than two names, or `share` is not between 0 and 1.
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
    """Number from 0 to 1, evenly spread over all names."""
    digest = hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
