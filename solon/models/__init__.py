"""Models: each provider is one file that turns a Call into a Reply (`solon.calls.Model`).

`open_model` is the only door; a provider's SDK is imported when its first model is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from solon.calls import Model
    from solon.models.pace import Paces
    from solon.models.spec import ModelSpec

__all__ = ["open_model"]


def open_model(spec: ModelSpec, *, base: Path | None = None, paces: Paces | None = None) -> Model:
    """Return the model that `spec` names; relative files of scripted and local models are looked up under `base`.

    paces: shared by all models of a run, so that two that ask one server with one key go through one gate; left out,
        this model has a gate of its own

    Raises BadInput (no such file, bad name, bad address), NotInstalled (an extra is missing). A missing key is no
    error yet: the model says so in `unusable`, and halts when it is asked.
    """
    if spec.provider == "openai":
        from solon.models.openai import OpenAIModel

        return OpenAIModel(spec, paces=paces)
    if spec.provider == "anthropic":
        from solon.models.anthropic import AnthropicModel

        return AnthropicModel(spec, paces=paces)
    if spec.provider == "local":
        from solon.models.local import LocalModel

        return LocalModel(spec, base=base)
    from solon.models.scripted import Scripted

    return Scripted.open(spec, base=base)
