"""Heads of vote fractions against torch's softmax and the published range of concentrations."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from galaxyml.kinds.votes.heads import Answers, Concentrations
from galaxyml.runs.errors import UserError

VOCABULARY: Any = SimpleNamespace(sizes=[3, 2], question_of=[0, 0, 0, 1, 1])


def test_concentrations_rise_from_1_to_100() -> None:
    scores = torch.tensor([[-200.0, -1.0, 0.0, 1.0, 200.0]])
    found = Concentrations()(scores)[0]
    assert found.tolist() == pytest.approx([1, 1 + 99 / (1 + torch.e), 50.5, 1 + 99 / (1 + 1 / torch.e), 100])
    assert Concentrations(highest=11)(scores)[0].tolist()[2::2] == pytest.approx([6, 11])


def test_answers_of_each_question_sum_to_1() -> None:
    torch.manual_seed(0)
    scores = 30 * torch.randn(50, 5)
    found = Answers(VOCABULARY)(scores)
    torch.testing.assert_close(found[:, :3], scores[:, :3].softmax(1))
    torch.testing.assert_close(found[:, 3:].sum(1), torch.ones(50))


@pytest.mark.parametrize("head", [Concentrations(), Answers(VOCABULARY)])
def test_heads_are_of_single_precision_under_autocast(head: torch.nn.Module) -> None:
    torch.manual_seed(0)
    scores = torch.randn(20, 5).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = head(scores)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, head(scores.double()).float())


@pytest.mark.parametrize("highest", [1.0, 0.0, float("nan"), float("inf")])
def test_the_highest_concentration_is_above_the_lowest(highest: float) -> None:
    with pytest.raises(UserError, match=r"head\.highest=.*is above 1; 100 is common"):
        Concentrations(highest)


def test_answers_of_another_vocabulary_are_refused() -> None:
    with pytest.raises(UserError, match="outputs=7: the questions of this task have 5 answers"):
        Answers(VOCABULARY)(torch.zeros(2, 7))


@pytest.mark.parametrize("head", [Concentrations(), Answers(VOCABULARY)])
def test_heads_learn_nothing_themselves(head: torch.nn.Module) -> None:
    assert not head.state_dict()
