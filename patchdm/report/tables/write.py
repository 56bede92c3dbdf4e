"""Tables as CSV to compute with, Markdown to read, LaTeX to print; and from CSV to the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from patchdm.report import parts
from patchdm.report.inputs import read_frame
from patchdm.report.tables.build import CAPTIONS


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


def read_words(folder: Path, name: str) -> parts.Table:
    """Return a table that `write_tables` wrote, in words and with its caption.

    Raises:
        PatchDMError: NAME.csv is missing or no table.
    """
    frame = read_frame(folder / f"{name}.csv", []).convert_dtypes()
    return parts.Table(CAPTIONS[name], [*frame.columns], _words(frame).to_numpy().tolist())


def paper_section(folder: Path) -> parts.Section:
    """Show the tables in which the paper's numbers stand next to the run's, but the ablation's."""
    return parts.Section(
        key="paper",
        title="Beside the paper",
        text="The paper's numbers with where they come from, and what was measured here. A cell is "
        "empty where nothing is known or was measured.",
        tables=[read_words(folder, name) for name in ("quality", "parameters", "resolution")],
    )


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
