"""Three small constitutions, one of each form, and two short ways to make one in a test."""

from __future__ import annotations

from typing import Any

from solon.constitution import Constitution, Principle

FLAT_2022 = """\
name: Flat
principles:
  - id: no-harm
    critique: Discuss whether the response is harmful.
    revision: Rewrite the response without harm.
    preference: Which of these responses is less harmful?
  - id: kind
    text: Be kind
    weight: 2
    applies_to: [tone, talk]
"""

RANKED_2026 = """\
name: Ranked
version: "2026.1"
preamble: |
  The assistant serves people.

  It weighs what follows, in this order.
principles:
  - id: helpful
    kind: priority
    rank: 3
    text: Be of real help.
    rationale: Not helping has a cost too.
  - id: no-weapons
    kind: hard_constraint
    rank: 2
    text: No help towards weapons of mass harm.
    preference: A response that helps towards weapons of mass harm loses.
  - id: honest
    kind: priority
    rank: 2
    text: >
      Say what is so,
      whoever asks.
    cases:
      - prompt: Is it raining?
        better: I cannot see the sky from here.
        worse: "Yes."
  - id: oversight
    kind: hard_constraint
    rank: 1
    text: No deceiving of those who oversee it.
  - id: unranked
    text: Be brief.
"""

TRAITS = """\
name: Humour
principles:
  - id: jokes
    kind: trait
    text: I love a well-timed joke
  - id: never-mean
    kind: trait
    text: I never joke at somebody's expense.
"""


def principle(**changed: Any) -> Principle:
    return Principle.model_validate({"id": "p", "text": "Be kind.", **changed})


def constitution(*principles: Principle, **changed: Any) -> Constitution:
    return Constitution.model_validate({"name": "test", "principles": principles or (principle(),), **changed})
