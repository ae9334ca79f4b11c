"""Silences messages of libraries that a normal run gives no reason for."""

import logging
import os
import warnings

MESSAGES = (
    ".*does not have many workers.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*LeafSpec.*",
    ".*isinstance.*treespec.*",
    ".*`lr_scheduler.step\\(\\)` before `optimizer.step\\(\\)`.*",
    ".*was already called earlier.*",
    ".*GPU available but not used.*",
    ".*`srun` command is available.*",
    ".*smaller than the logging interval.*",  # what an epoch sums up is logged all the same
    ".*infer the batch indices.*",  # which predictions have as `index`
    ".*sync_dist=True.*",  # what is logged is the same in all processes
    ".*IProgress not found.*",  # of tqdm in a notebook, which draws no bars here
    ".*module\\(s\\) in eval mode.*",  # of a frozen backbone, which is meant to be
)


def quiet() -> None:
    """Silences Lightning's and TensorFlow's chatter, that of imports after it too; warnings that matter still show."""
    ignore_warnings()
    import lightning.pytorch  # noqa: F401  # which sets up its loggers

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        logger.handlers.clear()  # Lightning adds its own, which would print every line a second time
        logger.propagate = True


def ignore_warnings() -> None:
    """Silences warnings that a normal run gives no reason for, those of imports among them; imports nothing itself."""
    for message in MESSAGES:
        warnings.filterwarnings("ignore", message=message)
