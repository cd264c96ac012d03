"""The commands: each composes its settings, builds and runs. `photomaker train`, or `python pipelines/train.py`."""
