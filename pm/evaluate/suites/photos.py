"""The photos suite: people with photographs × a file of prompts, the form of the paper's evaluation (section 4.1)."""

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

from pm.errors import ConfigError
from pm.evaluate.people import read_people
from pm.evaluate.prompts import read_prompts, spread
from pm.evaluate.suites.base import SuiteChoice, Trial
from pm.model.config import BaseConfig
from pm.model.files import read_json
from pm.photo.stored import Preparation


@dataclass(frozen=True)
class PhotosSuite(SuiteChoice):
    """At most `protocol.identities` people and `protocol.prompts` prompts, these spread over the file."""

    root: str | None  # folder of people
    prompts: str  # file
    photo: Preparation  # how photos are prepared, for all methods alike
    drawn_base: bool  # also on a base that knows drawings only

    def __post_init__(self) -> None:
        if self.root is None:
            raise ConfigError("suite.root is not set; give the folder with a folder for each person (suite.root=...)")

    def title(self) -> str:
        return "Evaluation on photographs"

    def check(self, base: BaseConfig) -> None:
        """Refuse a base of drawings: what it makes of photographs says nothing about a method."""
        folder = Path(base.path).expanduser()
        drawn = folder.is_dir() and bool(read_json(folder / "model_index.json").get("_drawn"))
        if drawn and not self.drawn_base:
            raise ConfigError(
                f"base.path={base.path} knows drawings only, and suite=photos shows it photographs; use base=sdxl, "
                "suite=toon, or suite.drawn_base=true to try the path"
            )

    def trials(self) -> list[Trial]:
        config = self.protocol
        prompts = spread(read_prompts(self.prompts), config.prompts)
        trials = []
        for person in read_people(str(self.root), self.photo, max(config.references), config.identities):
            for k, prompt in enumerate(prompts):
                rng = random.Random(f"photos:{config.seed}:{person.name}:{k}")
                seeds = tuple(rng.getrandbits(31) for _ in range(config.images))
                trials.append(
                    Trial(
                        person.name, person.class_word, prompt.template, person.references, person.held_out, seeds,
                        prompt.category,
                    )
                )  # fmt: skip
        return trials

    def about(self) -> dict:
        digest = hashlib.sha256("\n".join(p.template for p in read_prompts(self.prompts)).encode())
        names = sorted(p.name for p in Path(str(self.root)).expanduser().iterdir() if p.is_dir())
        people = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
        return super().about() | {"prompts_file": digest.hexdigest()[:16], "people": people}
