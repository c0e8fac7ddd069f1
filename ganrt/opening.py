"""Open the session of a bundle that is fastest on this machine, with the proof that it makes the original's images."""

from __future__ import annotations

import logging
from typing import NamedTuple

from ganrt import choosing
from ganrt.backend import Session, backend_table, open_session
from ganrt.bundle import Bundle
from ganrt.choosing import Candidate, LoadRequest
from ganrt.errors import GanrtError, MachineError, MissingLibraryError, UnprovenError
from ganrt.proof import Proof
from ganrt.session_config import SessionConfig
from ganrt.trust import reject_refused, require_proof

_log = logging.getLogger(__name__)


class Opened(NamedTuple):
    """A session, and why it was chosen."""

    candidate: Candidate
    session: Session
    proof: Proof | None
    """None where proofs are skipped."""


def open_fastest(bundle: Bundle, request: LoadRequest, unproven: bool) -> Opened:
    """Open the first candidate that can be opened and is proven. Arguments and errors are those of `ganrt.load`."""
    failed: list[tuple[Candidate, GanrtError]] = []
    for candidate in choosing.find_candidates(bundle, request):
        try:
            session, proof = open_with_proof(bundle, candidate.config, unproven)
        except GanrtError as error:
            failed.append((candidate, error))
            continue
        for skipped, reason in failed:
            if skipped.seconds or not isinstance(reason, MissingLibraryError):
                _log.warning("%s is skipped%s: %s", skipped, " although it was tuned" * bool(skipped.seconds), reason)
        return Opened(candidate, session, proof)
    reasons = [error for tried, error in failed if not _is_oracle_missing(tried, error)]
    raise _combine_errors(bundle, reasons or [error for _, error in failed])


def _is_oracle_missing(candidate: Candidate, error: GanrtError) -> bool:
    """Whether a backend that is slow by design is not installed: no advice for a user who wants pictures."""
    return isinstance(error, MissingLibraryError) and backend_table()[candidate.config.backend].slow


def _combine_errors(bundle: Bundle, errors: list[GanrtError]) -> GanrtError:
    """Combine the errors of all candidates: UnprovenError if one is, else their common class if all installed backends
    raised the same, else MachineError."""
    classes = {type(e) for e in errors if not isinstance(e, MissingLibraryError)}
    if UnprovenError in classes:
        classes = {UnprovenError}
    kind = classes.pop() if len(classes) == 1 else MachineError
    reasons = dict.fromkeys(map(str, errors))
    if len(reasons) == 1:
        return errors[0]
    return kind(f"no backend on this machine can run {bundle.path}:\n" + "\n".join(f"- {reason}" for reason in reasons))


def open_with_proof(bundle: Bundle, config: SessionConfig, unproven: bool) -> tuple[Session, Proof | None]:
    """Open a session, and prove it unless `unproven`. Raises UnprovenError, and what opening raises."""
    if not unproven:
        reject_refused(bundle, config)
    session = open_session(bundle, config)
    try:
        return session, None if unproven else require_proof(bundle, config.variant, session)
    except BaseException:
        session.close()
        raise
