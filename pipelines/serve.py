"""The HTTP service on this machine; it prints examples to paste.

photomaker serve http.port=9000 +adapters.mine=runs/toon/adapter.safetensors
"""

from pipelines._entry import entry
from pm.config import from_mapping
from serving.config import ServeConfig


@entry("serve", ServeConfig)
def main(cfg: dict) -> None:
    from serving.run import run

    run(from_mapping(ServeConfig, cfg))


if __name__ == "__main__":
    main()
