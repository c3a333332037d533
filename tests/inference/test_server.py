"""The server's JSON, and what it refuses."""

import errno
import time
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("httpx", reason="needs the extra test")

from fastapi.testclient import TestClient

from mura_tf.inference import server, workers
from mura_tf.inference.findings import FINDING_COLUMNS, VIEW_COLUMNS
from mura_tf.inference.server import create_app
from mura_tf.inference.workers import ReadingFailedError, Workers

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def client(bundle):
    with TestClient(create_app(bundle.path, hosts=("testserver",))) as client:
        yield client


def uploads(folder, prefix=""):
    return [
        ("files", (f"{prefix}{path.relative_to(folder)}", path.read_bytes(), "image/png"))
        for path in sorted(folder.rglob("*.png"))
    ]


def test_health_tells_what_it_reads(client, bundle):
    told = client.get("/api/health").json()
    assert told["status"] == "ok" and told["study_types"] == ["elbow", "wrist"]
    assert [point["point"] for point in told["operating_points"]] == list(bundle.points)
    assert "Not a medical device" in told["notice"]


def test_an_answer_has_the_fields_of_the_tables(client, bundle, lesions):
    folder = lesions / "valid"
    told = client.post("/api/read", files=uploads(folder), data={"token": "mine"}).json()
    expected = bundle.read(folder).set_index("files")
    assert len(told["studies"]) == len(expected) == 12
    for study in told["studies"]:
        assert set(FINDING_COLUMNS) <= set(study)
    ours = sorted(study["probability"] for study in told["studies"])
    assert ours == pytest.approx(sorted(expected.probability), abs=1e-5)
    assert all(set(VIEW_COLUMNS) <= set(view) for view in told["views"])
    assert client.get("/api/progress/mine").json() == {"studies": 12, "of": 12}
    assert client.get("/api/progress/other").json() == {"studies": 0, "of": 0}
    view = told["views"][0]
    for kind in ("radiograph", "heat"):
        picture = client.get(view[kind])
        assert (
            picture.content.startswith(b"\x89PNG")
            and picture.headers["content-type"] == "image/png"
        )
    assert client.get(view["heat"].replace("/0/", "/99/")).status_code == 404


def test_a_zip_is_read_and_a_broken_one_is_a_sentence(client, lesions, tmp_path):
    with zipfile.ZipFile(tmp_path / "visit.zip", "w") as archive:
        for path in (lesions / "valid/XR_WRIST").rglob("*.png"):
            archive.write(path, path.relative_to(lesions))
    content = (tmp_path / "visit.zip").read_bytes()
    told = client.post("/api/read", files=[("files", ("visit.zip", content))]).json()
    assert len(told["studies"]) == 6
    assert {study["study_type"] for study in told["studies"]} == {"wrist"}
    refused = client.post("/api/read", files=[("files", ("visit.zip", content[:200]))])
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("visit.zip must be a whole zip")


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "C:\\x\\y.png", "a\0b", "." * 300]
)
def test_names_never_become_paths(client, lesions, name):
    image = next(lesions.rglob("*.png")).read_bytes()
    answer = client.post(
        "/api/read", files=[("files", (name, image))], data={"study_type": "wrist"}
    )
    assert answer.status_code == 200 and answer.json()["studies"][0]["decision"] != "not read"


def test_wrong_types_and_points_are_sentences(client, lesions):
    files = uploads(lesions / "valid/XR_WRIST")[:1]
    for field, value, reason in (
        ("study_type", "knee", "one that the bundle reads, elbow, wrist"),
        ("point", "best", "must be one of paper, kappa, doubt"),
    ):
        refused = client.post("/api/read", files=files, data={field: value})
        assert refused.status_code == 422 and reason in refused.json()["detail"]


def test_other_hosts_and_origins_are_refused(client, lesions):
    assert client.get("/", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/", headers={"host": "testserver.evil.example:80"}).status_code == 421
    files = uploads(lesions / "valid/XR_WRIST")[:1]
    for origin in ("http://evil.example", "null", "https://testserver.evil.example"):
        refused = client.post("/api/read", files=files, headers={"origin": origin})
        assert refused.status_code == 403
    allowed = client.post("/api/read", files=files, headers={"origin": "http://testserver"})
    assert allowed.status_code == 200


def test_too_much_is_refused_before_it_is_read(client, lesions, monkeypatch):
    monkeypatch.setattr(server, "MOST_BYTES", 100)
    refused = client.post("/api/read", files=uploads(lesions / "valid/XR_WRIST")[:1])
    assert refused.status_code == 413 and "an upload may have" in refused.json()["detail"]


def test_an_upload_without_a_length_is_refused(client):
    def pieces():
        yield b"x"

    assert client.post("/api/read", content=pieces()).status_code == 411
    both = {"content-length": "1", "transfer-encoding": "chunked"}
    assert client.post("/api/read", content=b"x", headers=both).status_code == 411


def test_every_answer_has_the_policy_and_pages_load_nothing_from_elsewhere(client):
    for path in ("/", "/room.js", "/room.css", "/api/health", "/api/docs", "/nothing"):
        answer = client.get(path)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "https://" not in answer.text and "http://" not in answer.text
    assert "/api/read" in client.get("/api/docs").text
    assert client.get("/api/openapi.json").json()["paths"]["/api/read"]


def test_pictures_are_forgotten_in_time_and_by_size(client, lesions, monkeypatch):
    files = uploads(lesions / "valid/XR_WRIST")[:1]

    def picture():
        return client.post("/api/read", files=files).json()["views"][0]["radiograph"]

    first = picture()
    with monkeypatch.context() as later:
        later.setattr(server, "KEPT_SECONDS", -1)
        assert client.get(first).status_code == 404
    assert client.get(first).status_code == 404  # gone, not only refused
    first, second = picture(), picture()
    monkeypatch.setattr(server, "KEPT_BYTES", 1)
    assert [client.get(one).status_code for one in (first, second)] == [404, 200]


def test_a_request_keeps_no_more_pictures_than_fit(bundle, lesions, monkeypatch):
    """What a process sends for one, which is answered with all its findings."""
    sent = []
    paths = sorted((lesions / "valid/XR_WRIST").rglob("*.png"))[:3]
    uploads = [(f"visit/{number}.png", path) for number, path in enumerate(paths)]
    order = workers._Order(uploads, "wrist", False, None, None)
    monkeypatch.setattr(workers, "KEPT_BYTES", 1)
    workers._read(bundle, order, SimpleNamespace(send=sent.append))
    answers = [answer for kind, (answer, _) in sent]
    assert [[bool(one) for one in answer.pictures] for answer in answers] == [[True, False, False]]
    assert all(answer.row["decision"] != "not read" for answer in answers)


def test_pictures_are_forgotten_though_nobody_asks(bundle, lesions, monkeypatch):
    monkeypatch.setattr(server, "FORGETTING_SECONDS", 0.01)
    app = create_app(bundle.path, hosts=("testserver",))
    with TestClient(app) as client:
        files = uploads(lesions / "valid/XR_WRIST")[:1]
        assert client.post("/api/read", files=files).status_code == 200
        assert app.state.readings._kept
        monkeypatch.setattr(server, "KEPT_SECONDS", -1)
        deadline = time.monotonic() + 30
        while app.state.readings._kept and time.monotonic() < deadline:
            time.sleep(0.01)
    assert not app.state.readings._kept


def test_kept_findings_are_files(bundle, lesions, tmp_path):
    app = create_app(bundle.path, hosts=("testserver",), keep=tmp_path / "kept")
    with TestClient(app) as client:
        for _ in range(3):  # of one second, or two
            client.post("/api/read", files=uploads(lesions / "valid/XR_WRIST")[:1])
    assert len(list((tmp_path / "kept").glob("*/findings.csv"))) == 3


def test_a_reading_that_takes_too_long_is_ended(bundle, lesions):
    pool = Workers(bundle.path, 1, seconds=0.0)
    image = next(lesions.rglob("*.png"))
    try:
        with pytest.raises(ReadingFailedError, match="took longer than 0 s and was ended"):
            pool.read([("a.png", image)], "wrist", False, None)
        pool._seconds = 120
        (answer,) = pool.read([("a.png", image)], "wrist", False, None)
    finally:
        pool.close()
    assert answer.row["decision"] != "not read" and answer.report == b""


def test_a_bundle_that_was_replaced_is_not_read_by_a_new_worker(bundle, lesions, tmp_path):
    path = tmp_path / "copy.mura"
    path.write_bytes(bundle.path.read_bytes())
    pool = Workers(path, 1, seconds=0.0)
    image = next(lesions.rglob("*.png"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("LICENCE", "another one")
    try:
        for sentence in ("took longer", "is another one than when the server was started"):
            with pytest.raises(ReadingFailedError, match=sentence):
                pool.read([("a.png", image)], "wrist", False, None)
    finally:
        pool.close()


def test_a_full_disk_is_told(client, lesions, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    image = next(lesions.rglob("*.png")).read_bytes()
    answer = client.post("/api/read", files=[("files", ("a.png", image))])
    assert answer.status_code == 507
    assert answer.json()["detail"].endswith("not be kept: [Errno 28] No space left on device")


def test_a_full_disk_while_an_upload_arrives_is_told(client, lesions, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("starlette.datastructures.UploadFile.write", full)
    image = next(lesions.rglob("*.png")).read_bytes()
    answer = client.post("/api/read", files=[("files", ("a.png", image))])
    assert answer.status_code == 507 and "No space left on device" in answer.json()["detail"]


def test_a_full_disk_of_the_process_that_reads_is_told(bundle, lesions, monkeypatch):
    sent = []
    pipe = SimpleNamespace(recv=iter([None]).__next__, send=sent.append)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(workers, "_read", full)
    monkeypatch.setattr(workers.signal, "signal", lambda *_: None)
    with pytest.raises(StopIteration):
        workers._serve(bundle.path, pipe)
    assert sent[-1] == ("full", "[Errno 28] No space left on device")


def test_a_page_of_another_model_is_told(client, lesions):
    files = uploads(lesions / "valid/XR_WRIST")[:1]
    bundle = client.get("/api/health").json()["bundle"]
    assert client.post("/api/read", files=files, data={"bundle": bundle}).status_code == 200
    other = client.post("/api/read", files=files, data={"bundle": "0" * 12})
    assert other.status_code == 409 and "reload the page" in other.json()["detail"]


def test_a_worker_that_dies_is_replaced(bundle, lesions):
    pool = Workers(bundle.path, 1, seconds=120)
    image = next(lesions.rglob("*.png"))
    try:
        worker = pool._idle.queue[0]
        worker._process.kill()
        worker._process.join()
        with pytest.raises(ReadingFailedError, match="the process that read this ended"):
            pool.read([("a.png", image)], "wrist", False, None)
        found = pool.read([("a.png", image)], "wrist", False, None)
    finally:
        pool.close()
    assert np.isfinite(found[0].row["probability"])


def test_a_member_that_cannot_be_opened_is_told_before_anything_is_served(bundle, tmp_path):
    damaged = tmp_path / "damaged.mura"
    with zipfile.ZipFile(bundle.path) as whole, zipfile.ZipFile(damaged, "w") as target:
        for name in whole.namelist():
            content = whole.read(name)
            target.writestr(name, content[:1000] if name.endswith(".keras") else content)
    with pytest.raises(ValueError, match=r"member0\.keras"):
        create_app(damaged)
