"""Pages of reference, made of the code: commands, params.yaml, the HTTP API."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from fastapi import FastAPI
from ruamel.yaml import YAML

from patchdm.app.routes import router
from patchdm.app.server import OPENAPI
from patchdm.cli.app import app
from patchdm.config import Params
from tools.site.schema import in_words, one_paragraph

_COMMANDS = """\
The list is made of the code that reads the options; `patchdm COMMAND --help` shows the same. A
mistake is one line, and the exit status is 1 (2 for syntax). `patchdm --version` prints
the version.
"""
_PARAMS = """\
A run is its `params.yaml`. It has every key; an unknown, missing or mistyped key is an error of one
line. `patchdm params check` checks a file, `patchdm params use NAME` writes a preset over it. Below
each key: what it takes, and its value in the demo.
"""
_HTTP = f"""\
The list is made of the OpenAPI document, which a studio serves at `{OPENAPI}`, and as a page
at `/docs`. [The studio](../studio.md#http-api) has examples with curl.
"""


def commands() -> str:
    """Return the page of all commands, from the functions that Typer reads."""
    parts = [
        "# Commands\n",
        _COMMANDS,
    ]
    group: Any = typer.main.get_command(app)
    parts += list(_commands(group.commands, "patchdm"))
    return "\n".join(parts)


def _commands(found: Mapping[str, Any], parent: str) -> Iterator[str]:
    for name, command in found.items():
        title = f"{parent} {name}"
        if inner := getattr(command, "commands", None):
            yield from _commands(inner, title)
            continue
        yield f"## {title}\n"
        yield f"{command.help}\n"
        arguments = [each for each in command.params if each.param_type_name == "argument"]
        options = [each for each in command.params if each.param_type_name == "option"]
        usage = [title, *(_usage(each) for each in arguments), *["[OPTIONS]"][: len(options)]]
        yield f"```text\n{' '.join(usage)}\n```\n"
        for kind, params in (("argument", arguments), ("option", options)):
            if params:
                yield f"| {kind} | meaning | default |\n|---|---|---|"
                yield "\n".join(_row(each) for each in params) + "\n"


def _usage(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    several = f"{name} ..." if argument.nargs == -1 else name
    return several if argument.required else f"[{several}]"


def _row(param: Any) -> str:
    if param.param_type_name == "argument":
        shown = f"`{param.metavar or param.name.upper()}`"
    else:
        value = "" if param.is_flag else f" {param.metavar or param.name.upper()}"
        shown = f"`{param.opts[0]}{value}`".replace("|", r"\|")
    default = "**required**" if param.required else ""
    if not default and param.default not in (None, False, ()) and param.show_default:
        default = f"`{param.default}`"
    return f"| {shown} | {_cell(param.help)} | {default} |"


def _cell(text: str | None) -> str:
    return one_paragraph(text).replace("|", r"\|")


def params(root: Path) -> str:
    """Return the page of every key of params.yaml, from the docstrings of patchdm/config."""
    values = YAML(typ="safe", pure=True).load(root / "params.yaml")
    sections = Params.model_json_schema()["$defs"]
    parts = [
        "# params.yaml\n",
        _PARAMS,
    ]
    for section, field in Params.model_fields.items():
        schema = sections[getattr(field.annotation, "__name__", "")]
        parts += [f"## {section}\n", f"{one_paragraph(schema['description'])}\n"]
        for key, about in schema["properties"].items():
            value = _yaml(values[section][key])
            parts.append(f"`{section}.{key}` {{ #{section}.{key} }}")
            meaning = one_paragraph(about.get("description"))
            takes = f"Takes {in_words(about)}. Demo: `{value}`."
            parts.append(f":   {meaning}\n{{ .meaning }}\n" if meaning else "")
            parts.append(f":   {takes}\n{{ .takes }}\n")
    return "\n".join(parts)


def _yaml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    names = {None: "null", True: "true", False: "false"}
    return names[value] if value is None or isinstance(value, bool) else str(value)


def http() -> str:
    """Return the page of the studio's HTTP API, from its OpenAPI document."""
    server = FastAPI(title="Patch-DM studio", openapi_url=OPENAPI)
    server.include_router(router)
    document = server.openapi()
    parts = [
        "# HTTP API of the studio\n",
        _HTTP,
        "## Requests\n",
    ]
    common: set[tuple[str, str]] = set.intersection(
        *(
            {(code, about["description"]) for code, about in each["responses"].items()}
            for path in document["paths"].values()
            for each in path.values()
        )
    )
    told = "; ".join(f"`{code}` {about}" for code, about in sorted(common) if code != "200")
    parts.append(f"Every request may get {told}. Errors are JSON: {_named('Problem')}.\n")
    for path, methods in document["paths"].items():
        for method, each in methods.items():
            parts += [f"### {method.upper()} {path}\n", f"{one_paragraph(each['description'])}\n"]
            parts += list(_exchange(each, common))
    parts.append("## Schemas\n")
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts += [f"### {name}\n", f"{one_paragraph(schema.get('description'))}\n"]
        parts += list(_properties(schema))
    return "\n".join(parts)


def _exchange(each: Mapping[str, Any], common: set[tuple[str, str]]) -> Iterator[str]:
    """Yield what a request takes and what it answers."""
    for kind, about in (each.get("requestBody") or {}).get("content", {}).items():
        yield f"- Body, `{kind}`: {in_words(about['schema'], _named)}"
    for code, answer in sorted(each["responses"].items()):
        if (code, answer["description"]) in common and not code.startswith("2"):
            continue
        kinds = [
            f"`{kind}`" + (f", {in_words(about['schema'], _named)}" if about.get("schema") else "")
            for kind, about in answer.get("content", {}).items()
        ]
        said = "" if code.startswith("2") and kinds else f": {answer['description']}"
        shown = f": {'; '.join(kinds)}" if kinds and code.startswith("2") else ""
        yield f"- `{code}`{said}{shown}"
    yield ""


def _properties(schema: Mapping[str, Any]) -> Iterator[str]:
    yield "| key | value | meaning |\n|---|---|---|"
    required = schema.get("required", [])
    for key, about in schema.get("properties", {}).items():
        default = about.get("default")
        more = f"; default `{default}`" if default not in (None, "") else ""
        optional = "" if key in required or more else "; may be left out"
        words = in_words(about, _named).replace("|", r"\|")
        yield f"| `{key}` | {words}{more}{optional} | {_cell(about.get('description'))} |"
    yield ""


def _named(schema: str) -> str:
    return f"[{schema}](#{re.sub('[^a-z0-9]', '', schema.lower())})"


def python(root: Path) -> str:
    """Return the page of the Python API: README's examples, then what mkdocstrings finds."""
    text = (root / "README.md").read_text()
    examples = text.partition("\n## From Python\n")[2].partition("\n## ")[0]
    if not examples:
        raise LookupError("README.md: no section `## From Python`, which a page of the site shows")
    parts = [f"# Python\n{examples}"]
    for heading, names in API.items():
        parts.append(f"## {heading}\n")
        for name, members in names.items():
            parts.append(f"::: {name}\n    options:\n      heading_level: 3")
            listed = f"[{', '.join(members)}]"
            parts.append(f"      inherited_members: {listed}" if members else "")
            parts.append(f"      members: {listed if members else 'false'}\n")
    return "\n".join(parts)


API: dict[str, dict[str, tuple[str, ...]]] = {
    "The pipeline": {
        "patchdm.pipeline.PatchDMPipeline": (
            "from_pretrained", "from_stages", "__call__", "inpaint", "outpaint", "sample_codes",
            "training_codes",
        ),
        "patchdm.sampling.encode.CodeFit": (),
    },
    "Sampling": {
        "patchdm.sampling.solvers.solver": (),
        "patchdm.sampling.denoise.predict_eps": (),
        "patchdm.sampling.inpaint.inpaint": (),
        "patchdm.sampling.generate.generate": (),
    },
    "The network": {
        "patchdm.models.unet.PatchUNet": ("encode", "decode"),
        "patchdm.diffusion.loss.training_loss": (),
        "patchdm.grid": ("pad_and_split", "merge", "collage"),
        "patchdm.official.load_official": (),
    },
    "Files": {
        "patchdm.formats.images.read_image": (),
        "patchdm.formats.images.save_png": (),
        "patchdm.formats.raw.read_manifest": (),
        "patchdm.formats.raw.open_photograph": (),
        "patchdm.formats.patch_store.PatchStore": ("index", "rows", "images"),
        "patchdm.formats.shards.read_manifest": (),
        "patchdm.formats.shards.read_images": (),
        "patchdm.formats.vectors.read_vectors": (),
    },
    "params.yaml": {"patchdm.config.load_params": (), "patchdm.config.Params": ("rows", "cols")},
}  # fmt: skip
"""Headings -> what users call -> which of its members are shown."""
