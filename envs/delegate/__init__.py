"""`forethought/Delegate-v0`: questions about documents longer than the context, to be read by sub-models."""

from .documents import Document
from .env import DelegateEnv
from .tasks import WINDOW_WORDS, long_document_tasks

__all__ = ["WINDOW_WORDS", "DelegateEnv", "Document", "long_document_tasks"]
