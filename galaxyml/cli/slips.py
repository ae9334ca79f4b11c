"""Command lines in the manner of other programs, answered with the one that was probably meant."""

import re
import shlex
from collections import deque
from collections.abc import Sequence

from galaxyml.cli import conf
from galaxyml.cli.commands import COMMANDS
from galaxyml.cli.overrides import HELP, NOT_SWEPT, OVERRIDE, QUIET, SWEEP, VALUED, VERSION, WAIT, timm_names
from galaxyml.models.sources import Source
from galaxyml.runs.errors import UsageError, did_you_mean, shorten

FLAGS = VALUED | QUIET | WAIT | HELP | NOT_SWEPT | SWEEP | VERSION | {"-r", "--resolve", "--hydra-help"}
VALUES: dict[str, tuple[str, ...]] = {"--cfg": ("job", "hydra", "all")}
VALUES |= {"--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")}
VALUES |= {"-c": VALUES["--cfg"], "-i": VALUES["--info"]}
OPTIONAL = {"--info", "-i", "--shell-completion", "-sc"}  # flags that may stand without a value
TRAIN = "train"  # the command that there is none of


def check_words(arguments: Sequence[str]) -> None:
    """Makes sure that each word is one of `FLAGS`, with its value, or `key=value`.

    Raises:
        UsageError: If one is not; the message has the whole command that was probably meant, if there is one.
    """
    meant: list[str] = []
    reasons: list[str] = []
    left = deque(arguments)
    while left:
        word = left.popleft()
        flag, _, value = word.partition("=")
        if flag in FLAGS:
            meant += [word, *_value_of_flag(flag, value, left)]
        elif word.startswith("-"):
            key = _key(flag)
            value = value or (left.popleft() if left and _is_value(left[0]) else "…")
            meant.append(f"{key}={value}")
            reasons.append(f"{flag} is written {key}=…: keys have no dashes")
        elif left and (left[0].startswith("=") or (word.endswith("=") and _is_value(left[0]))):
            assigned = word + left.popleft()
            meant.append(assigned + left.popleft() if assigned.endswith("=") and left else assigned)
            reasons.append("there are no spaces around =")
        elif meant and meant[-1].endswith(",") and _is_value(word):
            meant[-1] += word
            reasons.append("there are no spaces after commas")
        elif "=" in word or word.startswith("~"):
            if not OVERRIDE.fullmatch(word):
                raise UsageError(f"'{word}' is neither a flag nor key=value. galaxyml --help has examples.")
            meant.append(word)
        else:
            reasons.append(_stray(word, meant, left))
    if reasons:
        command = _typed(meant or [f"task={conf.root_defaults()['task']}"])
        raise UsageError(f"{reasons[0][0].upper()}{reasons[0][1:]}. Did you mean: {command}")
    _check_flags(arguments)


def _value_of_flag(flag: str, value: str, left: deque[str]) -> list[str]:
    """The next word, taken from those that are left, where it is the value of a flag."""
    if flag not in VALUED:
        return []
    choices = VALUES.get(flag, ())
    has_next = not value and left and _is_value(left[0])
    given = value or (left[0] if has_next else "")
    if not given and flag not in OPTIONAL:
        raise UsageError(f"{flag} needs a value" + (f": {', '.join(choices)}." if choices else f", as in {flag} …"))
    if given and choices and given not in choices:
        raise UsageError(f"{flag} {given}: it must be one of {', '.join(choices)}.")
    return [left.popleft()] if has_next else []


def _key(flag: str) -> str:
    """The key that a flag such as `--batch-size` is meant for.

    Raises:
        UsageError: If there is none.
    """
    key = flag.lstrip("-").replace("-", "_")
    if key.split(".")[0] in conf.known_keys():
        return key
    if nested := conf.nested(key):
        return nested[0]
    long = [name for name in FLAGS if name.startswith("--")]
    near = did_you_mean(flag, long)
    if near.startswith("There are") and (keys := did_you_mean(key, conf.known_keys())).startswith("Did"):
        near = f"{keys.removesuffix('?')}, which is written key=value?"
    raise UsageError(f"There is no flag '{flag}'. {near}")


def _is_value(word: str) -> bool:
    """Whether a word may be a value that was torn off its key or its flag."""
    return "=" not in word and (not word.startswith("-") or re.match(r"-[\d.]", word) is not None)


def _stray(word: str, meant: list[str], left: deque[str]) -> str:
    """Why a word by itself is none; what it may stand for is added to the words that were meant.

    Raises:
        UsageError: If it stands for nothing.
    """
    if word == TRAIN and not meant:
        return "training is what galaxyml does without a command"
    if word in COMMANDS:
        raise UsageError(f"'{word}' is a command, and comes first: galaxyml {word} {COMMANDS[word][1]}")
    if word in conf.known_keys() and left and _is_value(left[0]):
        meant.append(f"{word}={left.popleft()}")
        return f"a value follows its key after =, as in {meant[-1]}"
    group = next((group for group in conf.groups() if word in conf.choices(group)), None)
    if group is None and (Source.read(word) or word.split(".")[0] in timm_names()):
        group = "model"
    if group is not None:
        meant.append(f"{group}={word}")
        return f"'{word}' is a {group}"
    if meant and "=" in meant[-1] and not meant[-1].startswith("-"):
        meant[-1] += f" {word}"
        return f"'{word}' stands by itself: a value with spaces is put between quotation marks"
    if not meant and re.fullmatch(r"[\w.-]+", word):
        near, tasks = did_you_mean(word, COMMANDS), did_you_mean(word, conf.choices("task"))
        if tasks.startswith("Did") and not near.startswith("Did"):
            near = tasks.replace("mean ", "mean task=").replace(" or ", " or task=")
        raise UsageError(
            f"There is no command '{word}'. {near} Without one it trains, and takes key=value: galaxyml --help."
        )
    raise UsageError(f"'{word}' is neither a flag nor key=value. galaxyml --help has examples.")


def _typed(words: Sequence[str]) -> str:
    """The command as it is typed; what has to be filled in is left as `…`."""
    return " ".join(["galaxyml", *(word if word.endswith("=…") else shlex.quote(word) for word in words)])


def _check_flags(arguments: Sequence[str]) -> None:
    """Refuses flags that exclude each other."""
    flags = [word.partition("=")[0] for word in arguments]
    shown = [flag for flag in flags if flag in NOT_SWEPT]
    if len(shown) > 1:
        raise UsageError(f"{shorten(shown, ' and ')}: give one of them.")
    if "--resolve" in flags and not {"--cfg", "-c"} & set(flags):
        raise UsageError("--resolve is for --cfg: galaxyml --cfg job --resolve")
