import io
import uuid
import xml.etree.ElementTree as ET

import httpx
import pytest
from support import flattening

from service.client import ApiError, Client

pytestmark = pytest.mark.xdist_group("stack")

NAME = "<script>alert('x')</script> \"&amp;"


@pytest.fixture(scope="module")
def hostile_name() -> str:
    return f"{NAME} {uuid.uuid4().hex}"


@pytest.fixture
def analysis(client: Client, hostile_name: str) -> str:
    """An analysis of a model with a hostile name, with all layers."""
    model = client.upload_model(io.BytesIO(flattening()), name=hostile_name)
    started = client.start(model["id"], "builtin:digits", {"layers": "all"})
    assert client.wait(started["id"])["status"] == "succeeded"
    return str(started["id"])


def test_every_chart_that_is_listed_is_a_picture(
    http: httpx.Client, client: Client, analysis: str
) -> None:
    links = http.get(f"/v1/analyses/{analysis}").json()["links"]
    listed = http.get(links["charts"]).json()["items"]
    assert {"verdict", "spectrum", "projections", "layers"} <= {each["name"] for each in listed}
    for chart in listed:
        response = http.get(chart["href"])
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("image/svg+xml")
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
        assert response.headers["x-content-type-options"] == "nosniff"
        picture = ET.fromstring(response.content)  # noqa: S314 - our own
        assert any(text.startswith("<script>alert('x')") for text in picture.itertext())
        assert b"<script" not in response.content
        assert client.chart(analysis, chart["name"]) == response.text


def test_a_chart_that_a_client_has_is_not_sent_again(http: httpx.Client, analysis: str) -> None:
    address = f"/v1/analyses/{analysis}/charts/verdict.svg"
    etag = http.get(address).headers["etag"]
    again = http.get(address, headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert http.get(address, headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_chart_that_is_not_there_is_not_found(http: httpx.Client, analysis: str) -> None:
    response = http.get(f"/v1/analyses/{analysis}/charts/pie.svg")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert "it has verdict, spectrum, projections" in response.json()["detail"]
    assert http.get(f"/v1/analyses/{uuid.uuid4()}/charts").status_code == 404


def test_layers_are_drawn_where_they_were_asked_for(client: Client) -> None:
    model = client.upload_model(io.BytesIO(flattening()), name="charts")
    started = client.wait(client.start(model["id"], "builtin:digits")["id"])
    with pytest.raises(ApiError, match='the option is "layers": "all"') as refused:
        client.chart(started["id"], "layers")
    assert refused.value.status == 404


def test_there_are_no_charts_before_there_is_a_report(client: Client) -> None:
    # The network takes one image after the other, and the seed makes the request a new one.
    model = client.upload_model(io.BytesIO(flattening()), name="charts")
    options = {"batch_size": 1, "seed": uuid.uuid4().int % 2**32}
    started = client.start(model["id"], "builtin:digits", options)
    for path in ("charts", "charts/spectrum.svg"):
        with pytest.raises(ApiError) as refused:
            client.get(f"/v1/analyses/{started['id']}/{path}")
        assert (refused.value.status, refused.value.problem["code"]) == (409, "not_ready")
