"""Renders a chart by Helm's own code and holds what comes against the API's schemas: `rendering.py CHART < VALUES`.

Run by the interpreter of .tools/helm, which alone has these packages. Values are a JSON list; what comes of each is one
element of a JSON list: lint's findings, the manifests, and what is wrong with them, or why Helm refused the values.
"""

import json
import sys
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import yaml

OTHERS = ("ScaledObject", "PodMonitor")
"""Kinds of KEDA and of the Prometheus operator, whose schemas are not Kubernetes's own."""


def rendered(chart: Path, values: dict[str, Any], version: str) -> dict[str, Any]:
    """What comes of the chart with these values."""
    try:
        with helm_python.Chart.load(chart) as loaded:
            files = loaded.render(values, name="site", namespace="workmesh", revision=1, is_install=True)
    except helm_python.HelmError as error:
        return {"refused": str(error)}
    manifests = [
        manifest
        for name, text in files.items()
        if name.endswith(".yaml")
        for manifest in yaml.safe_load_all(text)
        if manifest
    ]
    wrong = []
    for manifest in manifests:
        try:
            if manifest["kind"] not in OTHERS:
                kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            wrong.append(f"{manifest['kind']} {manifest['metadata']['name']}: {error}")
    notes = next(text for name, text in files.items() if name.endswith("NOTES.txt"))
    lint = [each for each in helm_python.lint(chart, values, strict=True)["messages"] if each["severity"] > 1]
    return {"manifests": manifests, "wrong": wrong, "lint": lint, "notes": notes}


if __name__ == "__main__":
    given = json.load(sys.stdin)
    json.dump([rendered(Path(sys.argv[1]), values, given["kubernetes"]) for values in given["values"]], sys.stdout)
