"""What the user typed, made ready for Hydra: flags first, names checked, any net of timm by its name."""

import re
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from galaxyml.data.tables import labels
from galaxyml.runs.conf_dir import CONF
from galaxyml.runs.errors import UserError, did_you_mean

VALUED = {
    "--cfg",
    "-c",
    "--package",
    "-p",
    "--config-path",
    "-cp",
    "--config-name",
    "-cn",
    "--config-dir",
    "-cd",
    "--info",
    "-i",
    "--experimental-rerun",
    "--shell-completion",
    "-sc",
}  # Hydra's flags that take a value
QUIET = ("-q", "--quiet")  # ours
GROUPS = (
    "task",
    "model",
    "source",
    "scale",
    "split",
    "rule",
    "kind",
    "encoder",
    "detector",
    "optim",
    "schedule",
    "loss",
    "head",
    "trainer",
    "logger",
    "experiment",
    "hparams",
)
PLUGINS = ("hydra/launcher", "hydra/sweeper")  # of which there may be others, of packages that the user has installed

EXAMPLES = """\
  python -m galaxyml task=galaxyzoo model=tiny scale=smoke
      one fold on the simulated sky, in a minute
  python -m galaxyml task=galaxyzoo model=resnet50 -m fold=0,1,2,3,4
      five folds, joined to out-of-fold predictions and a submission
  python -m galaxyml task=galaxy10 loss=focal name=focal -m fold=0,1,2,3,4 seed=0,1,2
      ten classes; a table over seeds and folds
  python -m galaxyml task=spirals model=resnet50 model.pretrained=true tune=head
      spiral or elliptical; the backbone frozen, its features computed once
  python -m galaxyml task=surveys train=[sdss,decals12] test=[ukidss] tune=[head,all] name=mixed
      votes of two surveys, judged on a third that is never trained on; DINOv2, its head first
  python -m galaxyml task=plasticc leave_out=[6,53,95] data_dir=data name=rare
      light curves unlike the known classes, a ranked list; three known classes have to be found
  python -m galaxyml task=images data_dir=mine labels=labels.csv model=resnet50 name=mine
      pictures and a table of your own (id, path, and what is to be predicted: a class, or numbers)
  python -m galaxyml task=galaxyzoo model=tiny hparams=supervised hydra.sweeper.n_trials=20 name=search -m
      a search by Optuna (galaxyml[optuna]) for the best learning rate and the like; best.yaml has what it found
  python -m galaxyml task=galaxyzoo data_dir=~/data name=mine fold=0 epochs=50 optim.lr=3e-4
      real files in ~/data/galaxyzoo; the same command carries on where it was stopped"""


def prepare(args: list[str]) -> list[str]:
    """The user's arguments as Hydra takes them.

    Raises:
        UserError: If a key, or a choice of a group, does not exist; the message has near ones.
    """
    flags, rest = _flags_apart(args)
    found = [match.groups() for arg in rest if (match := _OVERRIDE.fullmatch(arg))]
    given = {key: value for _, key, value in found}
    keys = known_keys() | {key.split(".")[0] for sign, key, _ in found if sign}
    for key, value in given.items():
        if key in GROUPS or (key in PLUGINS and not _has_others()):
            for choice in _choices(value):
                _check_choice(key, choice)
        elif (first := key.split(".")[0].split("/")[0].split("@")[0]) not in keys:
            raise UserError(
                f"There is no key '{first}' ({key}={value}). {did_you_mean(first, keys)} A new one takes a +: +{key}=…"
            )
        _check_belongs(key.lstrip("+~").split(".")[0], given)
    if not given or wants_help(flags):
        return flags + rest
    if {"--cfg", "-c"} & set(flags) and (swept := [key for key, value in given.items() if _is_swept(value)]):
        raise UserError(f"--cfg shows the configuration of one run; give {swept[0]} a single value.")
    one = {"task": "its runs are compared with each other", "name": "it is that of their folder"}
    if given.get("task") == "images":
        one |= dict.fromkeys(("data_dir", "labels", "columns", "kind", "classes", "tree"), "it asks one question")
    for key, why in one.items():
        if _is_swept(given.get(key, "")):
            raise UserError(f"{key}={given[key]}: a sweep has one {key}, as {why}. Give a command for each.")
    told = labels.settings(given)
    rest += told
    # Only what is swept, besides the fold, belongs into the name of a run's folder.
    fixed = [key for key, value in given.items() if key == "fold" or not _is_swept(value)]
    fixed += [setting.partition("=")[0] for setting in told]
    names = ",".join(f"'{key}'" for key in fixed if not key.startswith("hydra."))
    if "hydra/sweeper" not in given and _is_search(given):
        rest.append("hydra/sweeper=optuna")
    return [*flags, *rest, f"hydra.job.config.override_dirname.exclude_keys=[{names}]"]


def _check_belongs(key: str, given: dict[str, str]) -> None:
    """Refuses keys and groups that only other tasks have, or use.

    Raises:
        UserError: If the tasks that the user names have no such key.
    """
    having = [
        path.stem
        for path in CONF.glob("task/*.yaml")
        if any(key in _keys_of(part) | _used_by(part) for part in (path, *_parts_of(path)))
    ]
    tasks = _choices(given.get("task", "galaxyzoo"))
    if not having or "experiment" in given:  # an experiment may name the task
        return
    if lacking := [task for task in tasks if task not in having]:
        raise UserError(f"task={lacking[0]} has no '{key}'; these tasks have it: {', '.join(sorted(having))}.")


def _keys_of(path: Path) -> set[str]:
    """Keys and groups that a task's file brings besides the root's."""
    text = path.read_text(encoding="utf-8")
    own = set(re.findall(r"^(\w+):", text, re.MULTILINE)) | set(re.findall(r"^ *- /(\w+)[:@]", text, re.MULTILINE))
    own |= set(re.findall(r"^ *- /\w+@(\w+)", text, re.MULTILINE))
    return own - {"defaults", *_root_groups(), *(key for key, _, _ in _root_keys())}


def _parts_of(path: Path) -> list[Path]:
    """Files of the groups that a task's file brings which may bring groups and keys of their own."""
    groups = re.findall(r"^ *- /(\w+):", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [
        part
        for group in groups
        for part in CONF.glob(f"{group}/*.yaml")
        if "@package _global_" in part.read_text(encoding="utf-8")
    ]


def _root_groups() -> list[str]:
    """Groups that every run has."""
    return re.findall(r"^  - (\w+):", (CONF / "config.yaml").read_text(encoding="utf-8"), re.MULTILINE)


def _used_by(path: Path) -> set[str]:
    """Keys and groups of the root that a task's file refers to."""
    return set(re.findall(r"\$\{(\w+)[.}]", path.read_text(encoding="utf-8")))


def explained(error: Exception) -> str:
    """What Hydra says of a command that it cannot read, in one line, with near names for a key that does not exist."""
    key, siblings = (getattr(error.__cause__, name, None) for name in ("full_key", "parent_node"))
    if "Could not override" in str(error) and key:
        keys = siblings.keys() if isinstance(siblings, Mapping) else ()
        names = [str(name) for name in keys if not str(name).startswith("_")]
        above, _, last = key.rpartition(".")
        more = (
            f"{did_you_mean(last, names)} A new one takes a +: +{key}=…"
            if names
            else f"'{above}' is a value without parts."
        )
        return f"There is no key '{key}'. {more}"
    return " ".join(f"{error} {error.__cause__ or ''}".split())


def wants_quiet(args: list[str]) -> bool:
    """Whether the user wants to be told only what goes wrong, and where the report is."""
    return bool(set(QUIET) & set(args))


def wants_help(args: list[str]) -> bool:
    """Whether the user asks for help."""
    return bool({"-h", "--help"} & set(args))


def help_text() -> str:
    """What a person needs to know to begin."""
    lines = [
        "galaxyml trains, judges and compares models of galaxies.",
        "",
        "usage: python -m galaxyml [task=TASK] [model=MODEL] [key=value …] [-m key=value,value …]",
        "",
        "examples:",
        EXAMPLES,
        "",
        "choices:",
    ]
    for group in GROUPS:
        for place, path in enumerate(sorted((CONF / group).glob("*.yaml"))):
            lines.append(f"  {group if not place else '':<11}{path.stem:<12} {_description(path)}")
    lines += ["", "keys (defaults):"]
    for key, value, comment in _root_keys():
        lines.append(f"  {key:<23}{value:<10} {comment}")
    lines += [
        "",
        "-q tells only what goes wrong, and where the report is.",
        "-m sweeps over every value that is given with commas. Results: multirun/<task>/<name>/report.md",
        "python -m galaxyml fetch NAME: real data, put where tasks read them (--list has the names).",
        "python -m galaxyml predict RUN PICTURES… --out predictions.csv: what a finished run says of other pictures.",
        "python -m galaxyml report FOLDER: a run's or a sweep's report again, finished or not.",
        "python -m galaxyml compare RUN RUN…: which is better, on the objects that all predicted.",
        "--cfg job prints the whole configuration; any key of it can be given. --hydra-help: Hydra's own flags.",
    ]
    return "\n".join(lines)


def known_keys() -> set[str]:
    """First parts of all keys that a command may give."""
    keys = {*GROUPS, "hydra", *(key for key, _, _ in _root_keys())}
    for path in (*CONF.glob("task/*.yaml"), *CONF.glob("scale/*.yaml"), *CONF.glob("experiment/*.yaml")):
        text = path.read_text(encoding="utf-8")
        keys.update(re.findall(r"^(\w+):", text, re.MULTILINE), re.findall(r"^ *- /\w+@(\w+)", text, re.MULTILINE))
    return keys - {"defaults"}


def _flags_apart(args: list[str]) -> tuple[list[str], list[str]]:
    """Flags with their values, and overrides.

    Hydra 1.3 reads no override after a flag (facebookresearch/hydra#3053).
    """
    flags, rest, waiting = [], [], [arg for arg in args if arg not in QUIET]
    while waiting:
        arg = waiting.pop(0)
        if not arg.startswith("-"):
            rest.append(arg)
            continue
        flags.append(arg)
        if arg in VALUED and waiting and "=" not in waiting[0]:
            flags.append(waiting.pop(0))
    if {"--cfg", "-c", "--info", "-i", "--run", "--shell-completion", "-sc"} & set(flags):
        flags = [flag for flag in flags if flag not in ("-m", "--multirun")]  # Hydra takes only one of them
    return flags, rest


_CASTS = r"(?:(?:int|float|str|bool)\()*"
_OVERRIDE = re.compile(r"([+~]{0,2})([\w/.@]+)=(.*)", re.DOTALL)


def _root_keys() -> list[tuple[str, str, str]]:
    """Key, default and comment of the root's own keys."""
    found = re.findall(
        r"^(\w+): *([^#\n]*?) *(?:# *(.*))?$", (CONF / "config.yaml").read_text(encoding="utf-8"), re.MULTILINE
    )
    names = {"${now:%Y-%m-%d_%H-%M-%S}": "the time", "${oc.env:GALAXYML_CACHE,'~/.cache/galaxyml'}": "~/.cache/…"}
    return [
        (key, names.get(value, value), comment) for key, value, comment in found if key not in ("defaults", "hydra")
    ]


def _description(path: Path) -> str:
    """The first comment of a configuration file that is no directive of Hydra's."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line[2:] for line in lines if line.startswith("# ") and not line.startswith("# @")), "")


def _choices(value: str) -> list[str]:
    """The names in `a`, `a,b` or `choice(a,b)`; none for what only Hydra can read."""
    inside = re.fullmatch(r"choice\((.*)\)", value)
    value = inside.group(1) if inside else value
    return [] if re.search(r"[()\[\]{}$'\"]", value) else [name.strip() for name in value.split(",") if name.strip()]


def _is_swept(value: str) -> bool:
    """Whether Hydra takes a value as several."""
    if re.match(rf"{_CASTS}(choice|range|interval|glob|shuffle|sort|tag)\(", value):
        return True
    inside, left = "", value
    while inside != left:  # from the innermost brackets outwards: [6,53],[95] are two values
        inside, left = left, re.sub(r"'[^']*'|\"[^\"]*\"|[\[{(][^\[\]{}()]*[\]})]", "", left)
    return "," in left


def _is_search(given: dict[str, str]) -> bool:
    """Whether what was typed needs a sweeper that chooses: Hydra's own can only go through lists."""
    intervals = any(re.match(rf"{_CASTS}(interval|tag)\(", value) for value in given.values())
    parts = any(key.startswith("hydra/sweeper/") for key in given)  # a sampler, a pruner
    return intervals or parts or given.get("hparams", "null") != "null"


def _has_others() -> bool:
    """Whether packages are installed that bring launchers or sweepers for Hydra."""
    return any((Path(folder) / "hydra_plugins").is_dir() for folder in sys.path)


def _check_choice(group: str, choice: str) -> None:
    choices = {path.stem for path in (CONF / group).glob("*.yaml")} | ({"basic"} if group in PLUGINS else set())
    if choice in choices or (choice == "null" and group in ("experiment", "hparams")):
        return
    if group == "model":
        nets = _timm_names()
        if choice.split(".")[0] in nets:
            _add_model(choice)
            return
        choices = choices | nets if did_you_mean(choice, choices | nets).startswith("Did") else choices
    more = " Any net of timm goes by its own name." if group == "model" else ""
    raise UserError(f"There is no {group} '{choice}'. {did_you_mean(choice, choices)}{more}")


def _timm_names() -> set[str]:
    """Names of timm's nets, read from its source: importing it takes seconds."""
    spec = find_spec("timm")
    assert spec is not None
    assert spec.origin is not None
    files = (Path(spec.origin).parent / "models").glob("*.py")
    return {name for path in files for name in re.findall(r"@register_model\s+def (\w+)\(", path.read_text("utf-8"))}


def _add_model(name: str) -> None:
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(group="model", name=name, node={"defaults": ["timm", "_self_"], "name": name})
