"""What stands in for a live model bears its names and knows its abilities, so that both share keys and memory."""

from __future__ import annotations

from solon.calls import Can, Form, Model
from solon.models.batch.api import Batchable

__all__ = ["Standin", "shelf_of"]


def shelf_of(model: Model) -> str:
    return model.identity if model.form == "chat" else f"{model.identity}#{model.form}"


class Standin:
    """The names and abilities of `model`; what answers is another's to say."""

    def __init__(self, model: Batchable) -> None:
        self.model = model

    @property
    def identity(self) -> str:
        return self.model.identity

    @property
    def shelf(self) -> str:
        """Return under what its calls and jobs lie in the jobs file: one server's model, at one of its endpoints."""
        return shelf_of(self.model)

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def form(self) -> Form:
        return self.model.form

    @property
    def can(self) -> Can:
        return self.model.can

    @property
    def concurrency(self) -> int:
        return self.model.concurrency

    @property
    def unusable(self) -> str:
        return self.model.unusable
