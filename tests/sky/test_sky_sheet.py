import pytest
from PIL import Image

from galaxyml.runs.errors import UserError
from galaxyml.sky.galaxy10 import CLASSES
from galaxyml.sky.sheet import COLUMNS, LABEL, TILE, contact_sheet


def test_a_contact_sheet_of_another_format_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"not 'sheet\.gif'"):
        contact_sheet(tmp_path / "sheet.gif")


def test_the_contact_sheet_is_small_enough_to_show(tmp_path):
    contact_sheet(tmp_path / "sheet.jpg")
    assert 100_000 < (tmp_path / "sheet.jpg").stat().st_size < 600_000


def test_the_sheet_of_galaxy10_has_a_row_for_each_class(tmp_path):
    contact_sheet(tmp_path / "sheet.png", survey="decals")
    with Image.open(tmp_path / "sheet.png") as opened:
        assert opened.size == (LABEL + COLUMNS * TILE, len(CLASSES) * TILE)
