import copy
import pickle

from galaxyml.kinds.classes import Classes


def test_kinds_are_copied_and_pickled_as_they_are() -> None:
    kind = Classes(["spiral", "elliptical"])
    for other in (copy.copy(kind), copy.deepcopy(kind), pickle.loads(pickle.dumps(kind))):
        assert type(other) is Classes
        assert other.spec == kind.spec
        assert other.outputs == kind.outputs
