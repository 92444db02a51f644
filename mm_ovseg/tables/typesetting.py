"""Tables as Markdown and LaTeX."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from tabulate import LATEX_ESCAPE_RULES

from mm_ovseg.efficiency.report import format_table
from mm_ovseg.tables.contents import Row, Table

__all__ = ["format_latex", "format_markdown"]

LATEX = str.maketrans({**LATEX_ESCAPE_RULES, "→": r"$\rightarrow$", "₂": "$_2$", "−": "$-$"})
MINUS = "−"

# (text, rank) -> text, marked if the rank is 1 (best) or 2 (second best)
Mark = Callable[[str, int], str]


def format_markdown(tables: Iterable[Table]) -> str:
    """Tables in GitHub's Markdown: the best of a column is bold, the second best underlined."""
    return "\n\n".join(_markdown(table) for table in tables) + "\n"


def format_latex(tables: Iterable[Table]) -> str:
    r"""Tables for ``\input`` in a LaTeX document, which needs no packages: marked as in Markdown."""
    return "\n\n".join(_latex(table) for table in tables) + "\n"


def _markdown(table: Table) -> str:
    def mark(text: str, rank: int) -> str:
        return {1: f"**{text}**", 2: f"<ins>{text}</ins>"}.get(rank, text)

    parts = [f"## {table.title}", format_table(_lines(table, mark), _headers(table), labels=len(table.labels) + 1)]
    return "\n\n".join([*parts, table.note] if table.note else parts)


def _latex(table: Table) -> str:
    def mark(text: str, rank: int) -> str:
        return {1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}.get(rank, text)

    number, _, caption = table.title.partition(". ")
    lines = _lines(table, lambda text, rank: mark(text.translate(LATEX), rank))
    headers = [header.translate(LATEX) for header in _headers(table)]
    return "\n".join(
        [
            f"% {number} of the paper",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption.translate(LATEX)}. {table.note.translate(LATEX)}".rstrip() + "}",
            format_table(lines, headers, "latex_raw", labels=len(table.labels) + 1),
            r"\end{table}",
        ]
    )


def _headers(table: Table) -> list[str]:
    return [*table.labels, "", *(column.title for column in table.columns)]


def _lines(table: Table, mark: Mark) -> Iterator[list[str]]:
    """The cells of a table: up to three lines a row, the paper's numbers, ours and the differences.

    Lines of the paper and of differences without a number are left out.
    """
    ranks = [_ranks(table, source) for source in ("paper", "ours")]
    for row, *row_ranks in zip(table.rows, *ranks, strict=True):
        texts = {source: _texts(table, row, source) for source in ("paper", "ours")}
        differences = _differences(table, row, texts["paper"], texts["ours"])
        lines = [
            (source, [mark(*cell) for cell in zip(texts[source], ranking, strict=True)])
            for source, ranking in zip(texts, row_ranks, strict=True)
        ]
        lines.append(("difference", [mark(text, 0) for text in differences]))
        labels = [mark(label, 0) for label in row.labels]
        for source, cells in lines:
            if source == "ours" or any(cells):
                yield [*labels, source, *cells]
                labels = [""] * len(labels)


def _texts(table: Table, row: Row, source: str) -> list[str]:
    """The numbers of a row, "" for None."""
    values = getattr(row, source)
    return [
        "" if value is None else f"{value:{getattr(column, source)}}"
        for column, value in zip(table.columns, values, strict=True)
    ]


def _differences(table: Table, row: Row, paper: Sequence[str], ours: Sequence[str]) -> list[str]:
    """Ours minus the paper's, both as they are written; "" where one is missing."""
    return [
        _signed(float(our) - float(their), column.ours) if our and their and column.is_compared else ""
        for column, their, our in zip(table.columns, paper, ours, strict=True)
    ]


def _signed(difference: float, form: str) -> str:
    text = f"{difference:+{form}}"
    return text.replace("-", MINUS) if float(text) else "0"


def _ranks(table: Table, source: str) -> list[list[int]]:
    """Rows of ranks: 1 for the best number of its column, 2 for the second best, 0 for others.

    Equal numbers, as they are written, have the same rank. A number without another to be compared with has none.
    """
    texts = [_texts(table, row, source) for row in table.rows]
    ranks = [[0] * len(table.columns) for _ in table.rows]
    for group in {row.labels[1:] for row in table.rows} if table.is_ranked else ():
        members = [index for index, row in enumerate(table.rows) if row.labels[1:] == group]
        for column in range(len(table.columns)):
            found = {index: float(texts[index][column]) for index in members if texts[index][column]}
            best = sorted(set(found.values()), reverse=True)[:2]
            for index, value in found.items() if len(found) > 1 else ():
                ranks[index][column] = best.index(value) + 1 if value in best else 0
    return ranks
