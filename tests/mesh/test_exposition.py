"""Metrics and health over HTTP, on loopback."""

import asyncio
import urllib.error
import urllib.request

import pytest
from prometheus_client.metrics import MetricWrapperBase

from mesh import metrics
from mesh.errors import SettingsError
from mesh.exposition import serve
from mesh.settings import MetricsSettings


def get(url: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def test_metrics_are_served_where_the_settings_say() -> None:
    metrics.RECORDS.labels(kind="plan").inc()
    async with serve(MetricsSettings()) as url:
        assert url.startswith("http://127.0.0.1:")
        status, page = await asyncio.to_thread(get, f"{url}/metrics")
        assert status == 200 and 'workmesh_records_committed_total{kind="plan"}' in page
        assert (await asyncio.to_thread(get, f"{url}/else"))[0] == 404


async def test_health_says_why_a_process_is_not_healthy() -> None:
    reason = ""
    async with serve(MetricsSettings(), lambda: reason) as url:
        assert await asyncio.to_thread(get, f"{url}/health") == (200, '{"status":"ok"}')
        reason = "not connected to the bus"
        status, body = await asyncio.to_thread(get, f"{url}/health")
        assert status == 503 and reason in body


async def test_a_process_can_be_healthy_and_not_ready() -> None:
    reason = "it has not begun to work"
    async with serve(MetricsSettings(host="0.0.0.0", address="127.0.0.1"), ready=lambda: reason) as url:
        assert url.startswith("http://127.0.0.1:"), "others are told the address, not what it listens on"
        assert (await asyncio.to_thread(get, f"{url}/health"))[0] == 200
        status, body = await asyncio.to_thread(get, f"{url}/ready")
        assert status == 503 and reason in body
        reason = ""
        assert await asyncio.to_thread(get, f"{url}/ready") == (200, '{"status":"ok"}')


async def test_the_port_is_free_again_afterwards_and_a_taken_one_is_refused() -> None:
    async with serve(MetricsSettings()) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(SettingsError, match=r"set metrics\.port"):
            async with serve(MetricsSettings(port=port)):
                pytest.fail("two servers on one port")
    async with serve(MetricsSettings(port=port)) as again:
        assert again == url


async def test_port_minus_one_serves_nothing() -> None:
    async with serve(MetricsSettings(port=-1)) as url:
        assert url == ""


def test_every_metric_is_named_and_explained_and_has_no_ids_as_labels() -> None:
    allowed = {"kind", "stage", "result", "domain", "status", "tool", "how", "target", "state", "reason"}
    allowed |= {"word", "policy", "limit", "live", "shadow", "phase"}  # as many as a bundle has, or as verdicts
    allowed |= {"mode", "model", "role", "certain", "tier", "event", "source"}  # as many as the settings name
    allowed |= {"slo", "person"}  # interactive or batch; yes or no
    declared = [item for item in vars(metrics).values() if isinstance(item, MetricWrapperBase)]
    assert len(declared) >= 20
    for metric in declared:
        assert metric._name.startswith("workmesh_") and metric._documentation.endswith(".")
        assert set(metric._labelnames) <= allowed
