"""The HTTP service on this machine: `python pipelines/serve.py`, then paste one of the examples it prints."""

from _entry import entry

from pm.config import from_mapping


@entry("serve")
def main(cfg: dict) -> None:
    from serving.config import ServeConfig
    from serving.run import run

    run(from_mapping(ServeConfig, cfg))


if __name__ == "__main__":
    main()
