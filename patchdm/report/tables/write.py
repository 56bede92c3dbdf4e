"""Tables as CSV to compute with, Markdown to read, LaTeX to print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from patchdm.report.tables.build import Table


def write_tables(folder: Path, tables: dict[str, Table]) -> None:
    """Write NAME.csv, NAME.md and NAME.tex of each table into a folder."""
    for name, (caption, numbers) in tables.items():
        frame = numbers.convert_dtypes()  # n and seeds are whole numbers, also beside empty cells
        words = frame.astype(object).map(_word)
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
