"""What pyproject.toml cannot say: `conf/` and `assets/`, at the repository's top, belong inside the wheel's `pm`.

`pm.resources` finds them there.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithResources(build_py):
    """Puts the files that come with the project beside its modules."""

    def run(self) -> None:
        if self.editable_mode:  # a checkout has them at its top
            return super().run()
        shutil.rmtree(self.build_lib, ignore_errors=True)  # else modules of an earlier build would stay in the wheel
        super().run()
        for folder in ("conf", "assets"):
            shutil.copytree(folder, Path(self.build_lib, "pm", "_resources", folder))


setup(cmdclass={"build_py": BuildWithResources})
