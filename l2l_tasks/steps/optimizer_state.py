"""An optimizer from its stored state, and back."""

from __future__ import annotations

from typing import Literal

from pydantic import ValidationError
from sqlalchemy import Connection

import optimizers
from l2l_tasks.errors import UserError
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
    space, objectives = campaign.space, len(campaign.directions)
    try:
        cls = optimizers.get(campaign.spec.optimizer.name)
        options = cls.Options.model_validate(campaign.spec.optimizer.options)
        if latest is None:
            return cls(space, objectives, options, campaign.row.seed)
        return cls.from_state(latest.data, space, objectives, options)
    except (optimizers.OptimizerError, ValidationError) as error:
        raise UserError(f"campaign {campaign.row.id}: optimizer: {error}") from error


def pack_state(optimizer: Optimizer, generation: int, phase: Literal["asked", "told"]) -> OptimizerState:
    """The optimizer's state as a row."""
    return OptimizerState(generation, phase, optimizer.format_version, optimizer.name, optimizer.state())
