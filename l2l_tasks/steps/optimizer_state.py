"""An optimizer from its stored state, and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from pydantic import ValidationError
from sqlalchemy import Connection

import optimizers
from l2l_tasks.errors import UserError
from l2l_tasks.planning import optimizer_seed
from l2l_tasks.steps import observing
from l2l_tasks.steps.stored import StoredCampaign
from l2l_tasks.store import states
from l2l_tasks.store.states import OptimizerState
from optimizers.base import Optimizer


def load_optimizer(connection: Connection, campaign: StoredCampaign) -> Optimizer:
    """The campaign's optimizer as its last transaction left it, or a new one for generation 0.

    Raises:
        UserError: this version of the project cannot continue the stored state.
    """
    latest = states.load_latest(connection, campaign.row.id)
    if latest is None:
        return replace_optimizer(connection, campaign)
    with explained(campaign):
        cls = optimizers.get(campaign.spec.optimizer.name)
        options = cls.Options.model_validate(campaign.spec.optimizer.options)
        return cls.from_state(latest.data, campaign.space, len(campaign.directions), options)


def replace_optimizer(connection: Connection, campaign: StoredCampaign) -> Optimizer:
    """The optimizer that the version in force brought, before its first ask.

    It knows what the campaign was told before, and what the campaign names in `from_campaign`.
    """
    seed = optimizer_seed(campaign.row.seed, campaign.optimizer_version)
    with explained(campaign):
        cls = optimizers.get(campaign.spec.optimizer.name)
        options = cls.Options.model_validate(campaign.spec.optimizer.options)
        made = cls(campaign.space, len(campaign.directions), options, seed, campaign.first_individual)
        made.observe(observing.known(connection, campaign))
    return made


@contextmanager
def explained(campaign: StoredCampaign) -> Iterator[None]:
    """What the optimizer refuses is for the user to mend."""
    try:
        yield
    except (optimizers.OptimizerError, ValidationError) as error:
        raise UserError(f"campaign {campaign.row.id}: optimizer: {error}") from error


def pack_state(optimizer: Optimizer, generation: int, phase: Literal["asked", "told"]) -> OptimizerState:
    """The optimizer's state as a row."""
    return OptimizerState(generation, phase, optimizer.format_version, optimizer.name, optimizer.state())
