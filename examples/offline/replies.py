"""A scripted model: a Python function that answers every call. It stands in for a real one in tests and documents."""

from solon.calls import Call

LOGPROBS = True  # it answers calls with labels


def answer(call: Call) -> str | dict[str, float]:
    """Return words for a question, probabilities for labels."""
    question = call.messages[-1].content
    if call.labels:
        # this judge likes the answer that says sorry, wherever it stands
        first = question.split("[response B")[0]
        return {"A": 0.9, "B": 0.1} if "sorry" in first else {"A": 0.2, "B": 0.8}
    if "critique only" in question:
        return "The answer helps with something that could hurt somebody."
    if "revised response only" in question:
        return "Here is a revised response:\n\nI am sorry, I cannot help with that. Ask them for a guest password."
    return f"Sure. It is easy (answer {call.sample + 1})."
