"""Predictions that obey a decision tree, above all the fractions nearest to a prediction among all that obey it.

In Euclidean distance, so that a prediction gets no farther from a truth that obeys the tree.
"""

from collections.abc import Callable
from functools import reduce
from itertools import product

import torch
from torch import Tensor

from galaxyml.runs.errors import UserError, did_you_mean
from galaxyml.trees.rules import check_shape, normalise
from galaxyml.trees.tree import DecisionTree

# At a time. Torch shares longer columns out to threads, which wait for each other on a busy machine.
ROWS = 1 << 14
# The package's trees have needed 12 at most, in a million hostile rows.
PASSES = 1000


@torch.no_grad()
def project(values: Tensor, tree: DecisionTree) -> Tensor:
    """The nearest fractions x >= 0 whose answers sum, question by question, to the answers that lead there.

    To add a number to all answers of a question and take it from the columns that lead there is to move at right angles
    to the rules, which leaves the projection as it is. Sought are the numbers after which clipping at 0 is all that is
    left to do. They solve piecewise linear equations: by Newton's method (Qi & Sun 1993, Math. Program. 58, 353), with
    a line search on the dual by which it ends from anywhere (Pang & Qi 1995, J. Optim. Theory Appl. 85, 633). The last
    step is exact for the columns that end above 0, so that gaps are rounding errors.

    Consistent values stay as they are. A row's result is the same to the last bit whatever its company. Gradients do
    not flow through.

    Args:
        values: Any numbers, shape (N, K), columns in the tree's order.
        tree: The decision tree.

    Returns:
        Fractions without violation, shape (N, K), computed in double precision and returned in the values' own. A row
        that holds NaN or infinity, or whose sums overflow, is NaN.

    Raises:
        UserError: If the values have another shape or are whole numbers.
        ArithmeticError: If a row needs more than 1000 passes; none is known that does.

    >>> tree = DecisionTree.load("kaggle")
    >>> project(torch.ones(1, len(tree.columns)), tree)[:, :3].sum()  # of the first question, which everyone is asked
    tensor(1.)
    """
    check_shape(values, tree)
    if not values.is_floating_point():
        raise UserError(f"Values to project must be floating-point numbers; found {values.dtype}. Give floats.")
    rules = _Rules(tree)
    nearest = torch.empty_like(values)
    for rows, into in zip(values.split(ROWS), nearest.split(ROWS), strict=True):
        into.copy_(_nearest(rows.double(), rules))
    return nearest


CONSTRAINTS: dict[str, Callable[[Tensor, DecisionTree], Tensor]] = {
    "project": project,
    "normalise": normalise,
    "none": lambda values, tree: values,
}


def constrain(probabilities: Tensor, tree: DecisionTree, how: str = "project") -> Tensor:
    """Fractions that obey a decision tree, from predictions that need not.

    Args:
        probabilities: Any numbers, shape (N, K), columns in the tree's order.
        tree: The decision tree.
        how: `project` for the nearest consistent fractions, which never raises the squared error of a galaxy whose
            target is consistent; `normalise` for divisive normalisation down the tree, through which gradients flow;
            `none` for the predictions as they are.

    Returns:
        Fractions, shape (N, K); of `project` and `normalise` in [0, 1] and without violation.

    Raises:
        UserError: If there is no such way, or the predictions have another shape.

    >>> import torch
    >>> from galaxyml.trees import violation
    >>> tree = DecisionTree.load("kaggle")
    >>> predictions = torch.rand(5, len(tree.columns))
    >>> fractions = constrain(predictions, tree)
    >>> bool(violation(predictions, tree) > 0.1), bool(violation(fractions, tree) < 1e-6)
    (True, True)
    """
    if how not in CONSTRAINTS:
        raise UserError(f"constraint={how}: there is no such constraint. {did_you_mean(how, CONSTRAINTS)}")
    return CONSTRAINTS[how](probabilities, tree)


class _Rules:
    """The rules A x = b of a tree: a row of A for each question, b = 1 where everyone is asked and 0 elsewhere.

    Columns come as a list of K, numbers y and gaps as a list of Q, all of shape (n,). All is done element by element,
    since matrix products and sums along an axis round differently with other rows beside.

    Attributes:
        leads: For each question the columns that lead there.
        answers: For each question its own columns.
        signs: For each column the questions whose rules hold it, with its coefficients in A.
        reach: For each question how far below its highest answer another may lie and still end above 0.
        tolerance: The largest gap that passes for a rounding error.
    """

    def __init__(self, tree: DecisionTree) -> None:
        self.leads = tree.leads
        self.answers: list[slice] = []
        masses: list[float] = []  # the most that a question's answers can sum to
        for question, leads in zip(tree.questions, tree.leads, strict=True):
            first = self.answers[-1].stop if self.answers else 0
            self.answers.append(slice(first, first + len(question.columns)))
            masses.append(sum(masses[parent] for parent in {tree.question_of[lead] for lead in leads}) if leads else 1)
        self.signs = [[(question, 1)] for question in tree.question_of]
        for number, leads in enumerate(tree.leads):
            for lead in leads:
                self.signs[lead].append((number, -1))
        # With its highest answer at 0, a question's y lies in [0, reach]: at most its mass, and what the questions that
        # follow take from that answer.
        self.reach = list(masses)
        for number, answers in reversed(list(enumerate(self.answers))):
            self.reach[number] += max(sum(self.reach[q] for q, a in signs if a < 0) for signs in self.signs[answers])
        self.tolerance = torch.finfo(torch.double).eps * len(self.signs) * max(masses)

    def gaps(self, x: list[Tensor]) -> list[Tensor]:
        """Value that leads to each question minus the sum of its answers, b - A x."""
        gaps = []
        for answers, leads in zip(self.answers, self.leads, strict=True):
            leading = _sum([x[lead] for lead in leads]) if leads else torch.ones_like(x[0])
            gaps.append(leading - _sum(x[answers]))
        return gaps

    def move(self, v: list[Tensor], y: list[Tensor]) -> list[Tensor]:
        """Adds to the answers of all questions, and takes it from what leads there: v + A^T y."""
        moved = list(v)
        for number, add in enumerate(y):
            self._add(moved, number, add)
        return moved

    def start(self, v: list[Tensor]) -> list[Tensor]:
        """Columns with the highest answer of each question at 0, and none farther below than twice its reach.

        So numbers are no larger than the tree is deep, however large the values are. Answers that were farther below
        end at 0 from there as well; at the reach itself they would tie with others.
        """
        v = list(v)
        for number in reversed(range(len(self.leads))):
            self._add(v, number, -self._highest(v, number))
            answers = self.answers[number]
            v[answers] = [column.clamp_min(-2 * self.reach[number]) for column in v[answers]]
        return v

    def lift(self, v: list[Tensor]) -> list[Tensor]:
        """Columns with those questions raised whose answers are all below 0, until the highest is at 0.

        This never lowers the dual, and leaves each question an answer that can move, so that Newton's equations have
        one solution.
        """
        v = list(v)
        for number in reversed(range(len(self.leads))):
            self._add(v, number, -self._highest(v, number).clamp_max(0))
        return v

    def newton(self, active: list[Tensor], gaps: list[Tensor]) -> list[Tensor]:
        """The y that closes the gaps if columns move where active is 1 and stay where it is 0: A D A^T y = gaps.

        Questions are eliminated from the last to the first, by which a tree's matrix stays as sparse as it is.
        """
        matrix: dict[tuple[int, int], Tensor] = {}
        for column, signs in zip(active, self.signs, strict=True):
            for (p, a), (q, b) in product(signs, signs):
                if q <= p:
                    matrix[p, q] = matrix.get((p, q), 0) + a * b * column
        y = list(gaps)
        for p in reversed(range(len(y))):
            linked = [q for q in range(p) if (p, q) in matrix]
            for q in linked:
                share = matrix[p, q] / matrix[p, p]
                y[q] = y[q] - share * y[p]
                for r in linked:
                    if r <= q:
                        matrix[q, r] = matrix.get((q, r), 0) - share * matrix[p, r]
        for p in range(len(y)):
            for q in range(p):
                if (p, q) in matrix:
                    y[p] = y[p] - matrix[p, q] * y[q]
            y[p] = y[p] / matrix[p, p]
        return y

    def _add(self, v: list[Tensor], number: int, y: Tensor) -> None:
        answers = self.answers[number]
        v[answers] = [column + y for column in v[answers]]
        for lead in self.leads[number]:
            v[lead] = v[lead] - y

    def _highest(self, v: list[Tensor], number: int) -> Tensor:
        return reduce(torch.maximum, v[self.answers[number]])


def _nearest(values: Tensor, rules: _Rules) -> Tensor:
    """The projection of some rows in double precision, shape (n, K)."""
    nearest = torch.full_like(values, torch.nan).T.contiguous()
    v = rules.start(list(values.T.contiguous()))
    rows = (values.isfinite().all(1) & _sum(v).isfinite()).nonzero()[:, 0]
    v = _take(v, rows)
    everything = [torch.ones_like(v[0][:1])] * len(v)
    v = rules.lift(rules.move(v, rules.newton(everything, rules.gaps(v))))  # the solution if none were below 0
    step = torch.ones_like(v[0])
    for _ in range(PASSES):
        x = [column.clamp_min(0) for column in v]
        gaps = rules.gaps(x)
        for into, column in zip(nearest, x, strict=True):
            into.index_copy_(0, rows, column)
        left = (reduce(torch.maximum, [gap.abs() for gap in gaps]) > rules.tolerance).nonzero()[:, 0]
        if not len(left):
            return nearest.T
        v, x, gaps, (rows, step) = _take(v, left), _take(x, left), _take(gaps, left), _take([rows, step], left)
        direction = rules.newton([(column >= 0).double() for column in v], gaps)
        trial = rules.move(v, [step * y for y in direction])
        expected = step * _sum([gap * y for gap, y in zip(gaps, direction, strict=True)])
        good = expected - _sum([_curb(*each) for each in zip(x, trial, strict=True)]) >= 1e-4 * expected
        v = [torch.where(good, new, old) for new, old in zip(rules.lift(trial), v, strict=True)]
        step = torch.where(good, 1, step / 2)
    raise ArithmeticError(f"{len(rows)} rows could not be projected in {PASSES} passes.")


def _curb(x: Tensor, moved: Tensor) -> Tensor:
    """Loss of a column from the expected rise of the dual, in a form that holds for steps of any smallness."""
    return (moved.clamp_min(0) - x).square() / 2 + x * (-moved).clamp_min(0)


def _sum(columns: list[Tensor]) -> Tensor:
    return reduce(torch.add, columns)


def _take(columns: list[Tensor], rows: Tensor) -> list[Tensor]:
    return [column.index_select(0, rows) for column in columns]
