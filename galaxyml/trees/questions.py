"""The questions that fractions answer, and the most likely path through them."""

from collections.abc import Mapping
from dataclasses import dataclass

from galaxyml.trees.ontology import SharedQuestion
from galaxyml.trees.tree import DecisionTree, Question
from galaxyml.trees.vocabulary import Vocabulary


@dataclass(frozen=True)
class Questions:
    """What volunteers are asked.

    Attributes:
        asked: Each comes after the questions whose answers lead to it.
        of_all: Whether fractions are of all volunteers; else of those who were asked the question.
        whose: Whose volunteers these are.
    """

    asked: tuple[Question, ...]
    of_all: bool
    whose: str


@dataclass(frozen=True)
class Step:
    """A question on the way.

    Attributes:
        question: It.
        chosen: Its likeliest answer, a place in `question.columns`.
    """

    question: Question
    chosen: int

    @property
    def column(self) -> str:
        """The likeliest answer's column."""
        return self.question.columns[self.chosen]

    @property
    def label(self) -> str:
        """The likeliest answer in a word or two."""
        return self.question.labels[self.chosen]


def questions_of_tree(tree: DecisionTree) -> Questions:
    """A decision tree's own questions, whose fractions are of all volunteers."""
    return Questions(tree.questions, True, tree.title)


def questions_of_campaign(vocabulary: Vocabulary, campaign: str) -> Questions:
    """Questions whose answers are a vocabulary's features, as a campaign asks them."""
    tree = DecisionTree.load(campaign)
    return Questions(_shared(vocabulary, tree), False, tree.title)


def walk(questions: Questions, fractions: Mapping[str, float]) -> list[Step]:
    """The questions that one is asked who always gives the likeliest answer.

    Args:
        questions: What is asked.
        fractions: By column; NaN where not known.

    Returns:
        Each question followed by those that its answer leads to.
    """
    steps: list[Step] = []

    def visit(question: Question) -> None:
        values = [fractions[column] for column in question.columns]
        if question in [step.question for step in steps] or all(value != value for value in values):
            return
        chosen = max(range(len(values)), key=lambda place: (values[place] == values[place], values[place]))
        steps.append(Step(question, chosen))
        for other in questions.asked:
            if question.columns[chosen] in other.after:
                visit(other)

    for question in questions.asked:
        if not question.after:
            visit(question)
    return steps


def in_words(questions: Questions, fractions: Mapping[str, float]) -> str:
    """A galaxy in a few words: the likeliest answers on its path."""
    return ", ".join(step.label for step in walk(questions, fractions))


def _shared(vocabulary: Vocabulary, tree: DecisionTree) -> tuple[Question, ...]:
    """Questions whose answers are a vocabulary's features, as a campaign asks them."""
    predicted = set(vocabulary.features)
    own = {question.name: question for question in tree.questions}
    found = []
    for shared in vocabulary.ontology.questions:
        name = shared.asked.get(tree.name)
        columns = tuple(
            feature for feature in shared.features if feature in predicted and _columns(shared, tree, feature)
        )
        if name is None or not columns:
            continue
        labels = tuple(vocabulary.ontology.label(feature) for feature in columns)
        after = tuple(
            feature
            for other in vocabulary.ontology.questions
            for feature in other.features
            if set(_columns(other, tree, feature)) & set(own[name].after)
        )
        found.append(Question(shared.name, shared.text, labels, columns, labels, after))
    return tuple(found)


def _columns(question: SharedQuestion, tree: DecisionTree, feature: str) -> tuple[str, ...]:
    """The columns of a campaign's tree that a feature is the sum of."""
    return question.columns.get(tree.name, {}).get(feature, ())
