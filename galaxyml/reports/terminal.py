"""Tables of reports in a terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_table(title: str, cells: list[list[str]], left: int = 0) -> None:
    """Prints a table as wide as it is: names and intervals are of no use in parts.

    Args:
        title: Above it.
        cells: Header first; what is between double asterisks becomes bold.
        left: The column that is aligned to the left.
    """
    table = Table(title=escape(title), title_justify="left")
    header, *rows = cells
    for number, name in enumerate(header):
        table.add_column(escape(name), justify="left" if number == left else "right", no_wrap=True)
    for row in rows:
        bold = [cell.startswith("**") for cell in row]
        words = [escape(cell.strip("*")) for cell in row]
        table.add_row(*(f"[bold]{word}[/]" if strong else word for word, strong in zip(words, bold, strict=True)))
    console = Console(highlight=False)
    console.width = max(console.width, console.measure(table, options=console.options.update(width=500)).maximum)
    console.print(table)
