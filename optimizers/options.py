"""Options that every optimizer has, and their validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from optimizers import OptimizerError

AnyOptions = TypeVar("AnyOptions", bound="Options")


class Options(BaseModel):
    """Base of the options of all optimizers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reevaluate: int = Field(
        0, ge=0, description="best individuals evaluated again in each generation, against noise"
    )


def valid_options(name: str, model: type[AnyOptions], options: BaseModel | Mapping[str, Any]) -> AnyOptions:
    """The options of the optimizer `name`; OptimizerError tells each mistake."""
    try:
        return model.model_validate(options)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise OptimizerError(f"Options of {name}: {'; '.join(lines)}") from error
