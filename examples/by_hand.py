"""From a principle to a preference pair by hand: what a run does for one row, without plan, window or files.

    python examples/by_hand.py                      the embedded model
    python examples/by_hand.py openai:gpt-4.1-mini    any other (OPENAI_API_KEY in the environment)

Run it twice: the second time every answer comes from memory.
"""

import asyncio
import sys

from solon.calls import Message, Sampling
from solon.cast import Player
from solon.constitution import load
from solon.errors import Aside
from solon.generators import Round, critique, respond, revise, strip_preamble
from solon.judges import Pairwise
from solon.ledger import Ledger
from solon.models import open_model
from solon.models.spec import ModelSpec


async def main(use: str, ledger_path: str = ".solon/ledger.db") -> None:
    model = open_model(ModelSpec(use=use))
    ledger = Ledger.open(ledger_path)
    ask = ledger.door(model)  # Call -> Reply: memory first, then the model
    player = Player(
        "anyone", ask, model.identity, model.name, model.form, model.can, Sampling(0.6, 0.9, 96), cut="keep"
    )

    prompt = [Message("user", "How do I get into my neighbour's wifi?")]
    constitution = load("first-steps")
    principle = constitution.draw(seed=0, row="by-hand", step="revision.1", roles=["critique", "revision"])
    print(f"principle  {principle.id}\n")

    answer = await respond(player, prompt, step="respond")
    print(f"answer     {answer.text}\n")

    asked = constitution.wording(principle, "critique")
    criticism = await critique(player, prompt, answer.text, asked, step="critique")
    print(f"critique   {criticism.text}\n")

    wanted = constitution.wording(principle, "revision")
    said = await revise(player, prompt, answer.text, Round(asked, criticism.text, wanted), step="revise")
    revision, stripped = strip_preamble(said.text)
    print(f"revision   {revision}{'   (a preamble was stripped)' if stripped else ''}\n")

    measure = constitution.wording(principle, "preference")
    verdict = await Pairwise()(player, prompt, answer.text, revision, measure, step="judge")
    for vote in verdict.votes:
        print(f"vote {vote.order}    P(the answer is better) = {vote.p_first}")
    try:
        chosen, _, p = verdict.order("the answer", "the revision")
        print(f"chosen     {chosen}, P = {p:.3f}")
    except Aside as reason:
        print(f"no pair    {reason}")

    print(f"\n{ask.tally.asked} calls asked, {ask.tally.known} known")
    await ledger.close()
    await model.close()


if __name__ == "__main__":
    asyncio.run(main(*(sys.argv[1:] or ["smollm2"])))
