"""The linter: what ruins exported generators, found in a module, in a dry run of it, and in its traced graph."""

from .difference import find_first_difference, make_backend_runner
from .dry_run import check_dry_run
from .failing import describe_failing_place
from .findings import Finding, RowByRow, join_paths, report_findings
from .freezing import Place, find_freezing_place
from .graph import check_graph
from .graph_batch import check_graph_batch
from .guards import find_general_sizes, fixes_batch
from .intervals import Reach, find_output_interval
from .module import check_module
from .output_range import check_output_range
from .sizes import RULE as PICTURE_SIZE
from .sizes import check_picture_sizes
from .training_mode import list_training_parts

__all__ = [
    "PICTURE_SIZE",
    "Finding",
    "Place",
    "Reach",
    "RowByRow",
    "check_dry_run",
    "check_graph",
    "check_graph_batch",
    "check_module",
    "check_output_range",
    "check_picture_sizes",
    "describe_failing_place",
    "find_first_difference",
    "find_freezing_place",
    "find_general_sizes",
    "find_output_interval",
    "fixes_batch",
    "join_paths",
    "list_training_parts",
    "make_backend_runner",
    "report_findings",
]
