"""Options that every optimizer has, and their validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from optimizers import OptimizerError

AnyOptions = TypeVar("AnyOptions", bound="Options")


class Options(BaseModel):
    """Base of the options of all optimizers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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


def stored_options(
    name: str, model: type[AnyOptions], stored: Mapping[str, Any], given: BaseModel | Mapping[str, Any]
) -> AnyOptions:
    """The options that a state was made with.

    Only what is given explicitly can contradict them: the default of an option may change between releases,
    and a running campaign keeps the one that it began with. An option that a later release adds has its
    default, which must mean the behaviour before it.

    Raises:
        OptimizerError: other options are given, or wrong ones.
    """
    now = valid_options(name, model, given).model_dump(mode="json")
    explicit = given.model_fields_set if isinstance(given, BaseModel) else set(given)
    other = {key: stored[key] for key in sorted(explicit) if key in stored and stored[key] != now[key]}
    if other:
        raise OptimizerError(f"This state of {name} was made with the options {other}, now {now}.")
    return valid_options(name, model, now | {key: stored[key] for key in stored if key in now})
