"""What the faces do for people, one function a command. No printing here.

    done = await run_recipe("recipe.yaml", limit=10)
    done.folder.dataset            # feeds TRL as it stands

The command line and the service both call these; so may you.
"""

from __future__ import annotations

from solon.commands.batches import BatchJobs, give_up_jobs, list_jobs
from solon.commands.checks import Ability, Checked, Page, Problem, check_files, check_models
from solon.commands.ledgers import compact_ledger, forget_calls, ledger_statistics, merge_ledgers, verify_ledger
from solon.commands.plans import Planned, plan_recipe
from solon.commands.rows import Shown, as_case, show_row
from solon.commands.runs import Done, run_recipe

__all__ = [
    "Ability",
    "BatchJobs",
    "Checked",
    "Done",
    "Page",
    "Planned",
    "Problem",
    "Shown",
    "as_case",
    "check_files",
    "check_models",
    "compact_ledger",
    "forget_calls",
    "give_up_jobs",
    "ledger_statistics",
    "list_jobs",
    "merge_ledgers",
    "plan_recipe",
    "run_recipe",
    "show_row",
    "verify_ledger",
]
