"""`python -m tools.figures` draws docs/figures: how Patch-DM works, in four pictures.

Colours are variables: a page may set its own, else they follow the reader's light or dark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "docs/figures"
LIGHT = {
    "ink": "#24292f", "soft": "#8a929c", "fill": "#eef1f4", "padded": "#00796b",
    "shifted": "#d9541e", "sky": "#cfe6f5", "sun": "#f6c65b", "far": "#9db8a5", "near": "#5f8a6b",
}  # fmt: skip
DARK = {
    "ink": "#e3e6ea", "soft": "#868f9b", "fill": "#2b3038", "padded": "#4db6ac",
    "shifted": "#ff8a57", "sky": "#2d4a5e", "sun": "#c99a3a", "far": "#4c6655", "near": "#35523f",
}  # fmt: skip
P = 60
"""Side of a patch in the figures."""


def colours(values: dict[str, str]) -> str:
    """Return the variables of a palette, as CSS."""
    return ";".join(f"--{name}:{value}" for name, value in values.items())


STYLE = (
    f".drawn{{{colours(LIGHT)};font:13px system-ui,sans-serif}}"
    f"@media(prefers-color-scheme:dark){{.drawn{{{colours(DARK)}}}}}"
)


def rect(
    x: float, y: float, width: float, height: float, fill: str = "none", line: str = "none",
    *, opacity: float = 1, dash: str = "", thick: float = 1.5, round_: float = 0,
) -> str:  # fmt: skip
    """Return a rectangle; colours are names of the palette."""
    more = f' stroke-dasharray="{dash}"' if dash else ""
    more += f' rx="{round_}"' if round_ else ""
    paint = f"fill:{_paint(fill)};stroke:{_paint(line)}"
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" style="{paint}" '
        f'fill-opacity="{opacity:g}" stroke-width="{thick:g}"{more}/>'
    )


def text(
    x: float, y: float, words: str, fill: str = "ink", *, at: str = "middle", bold: bool = False
) -> str:
    """Return a line of text."""
    weight = ";font-weight:600" if bold else ""
    style = f"fill:{_paint(fill)};text-anchor:{at}{weight}"
    return f'<text x="{x:g}" y="{y:g}" style="{style}">{words}</text>'


def arrow(x: float, y: float, to_x: float, to_y: float, colour: str = "ink") -> str:
    """Return a line with a head."""
    return path([(x, y), (to_x, to_y)], colour)


def path(points: Iterable[tuple[float, float]], colour: str = "ink") -> str:
    """Return a line through points, with a head at its end."""
    way = " L".join(f"{x:g} {y:g}" for x, y in points)
    style = f"fill:none;stroke:{_paint(colour)};stroke-width:1.5"
    return f'<path d="M{way}" style="{style}" marker-end="url(#head)"/>'


def box(x: float, y: float, width: float, *lines: str, height: float = 44) -> str:
    """Return a box with some lines of text in its middle."""
    top = y + height / 2 + 4.5 - 8 * (len(lines) - 1)
    said = [text(x + width / 2, top + 16 * number, line) for number, line in enumerate(lines)]
    return rect(x, y, width, height, "fill", "soft", round_=6) + "".join(said)


def landscape(x: float, y: float, scale: float = 1) -> str:
    """Return a landscape of 240x120 units."""
    hills = (
        ("far", "M0 78 C40 40 70 52 105 70 S170 34 240 66 V120 H0Z"),
        ("near", "M0 104 C50 76 90 96 130 92 S200 84 240 98 V120 H0Z"),
    )
    shapes = [rect(0, 0, 240, 120, "sky"), f'<circle cx="182" cy="28" r="13" {_filled("sun")}/>']
    shapes += [f'<path d="{way}" {_filled(colour)}/>' for colour, way in hills]
    return f'<g transform="translate({x:g} {y:g}) scale({scale:g})">{"".join(shapes)}</g>'


def grid(
    x: float, y: float, cols: int, rows: int, side: float, colour: str, *, dash: str = ""
) -> str:
    """Return a grid of squares."""
    places = [(x + col * side, y + row * side) for row in range(rows) for col in range(cols)]
    return "".join(rect(*at, side, side, "none", colour, dash=dash) for at in places)


def noise(x: float, y: float, width: float, height: float) -> str:
    """Return a field of noise: specks that are the same in each drawing."""
    state, specks = 1, []
    for row in range(int(height // 6)):
        for col in range(int(width // 6)):
            state = (1103515245 * state + 12345) % 2**31
            shade = 0.1 + 0.7 * (state >> 16) / 2**15
            specks.append(rect(x + 6 * col, y + 6 * row, 6, 6, "ink", opacity=round(shade, 2)))
    return "".join(specks)


def patches() -> str:
    """Return the two grids of a canvas: padded patches, and the shifted ones."""
    left, right, top = 10, 400, 46
    image = (left + P / 2, top + P / 2)
    parts = [
        text(left + 2.5 * P, 24, "padded patches, for the encoder", "padded", bold=True),
        rect(left, top, 5 * P, 3 * P, "fill", "soft"),
        landscape(*image),
        grid(left, top, 5, 3, P, "padded", dash="5 3"),
        rect(left + P, top, 2 * P, 2 * P, "padded", "padded", opacity=0.3, thick=2.5),
        rect(left + 1.5 * P, top + P / 2, P, P, "none", "shifted", thick=3),
        text(left + 2.5 * P, top + 3 * P + 22, "zeros of half a patch around the image", "soft"),
        text(right + 2 * P, 24, "shifted patches, of the decoder", "shifted", bold=True),
        landscape(right, image[1]),
        grid(right, image[1], 4, 2, P, "shifted"),
        rect(right + P, image[1], P, P, "shifted", "shifted", opacity=0.35, thick=3),
        text(right + 2 * P, top + 3 * P + 22, "they tile the image", "soft"),
        arrow(left + 5 * P + 14, image[1] + P, right - 12, image[1] + P),
    ]
    return drawing("Padded and shifted patches", 660, 260, parts)


QUARTERS = ("P1", "P2", "P3", "P4")


def collage() -> str:
    """Return how the quarters of four feature maps become one."""
    left, top, gap = 10, 50, 10
    parts = [text(left, 26, "four padded patches", "padded", at="start", bold=True)]
    for number in range(4):
        row, col = divmod(number, 2)
        x, y = left + col * (P + gap), top + row * (P + gap)
        clip = f'<clipPath id="c{number}">{rect(x, y, P, P)}</clipPath>'
        scene = landscape(left - P + col * gap, top + row * gap)
        parts += [clip, f'<g clip-path="url(#c{number})">{scene}</g>']
        parts.append(rect(x, y, P, P, "none", "padded"))
    parts += [
        arrow(left + 2 * P + gap + 8, 115, 204, 115),
        text(176, 104, "encoder"),
        text(295, 26, "feature maps", "padded", bold=True),
    ]
    for side, x, y in ((46, 214, 62), (30, 330, 78), (18, 404, 90)):
        parts += [_maps(x, y, side, parted=side > 20)]
    parts += [
        arrow(456, 115, 506, 115),
        text(480, 104, "collage"),
        text(560, 26, "one of each", "shifted", bold=True),
    ]
    for side, x, y in ((46, 516, 92), (30, 570, 100), (18, 608, 106)):
        parts.append(_joined(x, y, side, parted=side > 20))
    parts += [
        arrow(636, 115, 692, 115),
        text(664, 104, "decoder"),
        text(732, 26, "noise", "shifted", bold=True),
        noise(702, 85, P, P),
        rect(702, 85, P, P, "none", "shifted", thick=2.5),
        text(295, 218, "the quarters that meet at one corner", "soft"),
        text(732, 166, "of the", "soft"),
        text(732, 182, "shifted patch", "soft"),
    ]
    return drawing("Feature collage", 780, 236, parts)


def _maps(x: float, y: float, side: float, *, parted: bool) -> str:
    """Return the maps of four patches, whose inner quarters are marked."""
    half, gap, parts = side / 2, 6, []
    for number, name in enumerate(QUARTERS):
        row, col = divmod(number, 2)
        left, top = x + col * (side + gap), y + row * (side + gap)
        inner = (left + (half if col == 0 else 0), top + (half if row == 0 else 0))
        parts += [
            rect(left, top, side, side, "fill", "padded"),
            rect(*inner, half, half, "shifted", "shifted", opacity=0.15 + 0.2 * number, thick=1),
        ]
        if parted and side > 40:
            parts.append(text(inner[0] + half / 2, inner[1] + half / 2 + 4.5, name))
    return "".join(parts)


def _joined(x: float, y: float, side: float, *, parted: bool) -> str:
    half, parts = side / 2, []
    for number, name in enumerate(QUARTERS):
        row, col = divmod(number, 2)
        at = (x + col * half, y + row * half)
        shade = 0.15 + 0.2 * number
        parts.append(rect(*at, half, half, "shifted", "shifted", opacity=shade, thick=1))
        if parted and side > 40:
            parts.append(text(at[0] + half / 2, at[1] + half / 2 + 4.5, name))
    return "".join(parts)


def loss() -> str:
    """Return how a training step makes its loss."""
    parts = [
        text(8, 92, "window: 2 x 2 padded", "padded", at="start", bold=True),
        text(8, 108, "patches, with noise", "padded", at="start", bold=True),
        noise(34, 118, 72, 72),
        grid(34, 118, 2, 2, 36, "padded"),
        arrow(112, 154, 148, 154),
        box(154, 132, 82, "encoder"),
        path([(236, 154), (262, 154), (262, 84), (400, 84)]),
        path([(262, 154), (262, 224), (286, 224)]),
        text(345, 48, "the four patches as they are", "padded", bold=True),
        text(345, 188, "the one shifted patch", "shifted", bold=True),
        box(292, 202, 82, "collage"),
        arrow(374, 224, 400, 224),
        box(406, 202, 82, "decoder"),
        box(406, 62, 82, "decoder"),
        text(447, 158, "same weights", "soft"),
        arrow(488, 84, 514, 84),
        arrow(488, 224, 514, 224),
        box(520, 62, 118, "squared error,", "without padding", height=44),
        box(520, 202, 118, "squared error"),
        path([(638, 84), (672, 84), (672, 138)]),
        path([(638, 224), (672, 224), (672, 170)]),
        '<circle cx="672" cy="154" r="15" style="fill:var(--fill);stroke:var(--soft)"/>',
        text(672, 159, "+"),
        arrow(688, 154, 712, 154),
        text(734, 159, "loss", bold=True),
        text(195, 24, "time, position and global code of each patch", "soft"),
        arrow(195, 32, 195, 128, "soft"),
    ]
    return drawing("How the loss is made", 770, 262, parts)


def sampling() -> str:
    """Return how noise becomes an image."""
    parts = [
        text(10, 40, "noise", at="start", bold=True),
        noise(10, 50, 72, 36),
        arrow(90, 68, 128, 68),
        box(134, 46, 104, "latent model"),
        arrow(238, 68, 276, 68),
        rect(282, 52, 112, 32, "shifted", "shifted", opacity=0.2, round_=6),
        text(338, 72.5, "global code", bold=True),
        path([(338, 84), (338, 134)], "soft"),
        text(10, 124, "noise of the canvas", at="start", bold=True),
        noise(10, 134, 96, 48),
        arrow(114, 158, 152, 158),
        box(158, 136, 360, "pad, split, encode, collage, decode, merge", height=44),
        path([(518, 158), (540, 158), (540, 212), (136, 212), (136, 166)], "soft"),
        text(338, 204, "again in every step of the solver", "soft"),
        arrow(540, 158, 576, 158),
        landscape(584, 116, 0.7),
        rect(584, 116, 168, 84, "none", "soft"),
        text(668, 106, "image of any size", bold=True),
    ]
    return drawing("How an image is sampled", 770, 230, parts)


def drawing(title: str, width: int, height: int, parts: Iterable[str]) -> str:
    """Return an SVG file."""
    head = '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
    head += 'orient="auto"><path d="M0 0 L8 4 L0 8Z" style="fill:var(--soft)"/></marker>'
    name = title.rpartition(" ")[2].lower()
    body = "".join(parts).replace("#head", f"#head-{name}")
    body = body.replace('id="c', f'id="{name}-c').replace("url(#c", f"url(#{name}-c")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="drawn" viewBox="0 0 {width} {height}">'
        f"<title>{title}</title><style>{STYLE}</style>"
        f"<defs>{head.replace('head', f'head-{name}', 1)}</defs>{body}</svg>\n"
    )


def _paint(name: str) -> str:
    return name if name == "none" else f"var(--{name})"


def _filled(name: str) -> str:
    return f'style="fill:var(--{name})"'


FIGURES: dict[str, Callable[[], str]] = {
    "patches": patches,
    "collage": collage,
    "loss": loss,
    "sampling": sampling,
}


def main() -> None:
    """Write all figures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, figure in FIGURES.items():
        (FOLDER / f"{name}.svg").write_text(figure())


if __name__ == "__main__":
    main()
