"""Which of a FITS file's HDUs hold the image, and which of their planes are its bands."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from galaxyml.data.images.decode import channels_of, choice, open_image
from galaxyml.data.images.decoding import Decoding
from galaxyml.runs.errors import DataError
from galaxyml.tasks.images import Images

RNG = np.random.default_rng(0)
DECODING = Decoding()
EMPTY = ("", None)
SHAPE = (24, 32)
PICTURE = RNG.normal(size=SHAPE).astype(np.float32) + 20 * np.exp(-np.hypot(*np.indices(SHAPE) - 12) / 3)
ONES, FLAGS = np.ones(SHAPE, np.float32), np.arange(PICTURE.size, dtype=np.int32).reshape(SHAPE) % 4
BANDS = np.stack([PICTURE * (1 + k) + RNG.normal(size=SHAPE) for k in range(5)]).astype(np.float32)


def written(path: Path, units: Sequence[tuple[str, np.ndarray | None]], compressed: bool = False) -> Path:
    """A file with HDUs of some names; the first of them is the primary one."""
    (name, first), *others = units
    kind = fits.CompImageHDU if compressed else fits.ImageHDU
    primary = fits.PrimaryHDU(first)
    if name:
        primary.name = name
    others_ = [kind(values, name=other) if other else kind(values) for other, values in others]
    fits.HDUList([primary, *others_]).writeto(path, overwrite=True)
    return path


def alone(path: Path, values: np.ndarray, decoding: Decoding = DECODING) -> np.ndarray:
    """The image of a file that holds nothing else."""
    fits.PrimaryHDU(values).writeto(path / "alone.fits", overwrite=True)
    return open_image(path / "alone.fits", decoding)


@pytest.mark.parametrize(
    "units",
    [
        [EMPTY, ("WHT", ONES), ("SCI", PICTURE)],
        [EMPTY, ("DQ", FLAGS), ("SCI", PICTURE), ("ERR", FLAGS)],
        [EMPTY, ("IMAGE", PICTURE), ("MASK", FLAGS), ("VARIANCE", FLAGS)],  # HSC
        [EMPTY, ("SCI", PICTURE), ("ERR", FLAGS), ("CON", FLAGS), ("WHT", FLAGS), ("VAR_RNOISE", FLAGS)],  # JWST
        [EMPTY, ("MSK", FLAGS), ("WGT", FLAGS), ("SCI", PICTURE)],  # DES
        [("", PICTURE), ("INVVAR", FLAGS), ("SKY", FLAGS)],
        [("", PICTURE), ("", FLAGS)],  # what stands beside a primary image need not be one
        [("WEIGHT", FLAGS), ("DATA", PICTURE)],
        [("SCI", PICTURE), ("WHT", FLAGS)],  # a primary HDU with a name of its own
        [EMPTY, ("MODEL", FLAGS), ("RESIDUAL", FLAGS), ("GALAXY", PICTURE)],
        [EMPTY, ("MASK_1", FLAGS), ("RMS2", FLAGS), ("g_ivar", FLAGS), ("COADD", PICTURE)],
        [EMPTY, ("COMPRESSED_IMAGE", PICTURE), ("FLAGS", FLAGS)],
        [EMPTY, ("MODEL", PICTURE), ("MASK", FLAGS)],
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_the_image_is_found_by_its_name(
    tmp_path: Path, units: list[tuple[str, np.ndarray | None]], compressed: bool
) -> None:
    path = written(tmp_path / "a.fits", units, compressed=False)
    np.testing.assert_array_equal(open_image(path), alone(tmp_path, PICTURE))
    if compressed:
        units = [(name, values if values is None else (values * 100).astype(np.int32)) for name, values in units]
        path = written(tmp_path / "a.fits.fz", units, compressed)
        np.testing.assert_array_equal(open_image(path), alone(tmp_path, (PICTURE * 100).astype(np.int32)))
    assert " is read, of " in choice(path)


def test_compressed_hdus_without_names_are_bands(tmp_path: Path) -> None:
    counts = (BANDS[:3] * 100).astype(np.int32)
    path = written(tmp_path / "a.fits", [EMPTY, *(("", band) for band in counts)], compressed=True)
    np.testing.assert_array_equal(open_image(path), alone(tmp_path, counts))
    assert channels_of(path, Decoding(hdu="COMPRESSED_IMAGE")) == 1


@pytest.mark.parametrize(
    "names",
    [
        ("G", "R", "Z"),
        ("SCI_G", "SCI_R", "SCI_Z"),
        ("HSC-G", "HSC-R2", "HSC-I2"),
        ("VIS", "NIR_Y", "NIR_H"),
        ("F606W", "F814W", "F160W"),
        ("", "", ""),
    ],
)
def test_hdus_of_one_shape_are_bands(tmp_path: Path, names: tuple[str, ...]) -> None:
    units = [EMPTY, *zip(names, BANDS[:3], strict=True)]
    path = written(tmp_path / "a.fits", units)
    np.testing.assert_array_equal(open_image(path), alone(tmp_path, BANDS[:3]))
    assert channels_of(path) == 3
    assert "its HDUs 1" in choice(path)
    if names[0]:  # weights and masks beside them change nothing
        more = [*units, *((f"{name}_WHT", FLAGS) for name in names), ("MASK", FLAGS)]
        np.testing.assert_array_equal(open_image(written(path, more)), alone(tmp_path, BANDS[:3]))


def test_filters_are_put_from_blue_to_red(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits", [EMPTY, ("Z", BANDS[2]), ("G", BANDS[0]), ("R", BANDS[1])])
    np.testing.assert_array_equal(open_image(path), alone(tmp_path, BANDS[:3]))
    cube = fits.PrimaryHDU(BANDS[:3][::-1])
    cube.header["BANDS"] = "zrg"
    cube.writeto(tmp_path / "cube.fits")
    np.testing.assert_array_equal(open_image(tmp_path / "cube.fits"), alone(tmp_path, BANDS[:3]))


def test_hdus_of_other_shapes_and_names_are_no_bands(tmp_path: Path) -> None:
    wide = np.concatenate([PICTURE, PICTURE])
    for units in (
        [EMPTY, ("", PICTURE), ("", wide)],
        [EMPTY, ("CCD1", PICTURE), ("CCD2", PICTURE * 2)],
        [EMPTY, ("SCI", PICTURE), ("SCI", PICTURE * 2)],  # two chips of a camera
        [EMPTY, ("G", PICTURE), ("R", wide)],
    ):
        assert channels_of(written(tmp_path / "a.fits", units)) == 1
        np.testing.assert_array_equal(open_image(tmp_path / "a.fits"), alone(tmp_path, PICTURE))
        assert "is read, of 1" in choice(tmp_path / "a.fits")


@pytest.mark.parametrize("shape", [(1, 1), (1,), ()])
def test_axes_of_length_1_are_dropped(tmp_path: Path, shape: tuple[int, ...]) -> None:
    fits.PrimaryHDU(PICTURE.reshape(*shape, *SHAPE)).writeto(tmp_path / "a.fits")
    np.testing.assert_array_equal(open_image(tmp_path / "a.fits"), alone(tmp_path, PICTURE))
    fits.PrimaryHDU(BANDS.reshape(5, 1, *SHAPE)).writeto(tmp_path / "b.fits", overwrite=True)
    np.testing.assert_array_equal(open_image(tmp_path / "b.fits"), alone(tmp_path, BANDS))


def test_an_hdu_is_chosen_by_name_or_number(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits", [EMPTY, ("SCI", PICTURE), ("MODEL", BANDS[1]), ("MASK", FLAGS)])
    for hdu in ("MODEL", "model", 2, "2"):
        np.testing.assert_array_equal(open_image(path, Decoding(hdu=hdu)), alone(tmp_path, BANDS[1]))
    np.testing.assert_array_equal(open_image(path, Decoding(hdu="MASK")), alone(tmp_path, FLAGS))
    for hdu, message in (
        (
            "SCIENCE",
            r"hdu=SCIENCE: there is no such HDU; its HDUs with an image are 1 \(SCI\), 2 \(MODEL\), 3 \(MASK\)",
        ),
        (7, "hdu=7: there is no such HDU"),
        (-1, "hdu=-1: there is no such HDU"),
        (0, "hdu=0: that HDU holds no image"),
        ("PRIMARY", "hdu=PRIMARY: that HDU holds no image"),
    ):
        with pytest.raises(DataError, match=rf"a\.fits: {message}"):
            open_image(path, Decoding(hdu=hdu))


def test_bands_are_chosen_by_name_or_number(tmp_path: Path) -> None:
    header = fits.Header({"BANDS": "grizy"})
    fits.PrimaryHDU(BANDS, header).writeto(tmp_path / "cube.fits")
    written(tmp_path / "hdus.fits", [EMPTY, *zip(("HSC-G", "HSC-R", "HSC-I", "HSC-Z", "HSC-Y"), BANDS, strict=True)])
    for name in ("cube.fits", "hdus.fits"):
        for bands in (("g", "i", "y"), ("G", 2, "4"), (0, 2, 4)):
            expected = alone(tmp_path, BANDS[[0, 2, 4]])
            np.testing.assert_array_equal(open_image(tmp_path / name, Decoding(bands=bands)), expected)
        five = open_image(tmp_path / name, Decoding(5))
        for number, band in enumerate("grizy"):
            one = open_image(tmp_path / name, Decoding(1, bands=(band,)))
            np.testing.assert_array_equal(one, alone(tmp_path, BANDS[number], Decoding(1)))
            assert np.abs(one[:, :, 0].astype(int) - five[:, :, number]).max() <= 1
        with pytest.raises(
            DataError, match=r"bands=u: there is no such band; it has 0 \(g\), 1 \(r\), 2 \(i\), 3 \(z\), 4"
        ):
            open_image(tmp_path / name, Decoding(bands=("u",)))
        with pytest.raises(DataError, match=r"it has 5 bands: 0 \(g\).*channels=4"):
            open_image(tmp_path / name, Decoding(4))
    np.testing.assert_array_equal(
        open_image(tmp_path / "hdus.fits", Decoding(1, bands=("HSC-Z",))), alone(tmp_path, BANDS[3], Decoding(1))
    )


def test_many_planes_are_refused_unless_some_are_chosen(tmp_path: Path) -> None:
    planes = RNG.normal(size=(40, 24, 32))
    fits.PrimaryHDU(planes).writeto(tmp_path / "a.fits")
    with pytest.raises(DataError, match=r"shape \(40, 24, 32\); .* at most 16 bands; bands=\[…\] takes some"):
        open_image(tmp_path / "a.fits")
    found = open_image(tmp_path / "a.fits", Decoding(bands=(7, 20, 33)))
    np.testing.assert_array_equal(found, alone(tmp_path, planes[[7, 20, 33]]))


def test_a_file_of_weights_alone_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits", [EMPTY, ("WHT", PICTURE), ("MASK", FLAGS)])
    with pytest.raises(
        DataError, match=r"a\.fits: it has no image but 1 \(WHT\), 2 \(MASK\), .*hdu=… takes one of them"
    ):
        open_image(path)


def test_a_table_with_the_name_of_an_image_is_none(tmp_path: Path) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.zeros(3))], name="SCI")
    fits.HDUList([fits.PrimaryHDU(), table, fits.ImageHDU(PICTURE, name="MINE")]).writeto(tmp_path / "a.fits")
    np.testing.assert_array_equal(open_image(tmp_path / "a.fits"), alone(tmp_path, PICTURE))


def test_cut_off_files_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.fits", [EMPTY, ("SCI", PICTURE)])
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.raises(DataError, match=r"a\.fits: "):
        open_image(path)


@pytest.mark.parametrize(
    ("names", "order", "words"),
    [
        (("F814W", "F606W", "F435W"), (2, 1, 0), "from blue to red"),
        (("SCI_F814W", "SCI_F606W", "SCI_F435W"), (2, 1, 0), "from blue to red"),
        (("F444W", "F115W", "F277W"), (1, 2, 0), "from blue to red"),
        (("F160W", "F606W", "F814W"), (1, 2, 0), "from blue to red"),
        (("", "", ""), (0, 1, 2), "in this order"),
    ],
)
def test_filters_of_space_telescopes_go_by_their_wavelength(
    tmp_path: Path, names: tuple[str, ...], order: tuple[int, ...], words: str
) -> None:
    planes = [peak * PICTURE + RNG.normal(size=SHAPE) for peak in (1.0, 2.0, 3.0)]
    path = written(tmp_path / "a.fits", [EMPTY, *zip(names, planes, strict=True)])
    np.testing.assert_array_equal(
        open_image(path), alone(tmp_path, np.stack([planes[row] for row in order]), Decoding())
    )
    assert words in choice(path)


@pytest.mark.parametrize("names", [("CCDID 1-1.RMS", "CCDID 1-1.FLG", "CCDID 1-1.SCI"), ("SEGMAP", "BKGRMS", "DATA")])
def test_names_of_pipelines_tell_the_image(tmp_path: Path, names: tuple[str, ...]) -> None:
    others = (ONES, 2 * ONES + RNG.normal(size=SHAPE), PICTURE)
    path = written(tmp_path / "a.fits", [EMPTY, *zip(names, others, strict=True)])
    np.testing.assert_array_equal(open_image(path, DECODING), alone(tmp_path, PICTURE))


def test_what_was_read_of_the_first_image_is_noted_once(tmp_path: Path) -> None:
    rows = []
    for number in range(20):
        written(tmp_path / f"J{number}+12", [EMPTY, ("WHT", ONES), ("SCI", PICTURE + RNG.normal(size=SHAPE))])
        rows.append(f"J{number}+12,{'round' if number % 2 else 'long'}")
    (tmp_path / "labels.csv").write_text("\n".join(["path,kind", *rows]))
    data = Images(tmp_path, columns="kind", size=16, cache_dir=str(tmp_path / "cache"))
    data.setup()
    (note,) = (note for note in data.notes if "HDU" in note)
    assert note.startswith("Of its first image: J0+12: its HDU 2 (SCI) is read, of 1 (WHT), 2 (SCI).")
    assert len(data.store.pixels) == 20


def test_images_of_one_value_are_named_and_left_out_of_the_training(tmp_path: Path) -> None:
    rows = []
    for number in range(20):
        values = np.full(SHAPE, np.nan) if number in (3, 7) else PICTURE + RNG.normal(size=SHAPE)
        fits.PrimaryHDU(values).writeto(tmp_path / f"{number}.fits")
        rows.append(f"{number}.fits,{'round' if number % 2 else 'long'}")
    (tmp_path / "labels.csv").write_text("\n".join(["path,kind", *rows]))
    data = Images(tmp_path, columns="kind", size=16, cache_dir=str(tmp_path / "cache"))
    data.setup()
    (note,) = (note for note in data.notes if "left out" in note)
    assert "2 of 20 left out, as their images cannot be read: 3.fits, 7.fits: it has nothing but blanks (NaN)" in note
    assert data.catalog is not None
    assert len(data.catalog) == len(data.store) == 18
    assert not data.catalog["image"].isin(["3.fits", "7.fits"]).any()
