"""Run an evaluation: methods through the suite's trials on workers, a report after every row."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pm.choice import import_modules
from pm.errors import ConfigError
from pm.evaluate.config import EvaluateConfig
from pm.evaluate.maker import Maker, Setup
from pm.evaluate.plan import RowPlan, cost_of, plain, pngs_of
from pm.evaluate.record import record
from pm.evaluate.report import Report, write_report
from pm.evaluate.rows import Entry, entries_of, unique_keys
from pm.evaluate.scores import ReportRow, load_metrics, scored
from pm.evaluate.store import Store
from pm.evaluate.suites.base import Given
from pm.evaluate.values import Known, keep_values, known_values, lacking
from pm.files import check_place, locked, writing
from pm.model.base import load_base
from pm.sample.adapters import find_adapter
from pm.sample.loras import find_lora
from pm.strengths import strengths
from pm.workers import run_tasks


def evaluate(config: EvaluateConfig) -> str:
    """Write `report.json`, `report.md`, `grid.png` and all pictures into `config.output`; returns the report's text.

    Raises:
        CheckpointError: the base or an adapter is missing, or an adapter belongs to another base.
        ConfigError: the suite says nothing about the base, or an adapter takes fewer ID images than the protocol gives.
        DataError: photos, prompts or pictures of the suite are missing or damaged.
        WriteError: the output cannot be written.
    """
    import_modules(config.modules)
    check_place(config.output, "output=")
    run = _Run(config)
    if config.report_only:
        run.report_only()
    else:
        Path(config.output).mkdir(parents=True, exist_ok=True)
        with locked(config.output, f"evaluation {config.output}"), writing(config.output, "output="):
            run.make()
    rows = run.rows()
    text = run.report(rows)
    record(config.tracker, Path(config.output), rows)
    return text


class _Run:
    def __init__(self, config: EvaluateConfig) -> None:
        suite = config.suite
        self.config, makes = config, suite.makes
        if makes:
            suite.check(config.base)
            entries = entries_of(config.methods, config.adapters, config.protocol.references)
            base = load_base(config.base.path, (), family=config.base.family)
            for entry in entries:  # before the first minutes of work
                if entry.choice is not None:
                    entry.choice.check(base, entry.references or 0)
        self.entries: list[Entry] = entries if makes else []
        self.fingerprint = base.fingerprint if makes else ""
        self.metrics = load_metrics(config.metrics, "cpu")
        if all(isinstance(metric, str) for metric in self.metrics.values()):
            raise ConfigError(f"no metric can be had: {next(iter(self.metrics.values()))}")
        self.trials = suite.trials()
        self.given = suite.given(self.trials)
        keys = unique_keys([*(e.label for e in self.entries), *(g.label for g in self.given)])[len(self.entries) :]
        self.others = [Entry(key, given.label, None, None) for key, given in zip(keys, self.given, strict=True)]
        self.store = Store(config.output, self.trials)
        self._rows: dict[str, ReportRow] = {}
        people, images = len({t.person for t in self.trials}), sum(len(t.seeds) for t in self.trials)
        print(f"{len(self.trials)} prompts for {people} people, {images} images a row", flush=True)

    def maker(self) -> functools.partial[Maker]:
        config = self.config
        return functools.partial(
            Maker,
            Setup(
                config.base, config.sampler, config.metrics, config.modules, config.device, config.dtype,
                tuple(self.trials),
            ),
        )  # fmt: skip

    def make(self) -> None:
        """Everything that is not there yet; a report after each row."""
        tasks = []
        for entry, given in [*((e, None) for e in self.entries), *zip(self.others, self.given, strict=True)]:
            if self.store.begin(entry.key, self.made_with(entry, given)):
                print(f"note: {entry.label}: pictures of other settings or weights were there; they are made anew")
            if given is not None:
                self._take(entry, given)
            known = self._known(entry)
            if not self.store.missing(entry.key) and not lacking(self.store, known):
                self._rows[entry.key] = self._row(entry, range(len(self.trials)), known, {})
                print(f"{entry.label}: made and measured already", flush=True)
                continue
            tasks += RowPlan(self.store, entry, self.config.sampler.batch_size, known, self._finished).tasks()
        run_tasks(self.maker(), tasks, self.config.workers)

    def report_only(self) -> None:
        """From what is there, while another process may still be making pictures; only what nobody has measured yet is
        measured, and nothing changes but the report and the values."""
        maker = self.maker()()
        for entry, given in [*((e, None) for e in self.entries), *zip(self.others, self.given, strict=True)]:
            if not self.store.same(entry.key, self.made_with(entry, given)):
                continue
            missing = {t for t, _ in self.store.missing(entry.key)}
            there = [t for t in range(len(self.trials)) if t not in missing]
            known, why = self._known(entry), dict[str, str]()
            new = {t: columns for t, columns in lacking(self.store, known).items() if t not in missing}
            for t, columns in new.items():
                for name, found in maker.measure([t], columns, pngs_of(self.store, entry.key, [t])).items():
                    if isinstance(found, str):
                        why[name] = found
                    else:
                        known[name][t] = found[0]
            if new:
                keep_values(self.store, entry.key, self.config.metrics, self.metrics, known)
            self._rows[entry.key] = self._row(entry, there, known, why)

    def _known(self, entry: Entry) -> Known:
        return known_values(self.store, entry.key, self.config.metrics, self.metrics)

    def rows(self) -> list[ReportRow]:
        """Those that there are, in the order of the configuration."""
        return [self._rows[e.key] for e in [*self.entries, *self.others] if e.key in self._rows]

    def report(self, rows: Sequence[ReportRow]) -> str:
        asked = len(self.entries) + len(self.others)
        missing = list(dict.fromkeys(trial.person for trial in self.trials if not trial.held_out))
        return write_report(Report(self.config, self.trials, list(rows), asked, missing, self.fingerprint))

    def _finished(self, entry: Entry, known: Known, why: Mapping[str, str]) -> None:
        keep_values(self.store, entry.key, self.config.metrics, self.metrics, known)
        self._rows[entry.key] = self._row(entry, range(len(self.trials)), known, why)
        if len(self._rows) < len(self.entries) + len(self.others):
            self.report(self.rows())

    def _row(self, entry: Entry, trials: Sequence[int], known: Known, why: Mapping[str, str]) -> ReportRow:
        found = {name: [m for t in trials if (m := of[t]) is not None] for name, of in known.items()} if trials else {}
        scores, attributes = scored([self.trials[t] for t in trials], {**found, **why}, self.metrics)
        asked = len(self.store.items())

        def picture(trial: int, image: int) -> Any:
            there = self.store.path(entry.key, (trial, image)).is_file()
            return self.store.read(entry.key, (trial, image)) if there else None

        return ReportRow(
            entry.key,
            entry.label,
            scores,
            attributes,
            picture,
            entry.references,
            self.store.about(entry.key) | {"method": entry.choice.name if entry.choice else entry.label},
            **cost_of(self.store, entry.key),
            made=asked - len(self.store.missing(entry.key)),
            asked=asked,
        )

    def _take(self, entry: Entry, given: Given) -> None:
        """Pictures that nobody has to make."""
        for item in sorted(self.store.missing(entry.key)):
            self.store.save(entry.key, item, given.png(*item))

    def made_with(self, entry: Entry, given: Given | None) -> dict[str, Any]:
        """All that the pictures of a row depend on."""
        trials = self.store.made_of()
        if given is not None or entry.choice is None:
            return {"given": given.fingerprint if given else "", "trials": trials}
        config, loras = self.config, self.config.sampler.loras
        return {
            "base": self.fingerprint,
            "method": plain(entry.choice),
            "files": [_file_digest(file) for file in entry.choice.files()],
            "references": entry.references,
            "sampler": plain(config.sampler),
            **({"loras": [_digest_of(find_lora(place)) for place in strengths(loras)]} if loras else {}),
            "dtype": config.dtype,
            "trials": trials,
        }


def _file_digest(name: str) -> str:
    path = Path(name).expanduser()
    return _digest_of(path if path.is_file() else find_adapter(name, None, ""))


def _digest_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
