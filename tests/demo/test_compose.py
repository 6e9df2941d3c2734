"""docker-compose.yml says what it means: valid, and in the words the demo really reads."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

from demo_app.settings import Settings, State, names

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
PODS = [name for name in SERVICES if name.startswith("pod-")]


def test_it_is_valid_by_the_compose_specification():
    schema = files("check_jsonschema.builtin_schemas.vendor").joinpath("compose-spec.json")
    jsonschema.validate(COMPOSE, json.loads(schema.read_text(encoding="utf-8")))


def test_it_runs_what_the_demo_is_made_of():
    assert PODS == ["pod-1", "pod-2", "pod-3"]
    assert {"valkey", "nginx", "locust", "third-party"} == set(SERVICES) - set(PODS)


@pytest.mark.parametrize("pod", PODS)
def test_each_variable_is_one_the_demo_reads(pod):
    environment = SERVICES[pod]["environment"]
    assert set(environment) <= names()
    settings = Settings.from_environment(environment)
    assert settings.state == State.SHARED
    assert settings.pod == pod


def test_hosts_and_dependencies_are_services():
    environment = SERVICES["pod-1"]["environment"]
    for url in (environment["STATEKIT_URL"], environment["UPSTREAM_URL"]):
        assert urlsplit(url).hostname in SERVICES
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)


def test_files_it_builds_from_and_mounts_exist():
    for service in SERVICES.values():
        if "build" in service:
            assert (ROOT / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).is_file()
    for copied in re.findall(r"^COPY (.+) \S+$", (ROOT / "demo_app/Dockerfile").read_text(), re.MULTILINE):
        assert all((ROOT / name).exists() for name in copied.split())


def test_nginx_spreads_over_all_pods_without_stickiness():
    config = (ROOT / "demo_app/nginx.conf").read_text()
    port = SERVICES["pod-1"]["environment"]["BIND"].rpartition(":")[2]
    assert re.findall(r"server (pod-\d):(\d+)", config) == [(pod, port) for pod in PODS]
    assert not re.search(r"ip_hash|sticky|\bhash\b", config.partition("events")[2])
    assert "listen 8080;" in config
    assert "8080:8080" in SERVICES["nginx"]["ports"]


def test_the_load_takes_the_options_given():
    command = SERVICES["locust"]["command"]
    options = {word for word in command if word.startswith("--")}
    scenario = (ROOT / command[command.index("-f") + 1]).read_text()
    own = set(re.findall(r"\"(--[a-z-]+)\"", scenario))
    assert options - own <= {
        "--headless",
        "--only-summary",
        "--users",
        "--spawn-rate",
        "--run-time",
        "--host",
    }
