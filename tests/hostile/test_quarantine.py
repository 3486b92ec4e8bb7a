"""Models that crash or break out again and again, through the product, and their release."""

import io
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import Stack, scripted

from service.client import AnalysisFailedError, Client
from tests.hostile.exports import writing
from tests.hostile.programs import Base, Crashing

pytestmark = pytest.mark.xdist_group("stack")

PROBE = "builtin:digits"


def failed(client: Client, model: dict[str, Any]) -> dict[str, Any]:
    """The error of an analysis that fails."""
    with pytest.raises(AnalysisFailedError) as refused:
        client.analyse(model["id"], PROBE)
    error: dict[str, Any] = refused.value.analysis["error"]
    return error


def events(http: httpx.Client, model: dict[str, Any]) -> list[str]:
    """What is on record about a model, oldest first."""
    items = http.get("/v1/security-events", params={"sha256": model["sha256"]}).json()["items"]
    return [each["event"] for each in items][::-1]


def count(http: httpx.Client, name: str) -> float:
    (line,) = (line for line in http.get("/metrics").text.splitlines() if line.startswith(name))
    return float(line.split()[-1])


def quarantine_command(stack: Stack, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "service", "quarantine", *arguments, "--url", stack.url],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_a_model_that_crashes_thrice_waits_for_its_release(
    stack: Stack, client: Client, http: httpx.Client
) -> None:
    honest = client.upload_model(io.BytesIO(scripted(Base())), name="honest beside")
    model = client.upload_model(io.BytesIO(scripted(Crashing())), name="crashing")
    crashes = count(http, 'phiscope_security_events_total{event="crashed"}')
    # All are in the queue when the quarantine falls.
    started = [client.start(model["id"], PROBE) for _ in range(5)]
    errors = [client.wait(each["id"])["error"] for each in started]
    assert [error["code"] for error in errors] == ["crashed"] * 3 + ["quarantined"] * 2
    assert "SIGSEGV" in errors[0]["message"]
    assert "3 × crashed" in errors[-1]["message"]
    assert events(http, model) == ["crashed"] * 3 + ["quarantined"]
    assert count(http, 'phiscope_security_events_total{event="crashed"}') == crashes + 3
    assert count(http, "phiscope_quarantined_files") == 1

    # The same bytes under another name are the same file; another model is not affected.
    again = client.upload_model(io.BytesIO(scripted(Crashing())), name="renamed")
    assert failed(client, again)["code"] == "quarantined"
    inspection = client.inspect(again["id"])
    assert inspection["error"]["code"] == "quarantined"
    assert client.analyse(honest["id"], PROBE)["verdict"]

    assert model["sha256"] in quarantine_command(stack, "list")
    quarantine_command(stack, "release", model["sha256"])
    assert quarantine_command(stack, "list") == ""
    assert failed(client, model)["code"] == "crashed"
    assert events(http, model)[-2:] == ["released", "crashed"]
    # Nor does an inspection keep to the answer of then.
    assert (client.inspect(again["id"])["error"] or {}).get("code") != "quarantined"
    assert http.get(f"/v1/quarantines/{model['sha256']}").status_code == 404


def test_a_model_that_reaches_for_files_waits_for_its_release(
    client: Client, http: httpx.Client, tmp_path: Path
) -> None:
    model = client.upload_model(io.BytesIO(writing(tmp_path / "owned")), name="writing")
    codes = [failed(client, model)["code"] for _ in range(4)]
    assert codes == ["policy_violation"] * 3 + ["quarantined"]
    address = f"/v1/quarantines/{model['sha256']}"
    assert http.get(address).json()["reason"] == "3 × policy_violation"
    assert http.delete(address).status_code == 204
    assert failed(client, model)["code"] == "policy_violation"
    assert events(http, model) == [
        *["policy_violation"] * 3,
        "quarantined",
        "released",
        "policy_violation",
    ]


def test_a_running_worker_is_counted(http: httpx.Client) -> None:
    while (workers := http.get("/readyz").json()["workers"])["live"] != 1:
        time.sleep(0.1)
    assert (workers["state"], workers["without_landlock"]) == ("ok", [])
    assert count(http, 'phiscope_workers{device="cpu",landlock="enforced"}') == 1
