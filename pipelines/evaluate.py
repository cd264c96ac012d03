"""Measure methods and adapters on people they have never seen, with a report, its tables and all pictures.

photomaker evaluate adapters=[runs/toon/adapter.safetensors]
"""

from pathlib import Path

from pipelines._entry import entry
from pm.config import from_mapping
from pm.evaluate.config import EvaluateConfig


@entry("evaluate", EvaluateConfig)
def main(cfg: dict) -> None:
    config = from_mapping(EvaluateConfig, cfg)

    if config.compare:
        from pm.evaluate.compare import compare

        return print(compare(config.compare))

    from pm.evaluate.run import evaluate

    print(evaluate(config))
    folder = Path(config.output).absolute()
    print(f"\nreport: {folder}/report.html\npicture: {folder}/grid.png")


if __name__ == "__main__":
    main()
