"""The user's words made ready for Hydra: flags first, names checked, text quoted, any net of timm by its name."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galaxyml.cli import conf
from galaxyml.models.sources import Source
from galaxyml.runs.errors import UserError, did_you_mean, shorten

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override as Parsed

# Hydra's flags that take a value.
VALUED = {"--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"}
VALUED |= {"--info", "-i", "--experimental-rerun", "--shell-completion", "-sc"}
CONFIG_DIR = ("--config-dir", "-cd")
NOT_SWEPT = {"--cfg", "-c", "--info", "-i", "--run", "--shell-completion", "-sc"}  # with which Hydra refuses -m
SWEEP = {"-m", "--multirun"}
QUIET, WAIT = {"-q", "--quiet"}, {"--wait"}  # ours
VERSION = {"--version"}
HELP = {"-h", "--help"}

OVERRIDE = re.compile(r"([+~]{0,2})([\w/.@]+)(?:=(.*))?", re.DOTALL)
_PLAIN = re.compile(r"(?!null$)[\w./-]*", re.ASCII | re.IGNORECASE)  # needs no parser, which takes a while to load
TEXTS = ("data_dir", "cache_dir", "labels", "name")  # values that are text, as it was typed
FILES = ("model.weights", "start", "table", "tree")  # that may be swept, too
_WORD = re.compile(r"(?!(null|true|false|nan|inf)$)[^\W\d][\w./-]*", re.ASCII | re.IGNORECASE)  # which is no number
_AT_COMMAS = re.compile(r"""(?:'(?:\\.|[^'])*'|"(?:\\.|[^"])*"|\[[^\]]*\]|\{[^}]*\}|[^,])+""")
_FUNCTION = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag|extend_list|int|float|str|bool|json_str)\(")


@dataclass(frozen=True)
class Override:
    """The value that the user gives a key.

    Attributes:
        sign: `+`, `++`, `~`, or none.
        key: Such as `optim.lr`.
        value: As Hydra's grammar takes it.
    """

    sign: str
    key: str
    value: str

    @classmethod
    def read(cls, typed: str) -> "Override":
        """Reads `key=value`; quotes what the grammar would refuse or take for something else, such as `name=007`.

        Raises:
            UserError: If it is none.
        """
        match = OVERRIDE.fullmatch(typed)
        if match is None or (match[3] is None and match[1] != "~"):
            raise UserError(f"'{typed}' is neither a flag nor key=value. galaxyml --help has examples.")
        sign, key, value = match[1], match[2], match[3] or ""
        return cls(sign, key, as_typed(key, value) if key in TEXTS + FILES else quoted_where_needed(value))

    def __str__(self) -> str:
        return f"{self.sign}{self.key}" + (f"={self.value}" if self.value or self.sign != "~" else "")

    @cached_property
    def parsed(self) -> "Parsed | None":
        """Hydra's reading; None of a plain word or number, and of what it cannot read, which it says itself."""
        return None if _PLAIN.fullmatch(self.value) else _parsed(self.value)

    @property
    def swept(self) -> bool:
        """Whether Hydra takes the value as several."""
        return self.parsed is not None and self.parsed.is_sweep_override()

    @property
    def searched(self) -> bool:
        """Whether it takes a sweeper that chooses: Hydra's own can only go through lists."""
        ordered = self.swept and re.search(r"\b(interval|tag)\(", self.value)
        return (
            bool(ordered) or self.key.startswith("hydra/sweeper/") or (self.key == "hparams" and self.value != "null")
        )

    @property
    def choices(self) -> list[str]:
        """Names of a group's choices; none for what only Hydra can tell."""
        if self.parsed is None:
            return [self.value] if self.value else []
        if self.parsed.is_choice_sweep():
            # Hydra escapes what stands in the way of reading it again.
            choices = [
                choice.replace("\\", "").strip("'\"") for choice in map(str, self.parsed.sweep_string_iterator())
            ]
            return [choice for choice in choices if re.fullmatch(r"[\w.-]+", choice) or Source.read(choice)]
        return [] if self.swept or re.search(r"[\[{$]", self.value) else [self.plain or "null"]

    @property
    def plain(self) -> Any:
        """The value as text or a list of texts, None where it is left open."""
        value = self.value if self.parsed is None or self.swept else self.parsed.value()
        if isinstance(value, list):
            return [str(item) for item in value]
        return None if value in (None, "") else str(value)


def prepare(args: Sequence[str]) -> list[str]:
    """The user's arguments as Hydra takes them; what `--config-dir` brings is read already (`conf.read_also`).

    Raises:
        UserError: If a key, or a choice of a group, does not exist; the message has near ones.
    """
    flags, words = _flags_apart(args)
    own = config_dir(flags)
    overrides = [Override.read(word) for word in words]
    if not overrides:
        return flags
    tasks = conf.tasks_of({override.key: override.choices for override in overrides})
    _check_names(overrides, tasks)
    if {"--cfg", "-c"} & set(flags) and (swept := [override.key for override in overrides if override.swept]):
        raise UserError(f"--cfg shows the configuration of one run; give {swept[0]} a single value.")
    given = {override.key: override for override in overrides}
    question = conf.question(tasks)
    single = {"task": "its runs are compared with each other", "name": "it is that of their folder"}
    for key, why in (single | dict.fromkeys(question, "it asks one question")).items():
        if key in given and given[key].swept:
            raise UserError(f"{key}={given[key].value}: a sweep has one {key}, as {why}. Give a command for each.")
    if question:
        for key in ("hdu", "bands"):
            if key in given and given[key].swept and "channels" not in given:
                raise UserError(f"{key}={given[key].value}: of a sweep over it, channels=… says how many there are.")
        module, _, name = conf.answered_by(tasks).rpartition(".")
        answer = getattr(import_module(module), name)
        answers = answer({key: override.plain for key, override in given.items()})
        overrides += [
            Override("", key, "null" if answer is None else quoted(answer)) for key, answer in answers.items()
        ]
    if "start" in given and (path := _first_of(given["start"])):
        from galaxyml.cli.start import settings

        overrides += [Override("", key, _literal(value)) for key, value in settings(path, given, tasks).items()]
    if "hydra/sweeper" not in given and any(override.searched for override in overrides):
        overrides.append(Override("", "hydra/sweeper", "optuna"))
    if own is not None:
        overrides.append(Override("+", "config_dir", quoted(str(own))))  # where a run finds its code again
    # Only what is swept, besides the fold, belongs into the name of a run's folder.
    fixed = [override.key for override in overrides if override.key == "fold" or not override.swept]
    names = ",".join(f"'{key}'" for key in fixed if not key.startswith(("hydra.", "hydra/")))
    return [*flags, *map(str, overrides), f"hydra.job.config.override_dirname.exclude_keys=[{names}]"]


def _first_of(override: Override) -> str:
    """The first file that a key is given, '' for none."""
    if override.parsed is not None and override.parsed.is_choice_sweep():
        given = [str(choice) for choice in override.parsed.sweep_iterator()]
    else:
        given = [override.plain or ""]
    return next((text for name in given if (text := name.strip("'\"")) not in ("", "null")), "")


def _literal(value: Any) -> str:
    """A value of a YAML file as Hydra takes it."""
    return quoted(value) if isinstance(value, str) else "null" if value is None else str(value).replace("'", "").lower()


def quoted(value: str | Sequence[str]) -> str:
    """Text, or a list of texts, as Hydra takes it literally.

    >>> quoted(["E", "S0/a = lens"])
    "['E','S0/a = lens']"
    """
    if not isinstance(value, str):
        return f"[{','.join(map(_quote, value))}]"
    return value if _PLAIN.fullmatch(value) else _quote(value)


def as_typed(key: str, value: str) -> str:
    """A text with quotation marks around it; several where it has commas and is one of `FILES`, but names none.

    >>> as_typed("name", "sky [z=0.1], 2"), as_typed("model.weights", "a.pth,b.pth"), as_typed("labels", "'a b.csv'")
    ("'sky [z=0.1], 2'", 'a.pth,b.pth', "'a b.csv'")
    >>> as_typed("start", "null,sky"), as_typed("name", "null,sky")
    ('null,sky', "'null,sky'")
    """
    own_marks = len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" and _parsed(value) is not None
    if value in ("", "null") or own_marks or "${" in value or _FUNCTION.match(value):
        return quoted_where_needed(value)
    parts = value.split(",") if key in FILES and not Path(value).exists() else [value]
    plain = {"null"} if len(parts) > 1 else set()  # one of several files may be none
    return ",".join(part if part in plain or _WORD.fullmatch(part) else _quote(part) for part in parts)


def quoted_where_needed(value: str) -> str:
    """A value that was typed, with quotation marks around what Hydra's grammar takes for no text.

    >>> quoted_where_needed("data/Ünï (2)"), quoted_where_needed("[r90,b/a (r)]"), quoted_where_needed("1e-3,1e-4")
    ("'data/Ünï (2)'", "[r90,'b/a (r)']", '1e-3,1e-4')
    """
    if _PLAIN.fullmatch(value) or _FUNCTION.match(value) or _parsed(value) is not None:
        return value
    is_list = value[0] == "[" and value[-1] == "]"
    if is_list or "," in value:
        parts = _AT_COMMAS.findall(value[1:-1] if is_list else value)
        joined = ",".join(map(quoted_where_needed, parts))
        return f"[{joined}]" if is_list else joined
    return value if value[0] in "'\"{" else _quote(value)


def _quote(text: str) -> str:
    """Text between quotation marks; Hydra reads backslashes before one of these alone."""
    if "${" in text:
        raise UserError(f"'{text}' holds ${{, which stands for a reference in a configuration. Call it something else.")
    return "'" + re.sub(r"(\\*)('|$)", lambda match: 2 * match[1] + ("\\'" if match[2] else ""), text) + "'"


def _parsed(value: str) -> "Parsed | None":
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(f"x={value}")
    except HydraException:
        return None


def _flags_apart(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags with their values, and overrides.

    Hydra 1.3 reads no override after a flag (facebookresearch/hydra#3053).
    """
    flags: list[str] = []
    words: list[str] = []
    given = [arg for arg in args if arg not in QUIET | WAIT]
    for before, arg in zip(["", *given], given, strict=False):
        is_value = before in VALUED and "=" not in arg
        (flags if arg.startswith("-") or is_value else words).append(arg)
    if NOT_SWEPT & set(flags):
        flags = [flag for flag in flags if flag not in SWEEP]
    return flags, words


def typed(args: Sequence[str]) -> list[Override]:
    """The overrides of a command line.

    Raises:
        UserError: If a word is none.
    """
    return [Override.read(word) for word in _flags_apart(args)[1]]


def config_dir(flags: Sequence[str]) -> Path | None:
    """The folder of configurations of the user's own, an absolute path."""
    for flag, after in zip(flags, [*flags[1:], ""], strict=False):
        name, equals, value = flag.partition("=")
        if name in CONFIG_DIR:
            if not (given := value if equals else after):
                raise UserError(f"{name}: give a folder of your own with task/…yaml, such as {name} mine/conf.")
            return Path(given).absolute()
    return None


def _check_names(overrides: Sequence[Override], tasks: Sequence[str]) -> None:
    """Makes sure that keys, choices of groups, and keys of the command's task exist.

    Raises:
        UserError: If one does not.
    """
    keys = conf.known_keys() | {override.key.split(".")[0] for override in overrides if override.sign}
    for override in overrides:
        key, first = override.key, re.split(r"[./@]", override.key)[0]
        if key in conf.groups() or (key in conf.PLUGINS and not _has_other_plugins()):
            for choice in override.choices:
                _check_choice(key, choice)
                having = conf.tasks_of_experiment(choice) if key == "experiment" else conf.tasks_for(key, choice)
                if having and not set(tasks) <= set(having):
                    raise UserError(f"{key}={choice} is for task={' or task='.join(having)}, not task={tasks[0]}.")
        elif first not in keys:
            nested = conf.nested(key, tasks)
            near = f"Did you mean {shorten(nested, ' or ')}?" if nested else did_you_mean(first, keys)
            raise UserError(f"There is no key '{first}' ({override}). {near} A new one takes a +: +{override}")
        having = conf.tasks_with(first)
        if having and (lacking := [task for task in tasks if task not in having]):
            raise UserError(f"task={lacking[0]} has no '{first}'; these tasks have it: {', '.join(having)}.")


def _check_choice(group: str, choice: str) -> None:
    choices = set(conf.choices(group)) | ({"basic"} if group in conf.PLUGINS else set())
    if choice in choices or choice == conf.root_defaults().get(group) == "null":
        return
    if group == "model":
        if (source := Source.read(choice)) is not None:
            from galaxyml.models.hub import net_arguments  # which asks the hub, and timm

            _add_model(choice, net_arguments(source))
            return
        nets = timm_names()
        if choice.split(".")[0] in nets:
            _add_model(choice, {"name": choice})
            return
        choices = choices | nets if did_you_mean(choice, choices | nets).startswith("Did") else choices
    more = " Any net of timm goes by its own name, and hf-hub:OWNER/NAME by the hub's." if group == "model" else ""
    raise UserError(f"There is no {group} '{choice}'. {did_you_mean(choice, choices)}{more}")


def _has_other_plugins() -> bool:
    """Whether packages are installed that bring launchers or sweepers for Hydra."""
    return any((Path(folder) / "hydra_plugins").is_dir() for folder in sys.path)


def timm_names() -> set[str]:
    """Names of timm's nets, read from its source: importing it takes seconds."""
    from importlib.util import find_spec

    spec = find_spec("timm")
    assert spec is not None
    assert spec.origin is not None
    files = (Path(spec.origin).parent / "models").glob("*.py")
    return {name for path in files for name in re.findall(r"@register_model\s+def (\w+)\(", path.read_text("utf-8"))}


def _add_model(name: str, arguments: dict[str, Any]) -> None:
    """Adds a choice to the group of models; a / in its name is for Hydra what it is in a file's."""
    from hydra.core.config_store import ConfigStore

    folder, _, last = f"model/{name}".rpartition("/")
    ConfigStore.instance().store(group=folder, name=last, node={"defaults": ["timm", "_self_"], **arguments})
