"""One process group of one worker for all engines: DeepSpeed keeps the first that it sees."""

import pytest
import torch.distributed as dist


@pytest.fixture(scope="package")
def group(tmp_path_factory):
    # DeepSpeed asks for the variables of a launcher, which Ray Train sets for its workers.
    variables = pytest.MonkeyPatch()
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
        variables.setenv(name, value)
    meet = tmp_path_factory.mktemp("group") / "meet"
    dist.init_process_group("gloo", init_method=f"file://{meet}", rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()
    variables.undo()
