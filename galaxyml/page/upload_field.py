"""Where files are dropped: those of a visitor's own, and never an address that this machine would fetch them from."""

from pathlib import Path

import gradio as gr

from galaxyml.runs.errors import UserError

HEIGHT = 150  # pixels


def upload_field(label: str, several: bool = False) -> gr.File:
    """Gradio's field for files, which would else fetch whatever address a program gives it in the place of a file.

    Args:
        label: What it asks for.
        several: Whether several files may be given together.
    """
    field = gr.File(
        label=label, file_count="multiple" if several else "single", height=HEIGHT, elem_classes="gx-upload"
    )
    keep = field.async_move_resource_to_block_cache

    async def keep_files(url_or_file_path: str | Path | None) -> str | None:
        if "://" in str(url_or_file_path):
            raise UserError("The page takes files, and fetches none from elsewhere.")
        return await keep(url_or_file_path)

    # A subclass would be cleaner, but Gradio writes a file of types beside the source of each.
    field.async_move_resource_to_block_cache = keep_files  # type: ignore[method-assign]
    return field
