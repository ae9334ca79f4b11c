"""The most likely path through a decision tree."""

import numpy as np
import pytest

from galaxyml.trees import DecisionTree
from galaxyml.trees.ontology import Ontology
from galaxyml.trees.questions import Questions, in_words, questions_of_campaign, questions_of_tree, walk
from galaxyml.trees.vocabulary import Vocabulary


def kaggle() -> Questions:
    return questions_of_tree(DecisionTree.load("kaggle"))


def fractions(**chosen: float) -> dict[str, float]:
    return dict.fromkeys(DecisionTree.load("kaggle").columns, 0.0) | {
        name.replace("_", "."): value for name, value in chosen.items()
    }


def test_each_answer_is_followed_by_the_questions_that_it_leads_to() -> None:
    spiral = fractions(Class1_2=0.8, Class2_2=0.7, Class3_1=0.5, Class4_1=0.6, Class5_3=0.4, Class6_2=0.9)
    spiral |= fractions(Class10_1=0.3, Class11_2=0.6) | {key: value for key, value in spiral.items() if value}
    assert in_words(kaggle(), spiral) == (
        "features or disk, not edge-on, bar, spiral, tight arms, 2 arms, obvious bulge, nothing odd"
    )


def test_questions_that_the_answers_do_not_lead_to_are_left_out() -> None:
    smooth = fractions(Class1_1=0.9, Class7_3=0.9, Class6_1=0.6, Class8_6=0.6, Class3_1=0.99)
    assert [step.question.name for step in walk(kaggle(), smooth)] == ["Class1", "Class7", "Class6", "Class8"]


@pytest.mark.parametrize("seed", range(20))
def test_a_way_never_asks_twice_and_each_step_was_led_to(seed: int) -> None:
    tree = DecisionTree.load("kaggle")
    random = dict(zip(tree.columns, np.random.default_rng(seed).random(len(tree.columns)), strict=True))
    steps = walk(kaggle(), random)
    given = {step.column for step in steps}
    assert len({step.question.name for step in steps}) == len(steps)
    for step in steps:
        assert not step.question.after or given & set(step.question.after)
        assert random[step.column] == max(random[column] for column in step.question.columns)


def vocabulary(features: str = "all") -> Vocabulary:
    class Asked:
        campaign = "gz2"

    return Vocabulary(features, "shared", {"sdss": Asked()}, ["sdss"])


def test_features_of_several_surveys_hang_together_as_a_campaigns_answers_do() -> None:
    found = questions_of_campaign(vocabulary(), "gz2")
    assert not found.of_all
    ontology, tree = Ontology.load(), DecisionTree.load("gz2")
    by_name = {question.name: question for question in found.asked}
    assert len(by_name) == len(tree.questions)
    for shared in ontology.questions:
        if "gz2" not in shared.asked:
            continue
        own = next(question for question in tree.questions if question.name == shared.asked["gz2"])
        led = {column for feature in by_name[shared.name].after for column in _columns(ontology, feature)}
        assert led == set(own.after)


def _columns(ontology: Ontology, feature: str) -> tuple[str, ...]:
    return ontology.question_of(feature).columns["gz2"][feature]


def test_what_is_not_known_is_not_on_the_way() -> None:
    questions = questions_of_campaign(vocabulary(), "gz2")
    known = dict.fromkeys([column for question in questions.asked for column in question.columns], float("nan"))
    assert walk(questions, known) == []
    first = questions.asked[0].columns
    steps = walk(questions, known | dict(zip(first, (float("nan"), 0.4, 0.1), strict=True)))
    assert [step.column for step in steps] == [first[1]]
