"""Tables of reports in a terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_table(title: str, cells: list[list[str]], left: int = 0, wrap: bool = False) -> None:
    """Prints a table.

    Args:
        title: Above it.
        cells: Header first; what is between double asterisks becomes bold.
        left: The column that is aligned to the left, whose cells stay whole.
        wrap: Whether the others may break where the terminal is narrow; otherwise the table is as wide as it is, as
            names and intervals are of no use in parts.
    """
    table = Table(title=escape(title), title_justify="left")
    header, *rows = cells
    for number, name in enumerate(header):
        first = number == left
        table.add_column(escape(name), justify="left" if first else "right", no_wrap=first or not wrap)
    for row in rows:
        bold = [cell.startswith("**") for cell in row]
        words = [escape(cell.strip("*")) for cell in row]
        table.add_row(*(f"[bold]{word}[/]" if strong else word for word, strong in zip(words, bold, strict=True)))
    console = Console(highlight=False)
    if not wrap:
        console.width = max(console.width, console.measure(table, options=console.options.update(width=500)).maximum)
    console.print(table)
