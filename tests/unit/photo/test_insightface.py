"""`face=insightface` with the library's own classes, on tiny random ONNX models of the shapes of SCRFD and ArcFace."""

from dataclasses import replace

import numpy as np
import pytest
from support.photos import ingested, write_photo

from pm.data.stages.faces import find_faces
from pm.errors import CheckpointError, ConfigError
from pm.photo.embedders.insightface import InsightFace as Embedding
from pm.photo.faces.insightface import InsightFace

FACE = InsightFace("insightface", min_size=1, max_side=64, pack="buffalo_l", threshold=0.2)


def installed() -> bool:
    try:
        import insightface  # noqa: F401
        import onnx  # noqa: F401
    except ImportError:
        return False
    return True


@pytest.mark.skipif(installed(), reason="InsightFace is installed")
def test_without_the_package_one_line_says_what_to_install(tmp_path):
    for make in (FACE.build, Embedding("insightface", 0.05, 1.3, "buffalo_l").build):
        with pytest.raises(ConfigError, match=r"pip install .*insightface.*.*non-commercial") as caught:
            make()
        assert "\n" not in str(caught.value)


@pytest.fixture
def pack(tmp_path):
    """A folder with a detector of three strides and an embedder of 512 numbers."""
    pytest.importorskip("insightface")
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    folder, rng = tmp_path / "pack", np.random.default_rng(0)
    folder.mkdir()

    def save(name, nodes, inputs, outputs, weights):
        tensors = [numpy_helper.from_array(np.asarray(value), key) for key, value in weights.items()]
        graph = helper.make_graph(nodes, name, inputs, outputs, tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
        model.ir_version = 8
        onnx.save(model, folder / f"{name}.onnx")

    nodes, outputs, weights = [], [], {}
    for kind, width in (("score", 1), ("box", 4), ("points", 10)):
        for stride in (8, 16, 32):
            key = f"{kind}{stride}"
            weights[f"w{key}"] = rng.normal(0, 0.05, (2 * width, 3, stride, stride)).astype(np.float32)
            weights[f"r{key}"] = np.array([-1, width], dtype=np.int64)
            nodes.append(helper.make_node("Conv", ["input", f"w{key}"], [f"c{key}"], strides=[stride, stride]))
            nodes.append(helper.make_node("Transpose", [f"c{key}"], [f"t{key}"], perm=[0, 2, 3, 1]))
            last = f"f{key}" if kind != "points" else key
            nodes.append(helper.make_node("Reshape", [f"t{key}", f"r{key}"], [last]))
            if kind != "points":
                nodes.append(helper.make_node("Sigmoid" if kind == "score" else "Abs", [last], [key]))
            outputs.append(helper.make_tensor_value_info(key, TensorProto.FLOAT, [None, width]))
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, None, None])
    save("det", nodes, [image], outputs, weights)
    face = helper.make_tensor_value_info("data", TensorProto.FLOAT, [None, 3, 112, 112])
    embedding = helper.make_tensor_value_info("fc1", TensorProto.FLOAT, [None, 512])
    kernel = rng.normal(0, 0.05, (512, 3, 112, 112)).astype(np.float32)
    steps = [helper.make_node("Conv", ["data", "k"], ["c"]), helper.make_node("Flatten", ["c"], ["fc1"])]
    save("rec", steps, [face], [embedding], {"k": kernel})
    return folder


def test_faces_have_boxes_landmarks_scores_and_embeddings(pack, tmp_path):
    write_photo(tmp_path / "raw" / "anna_woman" / "0.png", 1)
    config = replace(FACE, pack=str(pack))
    detector, embedder = config.build(), Embedding("insightface", 0.05, 1.3, str(pack)).build()
    (photo,) = find_faces(ingested(tmp_path / "raw"), tmp_path / "raw", detector, embedder, 1)
    assert photo.reject is None and photo.faces
    for face in photo.faces:
        x0, y0, x1, y1 = face.box
        assert 0 <= x0 < x1 <= 64 and 0 <= y0 < y1 <= 64 and config.threshold <= face.score <= 1
        assert len(face.landmarks) == 10 and len(face.embedding) == 512 and np.isfinite(face.embedding).all()


def test_a_pack_that_is_not_there_is_said_in_one_line(pack, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="face.pack=.*buffalo_l") as caught:
        replace(FACE, pack=str(tmp_path / "empty")).build()
    (pack / "rec.onnx").unlink()
    with pytest.raises(CheckpointError, match="no model for recognition"):
        Embedding("insightface", 0.05, 1.3, str(pack)).build()
    assert "\n" not in str(caught.value)
