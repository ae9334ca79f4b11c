"""The questions that fractions answer, and the most likely path through them."""

from collections.abc import Mapping
from dataclasses import dataclass

from galaxyml.trees.tree import DecisionTree, Question
from galaxyml.trees.vocabulary import Vocabulary

ODD = ("odd", "star or artifact", "artifact")  # labels of answers


@dataclass(frozen=True)
class Questions:
    """Questions to volunteers.

    Attributes:
        asked: Each comes after the questions whose answers lead to it.
        of_all: Whether fractions are of all volunteers; else of those who were asked the question.
    """

    asked: tuple[Question, ...]
    of_all: bool


@dataclass(frozen=True)
class Step:
    """A question on the way.

    Attributes:
        question: It.
        chosen: Its likeliest answer, an index of `question.columns`.
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
    return Questions(tree.questions, of_all=True)


def questions_of_campaign(vocabulary: Vocabulary, campaign: str) -> Questions:
    """Questions whose answers are a vocabulary's features, as a campaign asks them."""
    ontology = vocabulary.ontology
    leads = {question.name: set(question.after) for question in DecisionTree.load(campaign).questions}
    answers = {
        feature: columns
        for shared in ontology.questions
        for feature, columns in shared.columns.get(campaign, {}).items()
    }
    questions = []
    for shared in ontology.questions:
        features = tuple(name for name in shared.features if name in answers and name in vocabulary.features)
        if features:
            labels = tuple(shared.labels[feature] for feature in features)
            led_by = leads[shared.asked[campaign]]
            after = tuple(feature for feature, columns in answers.items() if led_by & set(columns))
            questions.append(Question(shared.name, shared.text, labels, features, labels, after))
    return Questions(tuple(questions), of_all=False)


def labelled(questions: Questions) -> dict[str, tuple[str, str]]:
    """The question that each column answers, and what its answer is called.

    >>> labelled(questions_of_tree(DecisionTree.load("kaggle")))["Class2.1"][1]
    'edge-on'
    """
    return {
        column: (question.text, label)
        for question in questions.asked
        for column, label in zip(question.columns, question.labels, strict=True)
    }


def odd_columns(questions: Questions) -> list[str]:
    """Columns of answers by which something is odd, or no galaxy.

    >>> odd_columns(questions_of_tree(DecisionTree.load("kaggle")))
    ['Class1.3', 'Class6.1']
    """
    return [
        column
        for question in questions.asked
        for column, label in zip(question.columns, question.labels, strict=True)
        if label in ODD
    ]


def walk(questions: Questions, fractions: Mapping[str, float]) -> list[Step]:
    """The questions that one is asked who always gives the likeliest answer, each followed by those that it leads to.

    Fractions are by column; NaN where not known.
    """
    steps: list[Step] = []

    def visit(question: Question) -> None:
        values = [fractions[column] for column in question.columns]
        if question in [step.question for step in steps] or all(value != value for value in values):
            return
        chosen = max(range(len(values)), key=lambda index: (values[index] == values[index], values[index]))
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
