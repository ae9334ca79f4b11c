"""The orders in which objects may be asked about, in words; the help of the command needs no more."""

STRATEGIES = {
    "uncertainty": "where the labels so far decide least between two answers",
    "disagreement": "where fits to different parts of the labels differ most",
    "novelty": "what is most unusual, whatever the labels say",
    "relevance": "what is unusual, as far as the labels found its like to be the target (Lochner & Bassett 2021)",
    "likely": "what is most probably the target",
    "random": "in random order",
}
SEEKING = ("novelty", "relevance", "likely")  # those that look for one of the answers, the target
