"""Plans that people check: drafted by a script, a model or people, reviewed on a local page, exported for training.

FOLDER/plans.jsonl     drafts, never changed
FOLDER/reviews.jsonl   what reviewers saved, only appended to
"""

from .agreement import Agreement, AgreementTable, cohen_kappa, fleiss_kappa
from .decompositions import decomposition_drafts, steps_of_decomposition
from .drafts import DraftKind, PlanDraft, Provenance, new_draft, read_drafts, write_drafts
from .errors import PlanError
from .examples import ExportSummary, export_examples
from .policies import episode_drafts, first_plan, model_drafts, script_drafts
from .reviews import ConflictError, Decision, InvalidReviewError, Review, ReviewBook, read_reviews
from .steps import find_problems, step_distance

__all__ = [
    "Agreement",
    "AgreementTable",
    "ConflictError",
    "Decision",
    "DraftKind",
    "ExportSummary",
    "InvalidReviewError",
    "PlanDraft",
    "PlanError",
    "Provenance",
    "Review",
    "ReviewBook",
    "cohen_kappa",
    "decomposition_drafts",
    "episode_drafts",
    "export_examples",
    "find_problems",
    "first_plan",
    "fleiss_kappa",
    "model_drafts",
    "new_draft",
    "read_drafts",
    "read_reviews",
    "script_drafts",
    "step_distance",
    "steps_of_decomposition",
    "write_drafts",
]
