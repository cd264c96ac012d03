"""What every entry point shares: compose with Hydra, hand over a plain dict, print a user's error as one line."""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra would print errors over several lines and exit; now `entry` does

import hydra  # noqa: E402
from hydra.errors import HydraException  # noqa: E402
from omegaconf import DictConfig, OmegaConf  # noqa: E402
from omegaconf.errors import OmegaConfBaseException  # noqa: E402

from pm.config import unknown_key  # noqa: E402
from pm.errors import PmError  # noqa: E402
from pm.startup import collect_rarely  # noqa: E402

OmegaConf.register_new_resolver("root", lambda path: str(ROOT / path), replace=True)


def entry(
    config_name: str,
    run: Callable[[Callable[[dict], None], dict], None] = lambda main, cfg: main(cfg),
    sentences: tuple[str, ...] = (),
) -> Callable[[Callable[[dict], None]], Callable[[], None]]:
    """Turn `main(cfg: dict)` into a command: `conf/<config_name>.yaml` plus overrides → a plain, resolved dict.

    `run(main, cfg)` calls it; with `-m`, once for each cell. Values of `sentences` are taken as written: commas too.
    A `PmError` or a Hydra error ends it with one line on stderr and status 1; a defect keeps its traceback.
    """

    def decorate(main: Callable[[dict], None]) -> Callable[[], None]:
        @hydra.main(version_base="1.3", config_path=str(ROOT / "conf"), config_name=config_name)
        @functools.wraps(main)
        def composed(cfg: DictConfig) -> None:
            collect_rarely()
            try:
                run(main, OmegaConf.to_container(cfg, resolve=True))
            except PmError as error:  # caught here: Hydra would announce it in a line of its own
                fail(str(error))

        @functools.wraps(main)
        def command() -> None:
            sys.argv[1:] = [_as_written(argument, sentences) for argument in sys.argv[1:]]
            try:
                composed()
            except (HydraException, OmegaConfBaseException) as error:
                fail(_hydra_message(error, config_name))
            except KeyboardInterrupt:  # what there was to say about it has been said
                sys.exit(130)

        return command

    return decorate


def _as_written(argument: str, sentences: tuple[str, ...]) -> str:
    key, _, value = argument.partition("=")
    if key not in sentences or not value or value == "null" or value[0] in "[\"'":
        return argument
    return "{}='{}'".format(key, value.replace("\\", "\\\\").replace("'", "\\'"))


def fail(message: str) -> NoReturn:
    """End the command with one line on stderr and status 1."""
    sys.exit(f"error: {' '.join(message.split())}")


def _hydra_message(error: Exception, config_name: str) -> str:
    from hydra import compose
    from hydra.core.global_hydra import GlobalHydra

    if not str(error).startswith("Could not override '"):
        return str(error).partition("Config search path:")[0]
    key = str(error).split("'")[1]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "conf")):
        node = compose(config_name)
    *parents, last = key.split(".")
    for depth, parent in enumerate(parents):
        if not isinstance(node, DictConfig) or parent not in node:
            last, key = parent, ".".join(parents[: depth + 1])
            break
        node = node._get_node(parent)
    return unknown_key(key, last, list(map(str, node)) if isinstance(node, DictConfig) else []) + "; see --cfg job"
