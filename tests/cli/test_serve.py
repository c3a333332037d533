"""Up to the door; what is behind it has its tests in the room of inference."""

import socket

import pytest
from command_line import assert_sentence, assert_wrong_usage, call


def test_what_is_opened_and_where(bundle, tmp_path, monkeypatch):
    pytest.importorskip("fastapi")
    uvicorn = pytest.importorskip("uvicorn")
    opened = {}
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: opened.update(options, app=app))
    told = call("serve", bundle.path, "--port", 8400, "--keep", tmp_path)
    assert (told.exit_code, told.stderr) == (0, "")
    assert "http://127.0.0.1:8400 " in told.stdout and "Not a medical device" in told.stdout
    assert (opened["host"], opened["port"]) == ("127.0.0.1", 8400)
    paths = {route.path for route in opened["app"].routes if hasattr(route, "path")}
    assert {"/", "/api/health", "/api/read"} <= paths


@pytest.mark.parametrize("option", [["--port", "0"], ["--port", "70000"], ["--workers", "0"]])
def test_wrong_usage(bundle, option):
    assert_wrong_usage(call("serve", bundle.path, *option), option[0])


def test_a_missing_bundle(tmp_path):
    pytest.importorskip("fastapi")
    assert_sentence(call("serve", tmp_path / "no.mura"), "there is no bundle")


def test_a_port_that_is_taken(bundle):
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        told = call("serve", bundle.path, "--port", door.getsockname()[1])
    assert_sentence(told, "--port must be free")
    assert told.stdout == ""
