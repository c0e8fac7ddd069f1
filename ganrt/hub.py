"""Bundles on a model hub: `ganrt.load("hf://owner/name@revision")` and `push_to_hub`.

huggingface_hub does the transfers. Its own settings hold: HF_TOKEN, HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT and so on.
Nothing but the hub is asked, and only for a path that begins with `hf://`. Files are checked against the manifest like
those of any bundle, and no pickle is read.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ganrt._version import __version__
from ganrt.backend import first_line
from ganrt.bundle import Bundle
from ganrt.errors import BundleError, GanrtError, MachineError, MissingLibraryError, RequestError
from ganrt.json_reader import read_bytes
from ganrt.spec import Label
from ganrt.stores import MANIFEST, MAX_MANIFEST, BareStore, FileDigest, Store

_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_PATH = re.compile(
    r"hf:/{1,2}"  # pathlib makes one slash of two
    r"(?P<repo>[^/@]+/[^/@]+)"
    r"(@(?P<revision>refs/pr/[0-9]+|[^/@]+))?"
    r"(/(?P<folder>[^@]+?))?/?"
)
_COMMIT = re.compile("[0-9a-f]{40}")
_HOME_ADVICE = "set HF_HOME to a folder that can be written"


def open_hub_store(path: str) -> HubStore:
    """Return the store of `hf://owner/name[@revision][/folder]`, which keeps to the commit that the revision, `main` by
    default, is now.

    Without a connection, the commit that was used last is taken. Raises RequestError for a path of another form,
    MissingLibraryError without huggingface_hub, BundleError if there is no such repository, revision or bundle, and
    MachineError if the hub cannot be reached or gives no access.
    """
    match = _PATH.fullmatch(path)
    if match is None or ".." in path.split("/"):
        raise RequestError(f"{path} is not of the form hf://owner/name, hf://owner/name@revision or .../folder")
    repo, revision, folder = match["repo"], unquote(match["revision"] or "main"), match["folder"] or ""
    if _COMMIT.fullmatch(revision):
        return HubStore(repo, revision, folder)
    manifest = _download(repo, revision, folder, MANIFEST)
    commit = manifest.parents[folder.count("/") + 1 if folder else 0].name
    return HubStore(repo, commit, folder)


class HubStore(Store):
    """A bundle at one commit of a repository. A file is downloaded into huggingface_hub's cache when it is used."""

    def __init__(self, repo: str, commit: str, folder: str) -> None:
        super().__init__(_format_path(repo, commit, folder))
        self._place = repo, commit, folder
        self._listed: Mapping[str, FileDigest] = {}

    def read_manifest(self) -> bytes:
        return read_bytes(_download(*self._place, MANIFEST), MAX_MANIFEST, BundleError)

    def check_listing(self, files: Mapping[str, FileDigest]) -> None:
        self._listed = files

    def exists(self, name: str) -> bool:
        """Return whether a file is on the hub or, where that cannot be asked, in the cache."""
        hub, (repo, commit, folder) = _import_hub(), self._place
        inner = f"{folder}/{name}" if folder else name
        if isinstance(hub.try_to_load_from_cache(repo, inner, revision=commit), str):
            return True
        if self._has_external_data(name) and (self._find_assets(name) / inner).is_file():
            return True
        try:
            with _translate_errors(str(self.path), name):
                return bool(hub.file_exists(repo, inner, revision=commit))
        except MachineError:
            return False

    def fetch(self, name: str, digest: FileDigest) -> Path:
        # The cache holds links, behind which libraries do not follow external data.
        options: dict[str, Any] = {"local_dir": self._find_assets(name)} if self._has_external_data(name) else {}
        return _download(*self._place, name, **options)

    def _has_external_data(self, name: str) -> bool:
        """Whether a file is a graph with external data, or such data: their names differ in their ends only."""
        return any(other != name and (other.startswith(name) or name.startswith(other)) for other in self._listed)

    def _find_assets(self, name: str) -> Path:
        """huggingface_hub's folder for what a library keeps of this commit, as files."""
        with _translate_errors(str(self.path), name):
            return Path(_import_hub().cached_assets_path("ganrt", namespace=self._place[0], subfolder=self._place[1]))


def push_to_hub(
    bundle: Bundle | str | Path,
    repo: str,
    *,
    revision: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    message: str = "Upload a ganrt bundle",
) -> str:
    """Upload a bundle to a model hub as one commit, after all of its files were checked.

    The repository and the revision are created if they are missing. The model card gets the fields of its header that
    hubs search by (`library_name`, `tags`, `pipeline_tag`) where it has none; the license is yours to add.

    Args:
        bundle: a bundle, or the path of one.
        repo: `owner/name`.
        revision: a branch; None: `main`.
        private: whether a new repository is private; None: what the owner's settings say.
        token: one that may write; None: HF_TOKEN, or the one that `hf auth login` saved.
        message: of the commit.

    Returns the path of what was uploaded, `hf://owner/name@commit`, which `ganrt.load` takes. Raises RequestError for a
    malformed name or a bare ONNX file, BundleError if a file is missing or was changed, MissingLibraryError without
    huggingface_hub, and MachineError if the hub cannot be reached or does not allow it.
    """
    if not _NAME.fullmatch(repo):
        raise RequestError(f"a repository is named owner/name, not {repo!r:.100}")
    hub, read = _import_hub(), Bundle.of(bundle)
    if isinstance(read.store, BareStore):
        raise RequestError(f"{read.path} is a bare ONNX file: push the bundle that it came from")
    content: dict[str, Path | bytes] = {MANIFEST: read.store.read_manifest()}
    content |= {name: read.locate(name) for name in read.files if not _is_document(name)}
    documents = [name for name in read.files if _is_document(name) and read.store.exists(name)]
    content |= {name: read.store.fetch(name, read.files[name]) for name in documents}
    card = content.get(Bundle.CARD)
    written = card.read_bytes() if isinstance(card, Path) else f"# {repo}\n".encode()
    content[Bundle.CARD] = _complete_card(hub, written, read)
    added = [
        hub.CommitOperationAdd(name, found if isinstance(found, bytes) else str(found))
        for name, found in content.items()
    ]
    api = hub.HfApi(token=token, library_name="ganrt", library_version=__version__)
    with _translate_errors(f"hf://{repo}", "", "pushed to"):
        api.create_repo(repo, private=private, exist_ok=True)
        if revision is not None and not revision.startswith("refs/"):
            api.create_branch(repo, branch=revision, exist_ok=True)
        commit = api.create_commit(repo, added, commit_message=message, revision=revision).oid
    return _format_path(repo, commit, "")


def _is_document(name: str) -> bool:
    """Whether a file is for people alone, who may have changed it."""
    return name == Bundle.CARD or name.endswith(".png")


def _complete_card(hub: Any, written: bytes, bundle: Bundle) -> bytes:
    """Add the fields that a card lacks; one that lacks none stays as it is, byte for byte."""
    spec = bundle.spec
    task = "image-to-image" if spec.images else None if spec.find(Label) else "unconditional-image-generation"
    try:
        text = written.decode()
        card = hub.ModelCard(text if text.startswith("---") else f"---\n{{}}\n---\n{text}")
    except Exception as error:  # of the text or its YAML
        raise BundleError(f"{bundle.path}/{Bundle.CARD} has a header that is not YAML: {first_line(error)}") from error
    before = card.data.to_dict()
    for field, value in {"library_name": "ganrt", "pipeline_tag": task}.items():
        setattr(card.data, field, getattr(card.data, field) or value)
    card.data.tags = list(dict.fromkeys([*(card.data.tags or ()), "ganrt", "onnx", spec.family]))
    return written if card.data.to_dict() == before else str(card).encode()


def _format_path(repo: str, revision: str, folder: str) -> str:
    return f"hf://{repo}@{revision}" + (f"/{folder}" if folder else "")


def _import_hub() -> Any:
    try:
        for name in ("constants", "errors"):  # the package loads its other modules by itself
            importlib.import_module(f"huggingface_hub.{name}")
        return importlib.import_module("huggingface_hub")
    except ModuleNotFoundError as error:
        raise MissingLibraryError(error.name or "huggingface_hub", "hub", "a path that begins with hf://") from error


def _download(repo: str, revision: str, folder: str, name: str, **options: Any) -> Path:
    """Download a file, unless it is in the cache. A file of a commit that is there is used without asking the hub."""
    hub = _import_hub()
    if hub.constants.HF_HUB_CACHE.startswith("~"):
        raise MachineError(f"huggingface_hub has no folder for its cache, as this user has no home: {_HOME_ADVICE}")
    with _translate_errors(_format_path(repo, revision, folder), name):
        named = {"library_name": "ganrt", "library_version": __version__, **options}
        return Path(hub.hf_hub_download(repo, name, subfolder=folder or None, revision=revision, **named))


@contextmanager
def _translate_errors(path: str, name: str, verb: str = "fetched from") -> Iterator[None]:
    """Turn huggingface_hub's errors into one sentence each.

    Args:
        path: what was asked for.
        name: the file that was asked for.
        verb: what was done.
    """
    try:
        yield
    except GanrtError:
        raise
    except Exception as error:  # of the transfer, or of the library's cache
        raise _explain_error(error, path, name, verb) from error


def _explain_error(error: Exception, path: str, name: str, verb: str) -> GanrtError:
    hub = _import_hub()
    kinds, endpoint = hub.errors, hub.constants.ENDPOINT
    failed = f"{path} cannot be {verb} {endpoint}"
    if isinstance(error, kinds.GatedRepoError):
        return MachineError(
            f"{failed}: it is gated; accept its terms there, and set HF_TOKEN to a token of that account"
        )
    if isinstance(error, kinds.RepositoryNotFoundError):
        return BundleError(
            f"{failed}: there is none, or it is private; check the name, or set HF_TOKEN to a token for it"
        )
    if isinstance(error, kinds.RevisionNotFoundError):
        return BundleError(f"{failed}: there is no such revision; name a branch, a tag or a commit of the repository")
    if isinstance(error, kinds.LocalEntryNotFoundError | kinds.OfflineModeIsEnabled):
        cached = f", and {name} is not in the cache" if name else ""
        return MachineError(f"{failed}: it does not answer, or may not be asked (HF_HUB_OFFLINE){cached}")
    if isinstance(error, kinds.EntryNotFoundError):
        what = "is not a bundle: it has no" if name == MANIFEST else "lacks a file that its manifest lists:"
        return BundleError(f"{path} {what} {name}")
    if isinstance(error, kinds.HFValidationError):
        return RequestError(f"{failed}: {first_line(error)}")
    if isinstance(error, OSError) and error.filename:
        return MachineError(
            f"{error.filename}, in huggingface_hub's cache, cannot be used ({error.strerror}): {_HOME_ADVICE}"
        )
    return MachineError(f"{failed}: {first_line(error)}")
