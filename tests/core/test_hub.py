"""Bundles on a model hub: what is downloaded and checked, and what is said when it fails; against an HTTP server."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.hub import TOKEN, Hub, Repo, run_hub

import ganrt
from ganrt import hub as module
from ganrt.bundle import Bundle
from ganrt.errors import BundleError, MachineError, MissingLibraryError, RequestError
from ganrt.stores import MANIFEST

huggingface_hub = pytest.importorskip("huggingface_hub")
pytest.importorskip("huggingface_hub.constants")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub without repositories, and a huggingface_hub that asks it, with an empty cache."""
    constants = huggingface_hub.constants
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "hf" / "assets"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with run_hub() as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", found.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield found


@pytest.fixture
def repo(hub: Hub, bundle: Bundle) -> Repo:
    """`me/faces`, with the bundle at its top."""
    found = hub.repos["me/faces"] = Repo()
    found.commit(read_files(bundle))
    return found


def read_files(bundle: Bundle) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in bundle.folder.iterdir()}


def test_a_bundle_is_loaded_and_only_what_is_used_is_downloaded(hub: Hub, repo: Repo, bundle: Bundle) -> None:
    commit = repo.branches["main"]
    with ganrt.load("hf://me/faces", "onnxruntime") as generator, ganrt.load(bundle, "onnxruntime") as local:
        assert np.array_equal(generator.sample(3, seed=7), local.sample(3, seed=7))
        assert generator.info.bundle == f"hf://me/faces@{commit}"
        assert f"bundle: hf://me/faces@{commit}\n" in str(generator.info)
    used = bundle.variants[generator.info.config.variant].file
    assert hub.downloads == ["ganrt.json", used], "the bundle's own record has the proof"
    asked = [f"/me/faces/resolve/main/{MANIFEST}", f"/me/faces/resolve/{commit}/{used}"]
    made = [line for line in hub.requests if "/resolve/" in line]
    assert made == [f"{verb} {path}" for path in asked for verb in ("HEAD", "GET")], "each file once"
    assert any(f"ganrt/{ganrt.__version__}" in agent for agent in hub.agents), "the hub knows who asks"


def test_all_files_come_from_the_commit_that_the_revision_was(hub: Hub, repo: Repo, bundle: Bundle) -> None:
    first = repo.branches["main"]
    read = Bundle.read("hf://me/faces@main")
    repo.commit({"model.onnx": b"something else", "golden.npz": b"new"})
    assert read.path == f"hf://me/faces@{first}"
    assert read.onnx("fp32").read_bytes() == bundle.onnx("fp32").read_bytes()
    assert all(f"/resolve/{first}/" in line for line in hub.requests if "model.onnx" in line)
    assert pickle.loads(pickle.dumps(read)).path == Bundle.read(read.path).path == read.path
    hub.requests.clear()
    assert Bundle.read(read.path).onnx("fp32") == read.onnx("fp32")
    assert hub.requests == [], "a commit does not change, so nothing is asked"


def test_a_tag_a_pull_request_and_a_folder(hub: Hub, bundle: Bundle) -> None:
    found = hub.repos["me/many"] = Repo()
    files = read_files(bundle)
    found.commit({f"small/one.ganrt/{name}": content for name, content in files.items()})
    commit = found.branches["refs/pr/1"] = found.branches["v1.0"] = found.branches["main"]
    for revision in ("", "@v1.0", "@refs/pr/1", f"@{commit}"):
        read = Bundle.read(f"hf://me/many{revision}/small/one.ganrt")
        assert read.path == f"hf://me/many@{commit}/small/one.ganrt"
        assert read.onnx("fp32").read_bytes() == files["model.onnx"]
    assert Bundle.read(Path("hf://me/many/small/one.ganrt/")).path == read.path, "pathlib makes one slash of two"


def test_external_data_lies_beside_its_graph_as_a_file(hub: Hub, repo: Repo, bundle: Bundle) -> None:
    """Libraries do not follow the cache's links to external data."""
    folder = bundle.folder
    data = folder.parent / "model.onnx.data"
    data.write_bytes(b"weights")
    listed = {**bundle.files, "model.onnx.data": bundle.store.measure(data)}
    repo.commit({"model.onnx.data": b"weights"})
    read = replace(Bundle.read("hf://me/faces"), files=listed)
    read.store.check_listing(listed)
    graph = read.onnx("fp32")
    beside = graph.parent / "model.onnx.data"
    assert beside.read_bytes() == b"weights"
    assert not any(path.is_symlink() or path.stat().st_nlink > 1 for path in (graph, beside))
    hub.requests.clear()
    assert read.onnx("fp32") == graph and read.store.exists("model.onnx.data") and hub.requests == []


def test_without_a_connection_what_was_used_before_is_used(
    hub: Hub, repo: Repo, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    online = Bundle.read("hf://me/faces")
    online.onnx("fp32")
    assert online.store.exists("golden.npz") and not online.store.exists("nothing.onnx")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    offline = Bundle.read("hf://me/faces")
    assert offline.path == online.path and offline.onnx("fp32") == online.onnx("fp32")
    assert offline.store.exists("model.onnx") and not offline.store.exists("golden.npz")
    with pytest.raises(MachineError, match=r"may not be asked \(HF_HUB_OFFLINE\), and golden.npz is not in the cache"):
        offline.read_golden()


def test_a_changed_file_is_rejected(hub: Hub, repo: Repo, bundle: Bundle) -> None:
    graph = bytearray(bundle.onnx("fp32").read_bytes())
    graph[-1] ^= 1
    repo.commit({"model.onnx": bytes(graph), "README.md": b"edited on the hub", "samples.png": b""})
    read = Bundle.read("hf://me/faces")
    assert read.read_golden() is not None
    with pytest.raises(BundleError, match=r"sha256 differs"):
        read.onnx("fp32")


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("hf://me/nobody", BundleError, "there is none, or it is private; check the name, or set HF_TOKEN"),
        ("hf://me/secret", BundleError, "there is none, or it is private"),
        ("hf://me/gated", MachineError, "it is gated; accept its terms there, and set HF_TOKEN"),
        ("hf://me/faces@v9", BundleError, "@v9 cannot be fetched from .*: there is no such revision; name a branch"),
        ("hf://me/empty", BundleError, "hf://me/empty@main is not a bundle: it has no ganrt.json"),
        ("hf://me/faces/inside", BundleError, "hf://me/faces@main/inside is not a bundle: it has no ganrt.json"),
        ("hf://me", RequestError, "hf://me is not of the form hf://owner/name"),
        ("hf://me/faces@a@b", RequestError, "is not of the form"),
        ("hf://me/faces/../other", RequestError, "is not of the form"),
        ("hf://me/fa--ces", RequestError, "cannot be fetched from .*: Cannot have -- or"),
    ],
)
def test_what_cannot_be_loaded_is_one_sentence(
    path: str, kind: type[Exception], message: str, hub: Hub, repo: Repo, bundle: Bundle
) -> None:
    hub.repos |= {"me/secret": Repo(access="private"), "me/gated": Repo(access="gated"), "me/empty": Repo()}
    for name in ("me/secret", "me/gated"):
        hub.repos[name].commit(read_files(bundle))
    hub.repos["me/empty"].commit({"README.md": b""})
    with pytest.raises(kind, match=message) as raised:
        ganrt.load(path)
    assert "\n" not in str(raised.value)


def test_a_token_opens_what_is_private(hub: Hub, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    for access in ("private", "gated"):
        hub.repos[f"me/{access}"] = Repo(access=access)
        hub.repos[f"me/{access}"].commit(read_files(bundle))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert Bundle.read(f"hf://me/{access}").spec == bundle.spec


def test_a_file_that_the_hub_lost_is_named(hub: Hub, repo: Repo) -> None:
    del repo.commits[repo.branches["main"]]["golden.npz"]
    read = Bundle.read("hf://me/faces")
    with pytest.raises(BundleError, match=r"lacks a file that its manifest lists: golden.npz"):
        read.read_golden()


def test_a_bundle_on_a_hub_cannot_be_changed(hub: Hub, repo: Repo) -> None:
    with pytest.raises(RequestError, match="cannot be changed: only a bundle that is a folder can"):
        Bundle.read("hf://me/faces").write_manifest()


def test_a_cache_that_cannot_be_used(hub: Hub, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", "~/.cache/huggingface/hub")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MachineError, match="as this user has no home: set HF_HOME to a folder that can be written"):
        Bundle.read("hf://me/faces")
    assert not (tmp_path / "~").exists()
    (tmp_path / "file").touch()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    with pytest.raises(MachineError, match=r"'s cache, cannot be used \(Not a directory\): set HF_HOME"):
        Bundle.read("hf://me/faces")


def test_without_huggingface_hub_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for act in (lambda: ganrt.load("hf://me/faces"), lambda: ganrt.push_to_hub(bundle, "me/faces")):
        with pytest.raises(MissingLibraryError, match=r'huggingface_hub, .*: pip install "ganrt\[hub\]"'):
            act()
    with ganrt.load(bundle.folder) as generator:
        assert len(generator.sample(1)) == 1, "no hub is needed for a folder"


def push(bundle: Bundle | Path, repo: str = "me/new", **options: Any) -> str:
    return ganrt.push_to_hub(bundle, repo, token=TOKEN, **options)


def test_what_was_pushed_is_loaded(hub: Hub, bundle: Bundle) -> None:
    path = push(bundle.folder, message="First")
    made = hub.repos["me/new"]
    assert path == f"hf://me/new@{made.branches['main']}" and made.messages == ["First"]
    files = made.commits[made.branches["main"]]
    assert set(files) == {"ganrt.json", ".gitattributes", *bundle.files}
    assert all(files[name] == content for name, content in read_files(bundle).items()), "a whole card stays as it is"
    with ganrt.load(path, "onnxruntime") as generator, ganrt.load(bundle, "onnxruntime") as local:
        assert np.array_equal(generator.sample(2, seed=1), local.sample(2, seed=1))
    assert made.access == "public"


def test_a_branch_and_a_private_repository_are_created(hub: Hub, bundle: Bundle) -> None:
    path = push(bundle, revision="small", private=True)
    made = hub.repos["me/new"]
    assert made.access == "private" and set(made.branches) == {"main", "small"}
    assert path.endswith(made.branches["small"]) and "ganrt.json" not in made.commits[made.branches["main"]]
    again = push(bundle, revision="small")
    assert again.endswith(made.branches["small"]) and len(made.messages) == 2
    made.branches["refs/pr/3"] = made.branches["main"]
    assert push(bundle, revision="refs/pr/3").endswith(made.branches["refs/pr/3"])
    assert not any(line.endswith("/branch/refs%2Fpr%2F3") for line in hub.requests), "it is no branch"


def test_the_card_gets_the_fields_that_it_lacks(hub: Hub, bundle: Bundle, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(bundle.folder, tmp_path / "x.ganrt"))
    for written, kept in {
        "# Faces\n": [],
        "---\nlicense: mit\ntags:\n- faces\nlibrary_name: other\n---\n# Faces\n": [
            *("license: mit", "- faces", "library_name: other"),
        ],
    }.items():
        (folder / "README.md").write_text(written)
        push(folder)
        card = hub.repos["me/new"].commits[hub.repos["me/new"].branches["main"]]["README.md"].decode()
        _, header, text = card.split("---\n")
        assert text.strip() == "# Faces"
        for line in ["pipeline_tag: unconditional-image-generation", "- ganrt", "- onnx", "- dcgan", *kept]:
            assert line in header.splitlines()
        assert ("library_name: ganrt" in header) == (not kept)
    whole = "---\ntags: [dcgan, onnx, ganrt]\nlibrary_name:  ganrt\npipeline_tag: image-to-image\n---\n\n# Faces"
    (folder / "README.md").write_text(whole)
    push(folder)
    assert hub.repos["me/new"].commits[hub.repos["me/new"].branches["main"]]["README.md"].decode() == whole
    (folder / "README.md").write_text("---\nlicense: [\n---\n# Faces\n")
    with pytest.raises(BundleError, match=r"x.ganrt/README.md has a header that is not YAML: while parsing"):
        push(folder)
    (folder / "README.md").unlink()
    (folder / "samples.png").unlink()
    push(folder, "me/other")
    assert "samples.png" not in hub.repos["me/other"].commits[hub.repos["me/other"].branches["main"]]


def test_nothing_is_pushed_unless_all_files_are_intact(hub: Hub, bundle: Bundle, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(bundle.folder, tmp_path / "x.ganrt"))
    with (folder / "golden.npz").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match=r"golden.npz has \d+ bytes; the manifest lists"):
        push(folder)
    (folder / "golden.npz").unlink()
    with pytest.raises(BundleError, match=r"golden\.npz cannot be read"):
        push(folder)
    with pytest.raises(RequestError, match=r"model.onnx is a bare ONNX file: push the bundle that it came from"):
        push(folder / "model.onnx")
    assert hub.requests == []


@pytest.mark.parametrize("name", ["faces", "me/faces/x", "hf://me/faces", "me/fa ces", ""])
def test_a_malformed_repository_is_rejected(name: str, hub: Hub, bundle: Bundle) -> None:
    with pytest.raises(RequestError, match="a repository is named owner/name, not"):
        push(bundle, name)
    assert hub.requests == []


def test_a_push_that_the_hub_refuses(hub: Hub, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MachineError, match=r"hf://me/new cannot be pushed to http://127.*401"):
        ganrt.push_to_hub(bundle, "me/new", token="hf_wrong")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MachineError, match=r"cannot be pushed to .*: it does not answer, or may not be asked"):
        push(bundle)


def test_the_settings_of_huggingface_hub_hold_on_the_command_line(hub: Hub, repo: Repo, tmp_path: Path) -> None:
    repo.access = "private"
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
    command = [sys.executable, "-m", "ganrt", "info", "hf://me/faces"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    done = subprocess.run(command, env=environment | settings, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("hf://me/faces: dcgan, "), done.stderr
    assert hub.downloads == ["ganrt.json"]
    assert (tmp_path / "home" / "hub" / "models--me--faces").is_dir()
    offline = subprocess.run(
        command, env=environment | settings | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True
    )
    assert offline.stdout == done.stdout


def test_a_message_names_no_file_of_the_library() -> None:
    assert module._PATH.fullmatch("hf:/a/b") and not module._PATH.fullmatch("a/b")
