"""The help of `galaxyml`: examples, subcommands, and what `conf/` offers."""

from galaxyml.cli import conf
from galaxyml.cli.commands import COMMANDS

EXAMPLES = """\
  galaxyml task=galaxyzoo model=tiny scale=smoke
      one fold on the simulated sky, in a minute
  galaxyml task=galaxyzoo model=resnet50 -m fold=0,1,2,3,4
      five folds, joined to out-of-fold predictions and a submission
  galaxyml task=galaxy10 loss=focal name=focal -m fold=0,1,2,3,4 seed=0,1,2
      ten classes; a table over seeds and folds
  galaxyml task=spirals model=resnet50 model.pretrained=true tune=head
      spiral or elliptical; the backbone frozen, its features computed once
  galaxyml task=surveys train=[sdss,decals12] test=[ukidss] tune=[head,all] name=mixed
      votes of two surveys, judged on a third that is never trained on; DINOv2, its head first
  galaxyml task=plasticc leave_out=[6,53,95] data_dir=data name=rare
      light curves unlike the known classes, a ranked list; three known classes are left out, to be ranked high
  galaxyml task=images data_dir=mine labels=labels.csv model=resnet50 name=mine
      images and a table of your own (id, path, and what is to be predicted: a class, or numbers)
  galaxyml task=galaxyzoo model=tiny hparams=supervised hydra.sweeper.n_trials=20 name=search -m
      a search by Optuna (galaxyml[optuna]) for the best learning rate and the like; the best values go to best.yaml
  galaxyml task=galaxyzoo data_dir=~/data name=mine fold=0 epochs=50 optim.lr=3e-4
      real files in ~/data/galaxyzoo; the same command carries on where it was stopped"""
GREETING = """\
galaxyml trains, judges and compares models of galaxies and of light curves. To begin with:

  galaxyml task=galaxyzoo model=tiny scale=smoke
      trains on the simulated sky, in a minute; data_dir=… trains on real files
  galaxyml fetch --list
      public data, and what of it is here
  galaxyml --help
      all tasks, models, keys and commands"""
SHOWN = {"${now:%Y-%m-%d_%H-%M-%S}": "the time", "${oc.env:GALAXYML_CACHE,'~/.cache/galaxyml'}": "~/.cache/…"}


def help_text() -> str:
    """The help text: usage, commands, examples, choices and keys."""
    lines = [
        "galaxyml trains, judges and compares models of galaxies and of light curves.",
        "",
        "usage: galaxyml [task=TASK] [model=MODEL] [key=value …] [-m key=value,value …]",
        "       galaxyml COMMAND …         (python -m galaxyml is the same)",
        "",
        "commands (each has its own --help; without one it trains):",
        *(f"  {word:<9} {takes:<23} {does}" for word, (_, takes, does) in COMMANDS.items()),
        "",
        "examples:",
        EXAMPLES,
        "",
        "choices:",
    ]
    for group in conf.groups():
        for number, (name, path) in enumerate(conf.choices(group).items()):
            lines.append(f"  {'' if number else group:<11} {name:<20} {conf.description(path)}".rstrip())
    lines += ["", "keys (defaults):"]
    lines += [
        f"  {key:<23}{SHOWN.get(value, value):<10} {comment}" for key, (value, comment) in conf.root_keys().items()
    ]
    lines += [
        "",
        "-q prints errors only, and where the report is. --version prints galaxyml's version.",
        "--wait begins when no other command has the same runs made any more, where it would be refused.",
        "-m sweeps over every value that is given with commas. Results: multirun/<task>/<name>/report.md",
        "--config-dir DIR adds files of your own to these choices (DIR/task/mine.yaml); modules beside DIR are found.",
        "--cfg job prints the whole configuration; any key of it can be given. --hydra-help: Hydra's own flags.",
        "exit status: 0 done, 1 a run or a command failed, 2 what was typed cannot be used, 130 or 143 stopped.",
    ]
    return "\n".join(lines)
