"""Cards in the form of the Hub: README.md with a YAML heading, of an adapter and of a dataset."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pm.errors import ConfigError
from pm.files import write_text
from pm.markdown import table

if TYPE_CHECKING:  # with torch, which those who write a dataset's card do without
    from pm.model.adapter_file import AdapterMeta

CARD = "README.md"
NO_LICENCE = "Not chosen yet: nobody but its makers may use it."
NO_CONSENT = "Not stated: do not publish these photos."
_USE = """Portraits of people who agreed to them. Not for pictures that deceive, of children, of people who did not
agree, or to decide anything about a person. Portraits look like the person and are not proof of anything."""


def adapter_card(
    meta: "AdapterMeta",
    *,
    name: str,
    base: str = "",
    run: Mapping[str, Any] | None = None,
    dataset: Mapping[str, Any] | None = None,
    report: Mapping[str, Any] | None = None,
    license: str | None = None,
) -> str:
    """The card of an adapter.

    Args:
        meta: of its file.
        name: of the adapter.
        base: folder or Hub id of its base; "": unknown.
        run: settings of the training run, as a checkpoint has them; None: unknown.
        dataset: `dataset.json` of what it was trained on; None: unknown.
        report: `report.json` of an evaluation; None: none.
        license: the Hub's name for it; None: not chosen.
    """
    hub_id = base if base.count("/") == 1 and not Path(base).exists() else ""
    head: dict[str, Any] = {"base_model": hub_id} if hub_id else {}
    head |= {"license": license} if license else {}
    head |= {"pipeline_tag": "text-to-image", "tags": ["photomaker", "text-to-image", "personalization"]}
    head |= {"instance_prompt": f"a man {meta.trigger_word}"} if meta.trigger_word else {}
    prompt = f"a man {meta.trigger_word} wearing a red hoodie"
    known = f"`{hub_id}`, " if hub_id else ""
    parts = [
        f"# {name}",
        f"An adapter of the kind {meta.kind}: photos of a person and a prompt become portraits, without any training.",
        f"## Use\n\n    photomaker generate adapter={name} id_images=[me.jpg] prompt={prompt!r}",
        f"Base: {known}fingerprint {meta.base_fingerprint or 'unknown'}. Trigger word: `{meta.trigger_word}`, after "
        f"the word for the person. Photos: 1 to {meta.max_id_images}, prepared as `{meta.crop_mode}`.",
        f"## Intended use\n\n{_USE}",
        f"## Data\n\n{_data(dataset)}",
        f"## Settings\n\n{_settings(meta, run)}",
        f"## Scores\n\n{_scores(report)}",
        f"## Licence\n\n{license or NO_LICENCE}",
    ]
    return heading(head) + "\n\n".join(parts) + "\n"


def dataset_card(meta: Mapping[str, Any], *, name: str, license: str | None = None) -> str:
    """The card of a dataset, from its `dataset.json`; `datasets.load_dataset` finds the photos' rows by its heading."""
    head: dict[str, Any] = {"license": license} if license else {}
    head |= {"task_categories": ["text-to-image"], "tags": ["photomaker", "faces"], "pretty_name": name}
    # Without it the index and the rejected photos would be read as rows, too.
    head["configs"] = [{"config_name": "default", "data_files": [{"split": "train", "path": "part-*.parquet"}]}]
    base = meta.get("base", {})
    parts = [
        f"# {name}",
        "Photos of people with captions, crops, masks and the features of a base model, for `photomaker train`. A row "
        "is a photo; rows of a person lie together.",
        f"    datasets.load_dataset({name!r}, split='train')\n    photomaker train data={name}",
        f"Made for the base `{base.get('path', '?')}`, fingerprint {base.get('fingerprint', '?')}, at "
        f"{meta.get('resolution', '?')} px.",
        f"## Data\n\n{_data(meta)}",
        f"## Intended use\n\n{_USE}",
        f"## Consent\n\n{NO_CONSENT}",
        f"## Licence\n\n{license or NO_LICENCE}",
    ]
    return heading(head) + "\n\n".join(parts) + "\n"


def heading(values: Mapping[str, Any]) -> str:
    return f"---\n{yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)}---\n\n"


def read_card(file: Path) -> tuple[dict[str, Any], str]:
    """The heading's values and the text below it.

    Raises:
        ConfigError: there is no card, or its heading is not YAML.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{file.absolute()} cannot be read ({error}); write a card, or export again") from error
    if not text.startswith("---\n") or "\n---\n" not in text[4:]:
        return {}, text
    head, _, body = text[4:].partition("\n---\n")
    try:
        found = yaml.safe_load(head) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{file.absolute()} has a heading that is not YAML ({error}); correct it") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{file.absolute()} has a heading without names; correct it")
    return found, body.lstrip("\n")


def complete_card(file: Path, license: str | None, consent: str | None) -> dict[str, Any]:
    """Fill a licence and a statement of consent into a card where it has none; returns its heading."""
    head, body = read_card(file)
    if license:
        head, body = {**head, "license": license}, body.replace(NO_LICENCE, license)
    if consent:
        body = body.replace(NO_CONSENT, consent)
    if license or consent:
        write_text(file, heading(head) + body)
    return head


def _data(meta: Mapping[str, Any] | None) -> str:
    if meta is None:
        return "Not known."
    counts, origins = meta.get("counts", {}), meta.get("origins", {})
    rows = [["people", str(counts.get("identities", "?"))], ["photos", str(counts.get("kept", "?"))]]
    for name in ("licences", "sources"):
        rows += [[f"{name[:-1]}: {key}", str(number)] for key, number in origins.get(name, {}).items()]
    return table(["", "number"], rows)


def _settings(meta: "AdapterMeta", run: Mapping[str, Any] | None) -> str:
    rows = [["compose", meta.compose.label], ["merge", meta.merge], ["project", meta.project_version]]
    rows += [[name, str(meta.extra[name])] for name in ("run", "step") if name in meta.extra]
    for group in ("train", "adapter"):
        values = (run or {}).get(group, {})
        simple = {k: v for k, v in values.items() if isinstance(v, int | float | str) and not isinstance(v, bool)}
        rows += [[f"{group}.{name}", str(value)] for name, value in simple.items()]
    return table(["setting", "value"], rows)


def _scores(report: Mapping[str, Any] | None) -> str:
    if not report or not report.get("rows"):
        return "Not measured."
    metrics = list(report.get("metrics", {}))
    rows = [report.get("floor"), *report["rows"], report.get("ceiling")]
    body = [[str(row["name"]), *(_number(row.get(name)) for name in metrics)] for row in rows if row]
    return table(["", *metrics], body)


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else "–"
