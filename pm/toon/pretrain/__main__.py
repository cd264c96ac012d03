"""`python -m pm.toon.pretrain`: train the toon base from scratch and write it to assets/toon.

Seeded and resumable: run the same command again after an interruption. Takes hours on two CPU cores.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from pm.files import write_json, write_text
from pm.resources import resource
from pm.toon import base
from pm.toon.corpus import people_of, render_corpus
from pm.toon.pretrain import stages
from pm.toon.pretrain.align import train_id_encoder
from pm.toon.pretrain.projection import make_projection
from pm.toon.pretrain.unet import train_unet
from pm.toon.probe import save_probe


def _settings() -> tuple[stages.Settings, argparse.Namespace]:
    parser = argparse.ArgumentParser(prog="python -m pm.toon.pretrain", description=__doc__)
    parser.add_argument("--out", type=Path, default=resource("assets/toon"), help="where the base is written")
    parser.add_argument("--work", type=Path, default=Path("runs/pretrain"), help="resumable state")
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

    corpus = render_corpus(people_of("train"), settings.photos_each, settings.seed, resolution, args.work / "train.npz")
    unseen = render_corpus(people_of("eval"), 4, settings.seed + 1, resolution, args.work / "eval.npz")
    report: dict = {"settings": dataclasses.asdict(settings)}
    # The measuring instrument sees more photos than what it measures.
    more = render_corpus(
        people_of("train"), settings.probe_photos_each, settings.seed + 2, resolution, args.work / "probe.npz"
    )
    probe, report["probe_loss"] = stages.train_probe(more, settings, args.work)
    del more
    report["probe_accuracy_unseen"] = stages.probe_accuracy(probe, unseen)
    save_probe(probe, args.out / "probe.safetensors")
    print(json.dumps(report["probe_accuracy_unseen"], indent=1), flush=True)

    parts = base.build_parts(base.SIZES["toon"], settings.seed)
    report["vae_loss"] = stages.train_vae(parts.vae, corpus, settings, args.work)
    decoded, report["vae_l1_unseen"] = stages.reconstruction(parts.vae, unseen)
    report["probe_accuracy_decoded"] = stages.probe_accuracy(probe, dataclasses.replace(unseen, images=decoded))
    print(json.dumps(report["probe_accuracy_decoded"], indent=1), report["vae_l1_unseen"], flush=True)
    report["clip_loss"] = stages.train_clip(parts, corpus, settings, args.work)
    report["unet_loss"] = train_unet(parts, corpus, settings, args.work)
    base.write_parts(parts, args.out)
    report["text_projection"] = make_projection(args.out, args.work, settings.seed)
    report["align_loss"] = train_id_encoder(parts, corpus, settings, args.out, args.work)
    write_json(args.out / "pretrain.json", report, indent=2)
    print(f"wrote the toon base to {args.out}")


if __name__ == "__main__":
    main()
