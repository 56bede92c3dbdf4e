"""Tables as CSV to compute with, Markdown to read, LaTeX to print; and from CSV to the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from patchdm.report import parts
from patchdm.report.inputs import read_frame
from patchdm.report.tables.build import ABLATION, CAPTIONS
from patchdm.report.tables.paper import in_paper


def write_tables(folder: Path, tables: dict[str, pd.DataFrame]) -> None:
    """Write NAME.csv, NAME.md and NAME.tex of each table, with its caption, into a folder."""
    for name, numbers in tables.items():
        caption = CAPTIONS[name]
        frame = numbers.convert_dtypes()  # n and seeds are whole numbers, also next to empty cells
        words = _words(frame)
        markdown = words.to_markdown(index=False, disable_numparse=True)
        latex = (
            words.rename(columns=_escaped)
            .style.hide(axis="index")
            .format(escape="latex")
            .to_latex(hrules=True, caption=_escaped(caption), label=f"tab:{name}")
        )
        frame.to_csv(folder / f"{name}.csv", index=False)
        (folder / f"{name}.md").write_text(f"{caption}\n\n{markdown}\n", encoding="utf-8")
        (folder / f"{name}.tex").write_text(latex, encoding="utf-8")


def read_words(folder: Path, name: str, data: str | None) -> parts.Table:
    """Return a table that `write_tables` wrote, in words, as the page of a data set shows it.

    A mean and its standard deviation share a column, as do a mean and its interval. Of other data
    sets nothing is shown, and of the paper only if the data set is one of its own; None, for the
    bundled photographs, shows all.

    Raises:
        PatchDMError: NAME.csv is missing or no table.
    """
    frame = read_frame(folder / f"{name}.csv", [])
    if "data" in frame and data:
        frame = frame[frame["data"] == data].drop(columns="data")
    words, own = _words(frame.convert_dtypes()), data is not None and not in_paper(data)
    titles: list[str] = [*words.columns]
    for title in [title for title in titles if title.endswith(" std")]:
        of = next(column for column in titles if column.startswith(title.removesuffix(" std")))
        words[of] = [" ± ".join(filter(None, cells)) for cells in words[[of, title]].to_numpy()]
        words = words.drop(columns=[title, "tolerance"], errors="ignore")
    for title in [title for title in titles if title.endswith(" low")]:
        of = title.removesuffix(" low")
        ends = [title, f"{of} high"]
        words[of] = [_interval(*cells) for cells in words[[of, *ends]].to_numpy()]
        words = words.drop(columns=ends)
    hidden = [
        title
        for title in titles
        if title in ("extractor", "n")  # those of other columns' titles
        or (own and (title == "tag" or title.startswith("paper")))
    ]
    words = words.drop(columns=hidden)
    caption = ABLATION if own and name == "ablation" else CAPTIONS[name]
    return parts.Table(caption, [*words.columns], words.to_numpy().tolist())


def paper_section(folder: Path, data: str | None) -> parts.Section:
    """Show the paper's numbers next to the run's, but the ablation's; `data` as for a table."""
    names = ("quality", "parameters", "resolution") if data is None or in_paper(data) else ()
    return parts.Section(
        key="paper",
        title="Next to the paper",
        text="The paper's numbers with where they come from, and what was measured here. A cell is "
        "empty where nothing is known or was measured.",
        tables=[read_words(folder, name, data) for name in names],
    )


def _interval(mean: str, low: str, high: str) -> str:
    return f"{mean} [{low}, {high}]" if low else mean


def _words(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype(object).map(_word)


def _word(cell: Any) -> str:
    """Write a cell for readers: two decimals from 1 on, four digits below."""
    if isinstance(cell, str):
        return cell
    if pd.isna(cell):
        return ""
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:,.2f}" if abs(cell) >= 1 else f"{cell:.4g}"


def _escaped(text: str) -> str:
    return text.replace("_", r"\_").replace("%", r"\%").replace("&", r"\&")
