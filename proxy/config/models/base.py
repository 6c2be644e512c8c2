"""The base of all models."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.fields import FieldInfo

from proxy.config.values import shown, wrong


def own_first(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of *model*, its own before inherited ones: what names a thing before what it shares with others."""
    own = inspect.get_annotations(model)
    return dict(sorted(model.model_fields.items(), key=lambda item: item[0] not in own))


class Model(BaseModel):
    """Frozen; unknown keys are errors, but for those that begin with ``x-``, which are for anchors.

    An explicit null is the same as leaving the field out, so that it takes away what would be inherited; only fields in
    ``keeps_null`` mean something by it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, populate_by_name=False)

    keeps_null: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _leave_out(cls, data: Any) -> Any:
        if isinstance(data, BaseModel):
            return data
        if not isinstance(data, dict):
            raise wrong(f"must be a mapping, not {shown(data)}")
        return {
            key: value
            for key, value in data.items()
            if not str(key).startswith("x-") and (value is not None or key in cls.keeps_null)
        }
