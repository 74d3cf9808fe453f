"""Beginnings of texts that may be of any length, as messages quote them."""


def shortened(text: str, most: int) -> str:
    """Returns `text`, or its first `most` characters and three dots."""
    return text if len(text) <= most else f"{text[:most]}..."
