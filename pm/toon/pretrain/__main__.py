"""`python -m pm.toon.pretrain`: train the toon base from scratch and write it to assets/toon.

Seeded and resumable: run the same command again after an interruption. Takes hours on two CPU cores. Each stage must
reach its bar (`gates`) before the next one begins.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from pm.files import write_json, write_text
from pm.resources import resource
from pm.toon import base
from pm.toon.corpus import Corpus, people_of, render_corpus
from pm.toon.pretrain import gates, stages
from pm.toon.pretrain.align import train_id_encoder
from pm.toon.pretrain.clip import tower_readable, train_clip
from pm.toon.pretrain.projection import make_projection
from pm.toon.pretrain.unet import train_unet
from pm.toon.pretrain.vae import reconstruction, train_vae
from pm.toon.probe import save_probe


def _settings() -> tuple[stages.Settings, argparse.Namespace]:
    parser = argparse.ArgumentParser(prog="python -m pm.toon.pretrain", description=__doc__)
    parser.add_argument("--out", type=Path, default=resource("assets/toon"), help="where the base is written")
    parser.add_argument("--work", type=Path, default=Path("runs/pretrain"), help="resumable state")
    parser.add_argument("--no-gates", dest="gates", action="store_false", help="go on where a stage is below its bar")
    for field in dataclasses.fields(stages.Settings):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=int, default=field.default)
    args = parser.parse_args()
    return stages.Settings(**{f.name: getattr(args, f.name) for f in dataclasses.fields(stages.Settings)}), args


def main() -> None:
    settings, args = _settings()
    args.work.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    recorded, resolution = args.work / "settings.json", base.SIZES["toon"].resolution
    wanted = json.dumps(dataclasses.asdict(settings), indent=2)
    if recorded.exists() and recorded.read_text() != wanted:
        raise SystemExit(
            f"error: {args.work} holds a pre-training with other settings; use another --work or remove it"
        )
    write_text(recorded, wanted)

    def draw(name: str, split: str, each: int, seed: int, occlusion: int) -> Corpus:
        cache = args.work / f"{name}.npz"
        return render_corpus(people_of(split), each, settings.seed + seed, resolution, cache, occlusion / 100)

    stop = args.gates
    report: dict = {"settings": dataclasses.asdict(settings)}
    # The measuring instrument sees more photos than what it measures.
    more = draw("probe", "train", settings.probe_photos_each, 2, settings.occlusion)
    probe, report["probe_loss"] = stages.train_probe(more, settings, args.work)
    del more
    unseen, covered = draw("eval", "eval", 4, 1, 0), draw("covered", "eval", 4, 3, 35)
    report["probe_unseen"] = gates.check("probe", stages.probe_accuracy(probe, unseen), stop=stop)
    report["probe_unseen_covered"] = stages.probe_accuracy(probe, covered)
    save_probe(probe, args.out / "probe.safetensors")
    _show(args.out, report)

    corpus = draw("train", "train", settings.photos_each, 0, settings.occlusion)
    parts = base.build_parts(base.SIZES["toon"], settings.seed)
    report["vae_loss"] = train_vae(parts.vae, corpus, settings, args.work)
    decoded, report["vae_l1_unseen"] = reconstruction(parts.vae, unseen)
    through = stages.probe_accuracy(probe, dataclasses.replace(unseen, images=decoded))
    report["vae_unseen"] = gates.check("vae", through, stop=stop)
    _show(args.out, report)

    report["clip_loss"] = train_clip(parts, corpus, settings, args.work)
    report["tower_unseen"] = tower_readable(parts, corpus, unseen)
    _show(args.out, report)

    report["unet_loss"] = train_unet(parts, corpus, settings, args.work)
    base.write_parts(parts, args.out)
    report["words_unseen"] = gates.check("words", gates.words(args.out, probe, unseen), stop=stop)
    report["text_projection"] = make_projection(args.out, args.work, settings.seed)
    report["align_loss"], tokens = train_id_encoder(parts, corpus, unseen, settings, args.out, args.work)
    report["tokens_unseen"] = gates.check("tokens", tokens, stop=stop)
    _show(args.out, report)
    print(f"wrote the toon base to {args.out}")


def _show(out: Path, report: dict) -> None:
    """Write what is known so far, and print the newest of it."""
    write_json(out / "pretrain.json", report, indent=2)
    newest = list(report)[-1]
    print(newest, json.dumps(report[newest], indent=1), flush=True)


if __name__ == "__main__":
    main()
