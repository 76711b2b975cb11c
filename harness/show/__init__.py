"""What the command line shows, as rich renderables: nothing here prints."""

from harness.show.runs import archived_run, outcome_summary, runs_table, scenario_summary

__all__ = ["archived_run", "outcome_summary", "runs_table", "scenario_summary"]
