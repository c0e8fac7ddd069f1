"""The files of examples/deploy agree with each other, with pyproject.toml and with the server.

No image is built here: docs/deploy.md says so. What is tested is what a build or a start would find late.
"""

import json
import re
import shlex
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
import yaml

from ganrt.cli.serve import serve
from ganrt.serve.metrics import Metrics
from ganrt.serve.settings import Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
IMAGES = ["Dockerfile.cpu", "Dockerfile.cuda", "Dockerfile.jetson"]
INSTRUCTIONS = {
    *("ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "VOLUME"),
    *("USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"),
}
TOKEN = "/run/secrets/token"
SETTINGS = Settings(models=())
PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")


class Image(NamedTuple):
    """A Dockerfile of two stages, each a list of (instruction, argument)."""

    build: list[tuple[str, str]]
    final: list[tuple[str, str]]

    def find(self, instruction: str) -> str:
        """The argument of an instruction that the final stage has once."""
        (found,) = (argument for name, argument in self.final if name == instruction)
        return found

    @property
    def environment(self) -> dict[str, str]:
        return dict(word.split("=", 1) for word in shlex.split(self.find("ENV")))


def read_instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, comments left out and lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).splitlines()
    found = [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined]
    assert {name for name, _ in found} <= INSTRUCTIONS
    return found


def read_image(name: str) -> Image:
    instructions = read_instructions((FOLDER / name).read_text(encoding="utf-8"))
    first, second = (k for k, (instruction, _) in enumerate(instructions) if instruction == "FROM")
    return Image(instructions[first:second], instructions[second:])


def read_yaml(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def read_unit() -> dict[str, list[str]]:
    """The settings of the unit: key -> values."""
    settings: dict[str, list[str]] = {}
    for line in (FOLDER / "ganrt.service").read_text(encoding="utf-8").splitlines():
        if line and line[0] not in "#[":
            key, value = line.split("=", 1)
            settings.setdefault(key, []).append(value)
    return settings


def read_options(words: list[str]) -> dict[str, str]:
    """Option -> value, of options that all take one."""
    return {word: words[k + 1] for k, word in enumerate(words) if word.startswith("--")}


def read_seconds(text: str) -> float:
    assert text.endswith("s")
    return float(text[:-1])


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> Image:
    return read_image(request.param)


def test_these_are_all_the_files() -> None:
    others = {"compose.yaml", "prometheus.yml", "ganrt.service"}
    assert {path.name for path in FOLDER.iterdir() if path.is_file()} == {*IMAGES, *others}


def test_an_image_runs_as_a_user_that_is_not_root(image: Image) -> None:
    user, _, group = image.find("USER").partition(":")
    assert int(user) > 0 and int(group) > 0
    names = [name for name, _ in image.final]
    assert "RUN" not in names[names.index("USER") :]


def test_the_cache_belongs_to_the_user_alone(image: Image) -> None:
    cache = image.environment["GANRT_CACHE"]
    assert image.find("VOLUME") == cache
    words = shlex.split(image.find("RUN"))
    user, _, group = image.find("USER").partition(":")
    assert words == ["install", "--directory", f"--owner={user}", f"--group={group}", "--mode=0700", cache]


def test_the_installed_ganrt_is_the_one_that_runs(image: Image) -> None:
    (copied,) = (argument for name, argument in image.final if name == "COPY")
    source, target = copied.removeprefix("--from=build ").split()
    assert source == target and image.environment["PATH"].split(":")[0] == f"{target}/bin"
    installs = [argument for name, argument in image.build if name == "RUN" and " -m venv " in argument]
    assert len(installs) == 1 and f"{target}/bin/pip install" in installs[0] and f" {target} " in installs[0]
    assert "--no-cache-dir" in installs[0]


def test_both_stages_have_the_same_python(image: Image) -> None:
    """The environment of the first has a link to it."""
    assert image.build[0][1] == f"{image.find('FROM')} AS build"


def test_the_build_gets_all_that_the_wheel_is_made_of(image: Image) -> None:
    copied = {word.rstrip("/") for name, argument in image.build if name == "COPY" for word in argument.split()[:-1]}
    assert all((ROOT / name).exists() for name in copied)
    project = PROJECT["project"]
    needed = {project["readme"], *project["license-files"], *PROJECT["tool"]["setuptools"]["package-dir"].values()}
    assert {name.split("/")[0] for name in needed} | {"pyproject.toml"} == copied


@pytest.mark.parametrize(
    ("name", "extra"),
    [("Dockerfile.cpu", "onnxruntime"), ("Dockerfile.cuda", "cuda"), ("Dockerfile.jetson", "tensorrt")],
)
def test_an_image_has_an_extra_of_its_machine(name: str, extra: str) -> None:
    image = read_image(name)
    assert ("ARG", f"EXTRA={extra}") in image.build and extra in EXTRAS and "serve" in EXTRAS
    assert any('".[${EXTRA},serve]"' in argument for instruction, argument in image.build if instruction == "RUN")


def test_a_jetson_uses_the_tensorrt_of_its_system() -> None:
    """Its extra brings neither TensorRT nor ONNX Runtime there, and nothing imports them during the build."""
    image = read_image("Dockerfile.jetson")
    assert any("--system-site-packages" in argument for name, argument in image.build if name == "RUN")
    text = (FOLDER / "Dockerfile.jetson").read_text(encoding="utf-8")
    assert "nvcr.io/nvidia/l4t-jetpack:r36" in text and "import tensorrt" not in text


def test_a_gpu_is_asked_for_where_there_is_one() -> None:
    asked = [name for name in IMAGES if "NVIDIA_VISIBLE_DEVICES" in read_image(name).environment]
    assert asked == ["Dockerfile.cuda", "Dockerfile.jetson"]


def test_an_image_is_stopped_by_a_signal_to_the_server(image: Image) -> None:
    """In exec form: a shell would get the signal instead."""
    assert image.find("STOPSIGNAL") == "SIGTERM"
    entry, arguments = json.loads(image.find("ENTRYPOINT")), json.loads(image.find("CMD"))
    assert entry[:2] == ["ganrt", "serve"] and [Path(word).suffix for word in arguments] == [".ganrt"]
    assert read_options(entry) == {"--host": "0.0.0.0", "--port": image.find("EXPOSE"), "--token-file": TOKEN}


@pytest.mark.parametrize("name", [*IMAGES, "ganrt.service"])
def test_the_command_line_is_one_of_ganrt(name: str) -> None:
    """Parsed by the command itself, which knows its options and their values."""
    if name == "ganrt.service":
        words = shlex.split(read_unit()["ExecStart"][0])
    else:
        image = read_image(name)
        words = json.loads(image.find("ENTRYPOINT")) + json.loads(image.find("CMD"))
    given = serve.make_context("serve", words[2:]).params
    assert given["port"] == 8000 and len(given["bundles"]) == 1 and given["token_file"].name == "token"


class Health(BaseHTTPRequestHandler):
    """A server that is alive, or not."""

    statuses: ClassVar[dict[str, int]] = {}

    def do_GET(self) -> None:
        self.send_response(self.statuses.get(self.path, 404))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@pytest.mark.parametrize("status", [200, 503, 404, None])
def test_the_health_check_works(status: int | None, image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run here with the answer of a server, without one, and with a proxy in the environment."""
    options, _, command = image.find("HEALTHCHECK").partition("CMD ")
    assert float(re.findall(r"--timeout=(\d+)s", options)[0]) > 3
    python, flag, code = json.loads(command)
    assert python.endswith("/bin/python") and flag == "-c" and f"'127.0.0.1', {image.find('EXPOSE')}," in code
    monkeypatch.setattr(Health, "statuses", {"/v2/health/live": status or 0})
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        port = server.server_port
        if status is None:
            server.server_close()
        else:
            threading.Thread(target=server.handle_request, daemon=True).start()
        code = code.replace(f"'127.0.0.1', {image.find('EXPOSE')},", f"'127.0.0.1', {port},")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert (done.returncode == 0) == (status == 200)


def test_compose_runs_the_image_with_limits() -> None:
    compose = read_yaml("compose.yaml")
    service, image = compose["services"]["ganrt"], read_image("Dockerfile.cpu")
    assert (FOLDER / service["build"]["context"]).resolve() == ROOT
    assert ROOT / service["build"]["dockerfile"] == FOLDER / "Dockerfile.cpu"
    assert service["ports"] == [f"127.0.0.1:8000:{image.find('EXPOSE')}"]
    mounts = dict(volume.split(":")[:2][::-1] for volume in service["volumes"])
    assert mounts[image.environment["GANRT_CACHE"]] in compose["volumes"]
    assert mounts["/models"] == "./models" and "./models:/models:ro" in service["volumes"]
    assert [str(Path(path).parent) for path in service["command"]] == ["/models"]
    assert read_seconds(service["stop_grace_period"]) > SETTINGS.drain_s
    assert service["tmpfs"] and service["init"]


@pytest.mark.parametrize("name", ["ganrt", "prometheus"])
def test_compose_gives_a_service_no_more_than_it_needs(name: str) -> None:
    service = read_yaml("compose.yaml")["services"][name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "mem_limit", "pids_limit"} <= set(service)
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert not {"privileged", "network_mode", "cap_add", "user"} & set(service)


def test_compose_mounts_the_token_where_both_read_it() -> None:
    compose = read_yaml("compose.yaml")
    (name,) = compose["secrets"]
    assert f"/run/secrets/{name}" == TOKEN
    assert all(service["secrets"] == [name] for service in compose["services"].values())


def test_prometheus_scrapes_the_server() -> None:
    services = read_yaml("compose.yaml")["services"]
    assert "./prometheus.yml:/etc/prometheus/prometheus.yml:ro" in services["prometheus"]["volumes"]
    (job,) = read_yaml("prometheus.yml")["scrape_configs"]
    ((target,),) = (entry["targets"] for entry in job["static_configs"])
    host, port = target.split(":")
    assert host in services and port == read_image("Dockerfile.cpu").find("EXPOSE")
    assert job["metrics_path"] == "/metrics"
    assert job["authorization"] == {"type": "Bearer", "credentials_file": TOKEN}


def test_the_unit_starts_the_server_with_the_token() -> None:
    unit = read_unit()
    program, command, bundle, *words = shlex.split(unit["ExecStart"][0])
    assert Path(program).is_absolute() and (Path(program).name, command) == ("ganrt", "serve")
    assert Path(bundle).is_absolute() and bundle.endswith(".ganrt")
    name, path = unit["LoadCredential"][0].split(":")
    options = read_options(words)
    assert options["--token-file"] == f"${{CREDENTIALS_DIRECTORY}}/{name}" and Path(path).is_absolute()
    assert options["--host"] == "127.0.0.1" and unit["IPAddressAllow"] == ["localhost"]
    assert f"GANRT_CACHE=/var/cache/{unit['CacheDirectory'][0]}" in unit["Environment"]
    assert unit["CacheDirectoryMode"] == ["0700"]


def test_the_unit_lets_the_server_finish() -> None:
    unit = read_unit()
    assert unit["KillSignal"] == ["SIGTERM"] and unit["KillMode"] == ["mixed"]
    assert float(unit["TimeoutStopSec"][0]) > SETTINGS.drain_s


def test_the_unit_may_do_little() -> None:
    unit = read_unit()
    for name in ("DynamicUser", "NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "RestrictNamespaces"):
        assert unit[name] == ["yes"]
    assert unit["ProtectSystem"] == ["strict"] and unit["CapabilityBoundingSet"] == [""]
    assert not {"MemoryDenyWriteExecute", "ProcSubset"} & set(unit)  # ganrt would not work


def test_the_page_names_the_metrics_of_the_server() -> None:
    there = set(re.findall(r"^# TYPE (\w+) ", Metrics().write().decode(), re.MULTILINE))
    named = set(re.findall(r"\bganrt_[a-z_]+", PAGE))
    assert set(re.findall(r"^\| `(ganrt_\w+)`", PAGE, re.MULTILINE)) == there
    assert named <= there | {f"{name}_{part}" for name in there for part in ("bucket", "sum", "count")}


def test_the_page_has_the_limits_of_the_server() -> None:
    assert f"client_max_body_size {SETTINGS.max_body >> 20}m;" in PAGE
    assert float(re.findall(r"proxy_read_timeout (\d+)s;", PAGE)[0]) > SETTINGS.timeout_s
    assert f"up to {SETTINGS.timeout_s:g} seconds" in PAGE and f"finish for {SETTINGS.drain_s:g} seconds" in PAGE
