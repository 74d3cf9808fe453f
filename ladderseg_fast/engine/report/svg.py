"""Elements of SVG as text."""

from html import escape


def element(name: str, *content: str, **attributes: object) -> str:
    """Element of SVG or HTML with `content`, which is markup already.

    A trailing underscore in the name of an attribute is removed (class_), and other underscores become hyphens
    (text_anchor); an attribute whose value is None is left out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{given}>{''.join(content)}</{name}>"


def text(x: float, y: float, content: object, **attributes: object) -> str:
    """Text at (x, y)."""
    return element("text", escape(_text(content)), x=x, y=y, **attributes)


def line(x0: float, y0: float, x1: float, y1: float, class_: str) -> str:
    """Straight line."""
    return element("line", x1=x0, y1=y0, x2=x1, y2=y1, class_=class_)


def picture(width: float, height: float, description: str, *content: str) -> str:
    """SVG of this many pixels, smaller if there is less room; `description` is for readers who cannot see it."""
    return element(
        "svg",
        *content,
        viewBox=f"0 0 {_text(float(width))} {_text(float(height))}",
        style=f"max-width: {width:.0f}px",
        role="img",
        aria_label=description,
        xmlns="http://www.w3.org/2000/svg",
    )


def _text(value: object) -> str:
    """Number as text; a hundredth of a unit is enough."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
