"""One HTML file that shows a DeepZoom image, also when it is opened from a folder.

OpenSeadragon (BSD, see LICENSE-OpenSeadragon.txt) is in it, and what the image's descriptor says,
so that nothing is fetched but tiles.
"""

from __future__ import annotations

import json
from importlib.resources import files
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined

from patchdm.formats.large import OVERLAP, TILE, TILE_FORMAT


def page(name: str, width: int, height: int, wrap: str = "none") -> str:
    """Return the page of NAME.dzi, which lies beside it, with its tiles in NAME_files.

    Args:
        name: of the image, as its file without `.dzi`.
        width, height: in pixels.
        wrap: axes along which the image goes on where it ends, see `patchdm.choices.Wrap`.
    """
    folder = files("patchdm.viewer")
    source = {
        "Image": {
            "xmlns": "http://schemas.microsoft.com/deepzoom/2008",
            "Url": f"{quote(name)}_files/",
            "Format": TILE_FORMAT,
            "Overlap": str(OVERLAP),
            "TileSize": str(TILE),
            "Size": {"Width": str(width), "Height": str(height)},
        }
    }
    environment = Environment(autoescape=False, undefined=StrictUndefined)  # noqa: S701 - below
    template = environment.from_string(folder.joinpath("viewer.html").read_text(encoding="utf-8"))
    library = folder.joinpath("openseadragon.min.js").read_text(encoding="utf-8")
    return template.render(
        title=_escaped(name),
        width=f"{width:,}",
        height=f"{height:,}",
        library=library.replace("</script", r"<\/script"),
        source=json.dumps(source).replace("<", r"\u003c"),
        wrap_x=json.dumps("x" in wrap),
        wrap_y=json.dumps("y" in wrap),
    )


def _escaped(text: str) -> str:
    for character, name in {"&": "amp", "<": "lt", ">": "gt", '"': "quot"}.items():
        text = text.replace(character, f"&{name};")
    return text
