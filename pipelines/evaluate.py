"""Measure adapters on held-out people: `python pipelines/evaluate.py adapters=[runs/toon/adapter.safetensors]`."""

from _entry import entry

from pm.config import from_mapping
from pm.evaluate.config import EvaluateConfig


@entry("evaluate")
def main(cfg: dict) -> None:
    config = from_mapping(EvaluateConfig, cfg)

    from pm.evaluate.run import evaluate

    print(evaluate(config))
    print(f"\nreport: {config.output}/report.md\npicture: {config.output}/grid.png")


if __name__ == "__main__":
    main()
