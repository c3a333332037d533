"""Bundles: findings of the models that were packed, or refused; and requests to their server."""

import io
import json
import zipfile

import numpy as np
import pytest
from dicom_files import radiograph
from eager import run_eagerly
from fuzzing import ODD_TEXT, changed, damaged, fuzzed, is_sentence, read_or_refused
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from run_folders import finish, views_of

from mura_tf.inference.bundle import Bundle
from mura_tf.inference.pack import pack

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 30), np.uint8)


def png():
    target = io.BytesIO()
    Image.fromarray(PICTURE).save(target, "PNG")
    return target.getvalue()


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """An untrained model as a bundle for elbow and wrist."""
    import keras

    from mura_tf import Recipe, build_model
    from mura_tf.grid.plan import plan_runs

    folder, views = tmp_path_factory.mktemp("fuzzed"), views_of({"elbow": (6, 6), "wrist": (6, 6)})
    recipe = Recipe("small_cnn", weights=None, image_size=32, preprocessing="native")
    keras.utils.set_random_seed(0)
    with run_eagerly():
        (run,) = plan_runs(recipe, folder, [], scheme="whole", members=1)
        finish(run, views)
        build_model("small_cnn", weights=None, image_size=32).save(run.folder / "best.keras")
        yield pack(folder, folder / "fuzzed.mura")


# ------------------------------------------------------------------------------------------------
# Bundles


@st.composite
def bundles(draw, path):
    """The bytes of a bundle of which something is another, and whether they are whole."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    how = draw(st.sampled_from(["whole", "bytes", "facts", "facts", "entry", "member"]))
    if how == "bytes":
        return draw(damaged(path.read_bytes())), how
    if how == "facts":
        facts = draw(changed(json.loads(entries["bundle.json"])))
        entries["bundle.json"] = json.dumps(facts).encode()
    elif how == "entry":
        name = draw(st.sampled_from(sorted(entries)))
        content = entries.pop(name)
        if draw(st.booleans()):
            entries[name] = draw(damaged(content))
    elif how == "member":
        name = draw(st.sampled_from([name for name in sorted(entries) if name.endswith("keras")]))
        entries[name] = draw(remade(entries[name]))
    return zipped(entries), how


@st.composite
def remade(draw, model):
    """A `.keras` file whose configuration says something else."""
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    config = draw(changed(json.loads(entries["config.json"])))
    return zipped(entries | {"config.json": json.dumps(config).encode()})


def zipped(entries):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return target.getvalue()


@fuzzed(1)
@given(data=st.data())
def test_bundle(data, packed, tmp_path_factory):
    content, how = data.draw(bundles(packed.path))
    path = tmp_path_factory.getbasetemp() / "other.mura"
    path.write_bytes(content)

    def read():
        bundle = Bundle(path)
        bundle.open()
        return bundle, bundle.read(PICTURE, study_type="wrist")

    found = read_or_refused("bundle", read)
    if found is None:
        assert how != "whole"
        return
    bundle, findings = found
    assert repr(bundle)
    (finding,) = findings.itertuples()
    assert finding.decision in ("normal", "doubtful", "abnormal")
    assert 0 <= finding.probability <= 1
    if how == "whole":
        expected = packed.read(PICTURE, study_type="wrist").probability[0]
        assert finding.probability == pytest.approx(expected, abs=1e-5)


# ------------------------------------------------------------------------------------------------
# Requests to the server


PATHS = [
    "/",
    "/room.js",
    "/api/read",
    "/api/health",
    "/api/docs",
    "/api/progress/",
    "/api/pictures/",
]
HEADERS = ["host", "origin", "content-type", "content-length", "accept", "cookie", "range", "x"]
NAMES = st.sampled_from(
    ["a.png", "wrist/a.png", "XR_ELBOW/p/s/1.png", "../../x", "a.zip", "b/c.dcm"]
)
FIELDS = {
    "study_type": st.sampled_from(["wrist", "elbow", "knee", ""]) | ODD_TEXT,
    "each_file": st.sampled_from(["true", "false", "2", ""]) | ODD_TEXT,
    "point": st.sampled_from(["paper", "doubt", "best", ""]) | ODD_TEXT,
    "token": ODD_TEXT,
}


def archive(names):
    """A zip of two pictures under these names."""
    return zipped({name: png() for name in names})


@st.composite
def uploads(draw):
    """Name and content of a file, and whether the content is a picture."""
    name, kind = draw(NAMES | ODD_TEXT), draw(st.sampled_from(["png", "dicom", "zip", "noise"]))
    if kind == "noise":
        return name, draw(st.binary(max_size=60)), False
    if kind == "zip":
        names = draw(
            st.lists(NAMES | st.text(min_size=1, max_size=6), min_size=1, max_size=3, unique=True)
        )
        content = archive(names)
    else:
        content = png() if kind == "png" else DICOM
    if damage := draw(st.booleans()):
        content = draw(damaged(content, most=2))
    return name, content, kind != "zip" and not damage


DICOM = radiograph(
    PICTURE, SOPInstanceUID="1.2.3", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2"
)


@pytest.fixture(scope="module")
def server(packed):
    pytest.importorskip("fastapi", reason="needs the extra serve")
    from fastapi.testclient import TestClient

    from mura_tf.inference.server import create_app

    app = create_app(packed.path, hosts=("testserver",), seconds=600)
    with TestClient(app) as client:
        for count in (1, 2, 4, 8):  # each size of a batch is traced once
            files = [("files", (f"{number}.png", png())) for number in range(count)]
            client.post("/api/read", files=files, data={"study_type": "wrist"})
        yield client, app.state.pool._idle.queue[0]._process.pid


def answered(answer):
    """The answer's JSON, or text; ValueError with its reason where it refuses."""
    assert answer.status_code < 500
    kind = answer.headers.get("content-type", "")
    told = answer.json() if kind == "application/json" and answer.content else answer.text
    if answer.status_code >= 400:
        detail = told["detail"] if isinstance(told, dict) else told
        reason = detail if isinstance(detail, str) else "; ".join(one["msg"] for one in detail)
        assert "the process that read this ended" not in reason
        raise ValueError(reason if is_sentence(reason) else f"{answer.status_code}: a status alone")
    return told


@fuzzed(2)
@given(data=st.data())
def test_server(data, server):
    client, worker = server
    files = []
    if data.draw(st.integers(0, 3)) == 0:
        method = data.draw(st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE"]))
        path = data.draw(st.sampled_from(PATHS)) + data.draw(st.text("a0/.%?", max_size=8))
        names = data.draw(st.lists(st.sampled_from(HEADERS), max_size=2, unique=True))
        printable = st.binary(max_size=12).map(lambda value: value.translate(None, b"\r\n\0"))
        settings = {
            "headers": [(name.encode(), data.draw(printable)) for name in names],
            "content": data.draw(st.binary(max_size=40)),
        }
    else:
        method, path = "POST", "/api/read"
        files = data.draw(st.lists(uploads(), min_size=1, max_size=3))
        settings = {
            "files": [("files", (name, content)) for name, content, _ in files],
            "data": data.draw(st.fixed_dictionaries({}, optional=FIELDS)),
        }
        if data.draw(st.integers(0, 5)) == 0:
            request = client.build_request(method, path, **settings)
            settings = {
                "headers": {"content-type": request.headers["content-type"]},
                "content": data.draw(damaged(request.read(), most=2)),
            }
            files = []
    told = read_or_refused(
        "server", lambda: answered(client.request(method, path, **settings)), worker
    )
    if files and told is not None:
        assert len(told["views"]) >= len(files) - sum(not whole for *_, whole in files)
        readings = [view["probability"] for view in told["views"]]
        assert all(reading is None or 0 <= reading <= 1 for reading in readings)
