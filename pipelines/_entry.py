"""What every command shares: compose with Hydra, hand over a plain dict, print a user's error as one line."""

import functools
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pipelines._command_line import rewrite
from pipelines._early import until_nobody_reads
from pipelines._ending import ended_in_one_line, fail
from pm.errors import PmError
from pm.resources import resource
from pm.startup import collect_rarely
from serving.compose import filled, prepare

prepare()


def entry(
    config_name: str,
    declared: type,
    *,
    extra: Mapping[str, Any] | None = None,
    renamed: Mapping[str, str] | None = None,
    run: Callable[[Callable[[dict], None], dict], None] = lambda main, cfg: main(cfg),
) -> Callable[[Callable[[dict], None]], Callable[[], None]]:
    """Turn `main(cfg: dict)` into a command: `conf/<config_name>.yaml` plus overrides → a plain, resolved dict.

    A `PmError` or a Hydra error ends it with one line on stderr and status 1; a defect keeps its traceback.

    Args:
        declared: the dataclass of the settings; where it says text, the command line is taken as it is typed.
        extra: types of keys that the command has beside those.
        renamed: names that the command line has for other keys.
        run: `run(main, cfg)` calls it; with `-m`, once for each cell.
    """

    def decorate(main: Callable[[dict], None]) -> Callable[[], None]:
        @hydra.main(version_base="1.3", config_path=str(resource("conf")), config_name=config_name)
        @functools.wraps(main)
        def composed(cfg: DictConfig) -> None:
            collect_rarely()
            typed_in = HydraConfig.get().runtime.cwd
            if os.path.isdir(typed_in):  # a job's folder and a worker of Ray are elsewhere
                os.chdir(typed_in)
            try:
                run(main, filled(config_name, cast(dict, OmegaConf.to_container(cfg, resolve=True))))
            except PmError as error:  # caught here: Hydra would announce it in a line of its own
                fail(str(error))

        @functools.wraps(main)
        @until_nobody_reads()
        def command() -> None:
            if {"-h", "--help"} & set(sys.argv[1:]):
                from pipelines._help import command_help

                doc = sys.modules[main.__module__].__doc__ or ""
                return print(command_help(config_name, doc, program(), renamed))
            with ended_in_one_line(config_name, renamed):
                sys.argv[1:] = rewrite(sys.argv[1:], declared, extra or {}, renamed or {})
                composed()

        return command

    return decorate


def program() -> str:
    """How this command was called: `photomaker train` or `python pipelines/train.py`."""
    return sys.argv[0] if sys.argv[0].startswith("photomaker ") else f"python {os.path.relpath(sys.argv[0])}"


def given_settings() -> list[str]:
    """Dotted names of the settings that stand on the command line; of `face@photo.face=dlib` it is `photo.face`."""
    keys = [setting.partition("=")[0].lstrip("+~") for setting in HydraConfig.get().overrides.task]
    return [key.partition("@")[2].partition(":")[2] or key.partition("@")[2] or key for key in keys]


def was_given(key: str) -> bool:
    """Whether a setting stands on the command line."""
    return any(setting.lstrip("+").startswith(f"{key}=") for setting in HydraConfig.get().overrides.task)
