"""What the columns of a table of predictions mean, for programs that show descriptions, units and UCDs."""

import re
from collections.abc import Mapping, Sequence

from galaxyml.data.tables.writing import MAIN, Field
from galaxyml.kinds import Kind

KNOWN = {  # of any kind of target
    "id": Field("name of the object", ucd=f"meta.id{MAIN}"),
    "path": Field("the image, as it was called", ucd="meta.file"),
    "class": Field("likeliest class", ucd="meta.code.class"),
    "confidence": Field("its probability", ucd="stat.probability"),
    "classes": Field("prediction set: the true class is among these"),
    "ood_distance": Field("how unlike the training set; 1 % of validation images are above 1"),
    "ood": Field("out of distribution: ood_distance is above 1", ucd="meta.code.qual"),
    "rank": Field("by score, the highest is 1", ucd="meta.number"),
    "object_id": Field("name of the object", ucd=f"meta.id{MAIN}"),
    "score": Field("how unlike the known classes, in nats", ucd="stat.value"),
    "anomaly": Field("score is above the run's threshold", ucd="meta.code.qual"),
    "nearest_known_class": Field("the known class that is most like it", ucd="meta.code.class"),
    "reason": Field("what is more surprising: latent or reconstruction"),
    "passband": Field("of the observations that are reconstructed worst", ucd="instr.bandpass"),
    "mjd": Field("time of these observations, MJD", "d", "time.epoch"),
    "true_class": Field("class, where it is known", ucd="meta.code.class"),
}
POSITIONS = {  # by any spelling; what catalogues call them
    r"_?ra_?(deg|j2000|_icrs)?|right_?ascension|alpha(_?j2000)?": Field("right ascension", "deg", f"pos.eq.ra{MAIN}"),
    r"_?de(c|j2000|_icrs)?_?(deg|j2000|_icrs)?|declination|delta(_?j2000)?": Field(
        "declination", "deg", f"pos.eq.dec{MAIN}"
    ),
}
_END = re.compile(r"(.+)_(low|high)(\d+)")  # of an interval


def fields_of(kind: Kind, columns: Sequence[str]) -> dict[str, Field]:
    """What some columns of a table of predictions mean; those that only the user knows are left out.

    Args:
        kind: The kind of target that is predicted.
        columns: Their names. Of each spelling of positions the first alone is the main one.
    """
    names: Mapping[str, str] = kind.output_names()
    fields: dict[str, Field] = {}
    used: set[str] = set()
    for column in columns:
        field = _field(kind, names, column)
        if field is not None and field.ucd.endswith(MAIN):
            field = None if field.ucd in used else field
        if field is not None:
            used.add(field.ucd)
            fields[column] = field
    return fields


def _field(kind: Kind, names: Mapping[str, str], column: str) -> Field | None:
    ends = _END.fullmatch(column)
    if ends is not None and ends[1] in names:
        end = {"low": "lower", "high": "upper"}[ends[2]]
        return Field(f"{end} end of the {ends[3]} % interval of {names[ends[1]]}", ucd=f"stat.{_STAT[ends[2]]}")
    if column in names:
        described = f"probability of {names[column]}" if kind.name == "classes" else names[column]
        return Field(described, ucd=_UCDS.get(kind.name, "src.redshift" if column == "redshift" else ""))
    if column in KNOWN:
        return KNOWN[column]
    return next((field for spelling, field in POSITIONS.items() if re.fullmatch(spelling, column.lower())), None)


_STAT = {"low": "min", "high": "max"}
_UCDS = {"classes": "stat.probability", "fractions": "arith.ratio", "votes": "arith.ratio"}
