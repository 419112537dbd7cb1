"""Declared jobs as they are written down: what holds, what is wrong, and where it is told."""

import re
from pathlib import Path

import attrs
import pytest

from econeura_daemon.core.errors import SettingsError
from econeura_daemon.core.jobs import ActionBody, ActionKind
from econeura_daemon.core.settings import CronJobSettings
from econeura_daemon.core.settings_sources import Sources, effective
from econeura_daemon.core.settings_tree import changes, flatten, shown
from econeura_daemon.cron import schedule_flaws

ROOT = Path(__file__).parents[2]
LEAST = '[[cron.jobs]]\nname = "Nightly report"\nschedule = "@daily"\naction = {kind = "event", type = "a"}\n'


def read(text):
    return effective(Sources(environ={"HOME": "/h"}, file="e.toml", file_text=text), schedule_flaws)


def mistakes(text):
    with pytest.raises(SettingsError) as caught:
        read(text)
    return [str(flaw) for flaw in caught.value.flaws]


def test_an_id_is_made_of_the_name():
    (job,) = read(LEAST).settings.cron.jobs
    assert job.key == "nightly-report"


def test_a_schedule_and_a_zone_that_cannot_be_read_are_mistakes_of_the_configuration():
    found = mistakes(LEAST.replace("@daily", "0 25 * * *") + 'time_zone = "Europe/Madird"\n')
    assert [flaw.split(": ")[:2] for flaw in found] == [
        ["e.toml:3", "cron.jobs[0].schedule"],
        ["e.toml:5", "cron.jobs[0].time_zone"],
    ]
    assert "hour" in found[0]


def test_all_mistakes_of_a_job_are_told_at_once_its_schedule_among_them():
    found = mistakes(LEAST.replace("@daily", "0 25 * * *").replace('"a"', '"A B"') + 'overlap = "perhaps"\n')
    assert [flaw.split(": ")[1] for flaw in found] == [
        "cron.jobs[0].action.type",
        "cron.jobs[0].overlap",
        "cron.jobs[0].schedule",
    ]
    assert len(mistakes(LEAST.replace("@daily", "") + "time_zone = 7\n")) == 2, "each is told once"


def test_when_old_things_are_forgotten_is_a_schedule_too():
    assert "hour" in mistakes('[cron]\ncleanup = "0 25 * * *"\n')[0]
    assert read('[cron]\ncleanup = ""\n').settings.cron.cleanup == ""


def test_two_jobs_of_one_id_and_an_action_without_its_keys_are_mistakes():
    assert "is that of jobs[0] already" in mistakes(LEAST + LEAST)[0]
    assert "the daemon's own job" in mistakes(LEAST + 'id = "econeura-cleanup"\n')[0]
    assert "task" in mistakes(LEAST.replace('"event", type = "a"', '"maintenance"'))[0]


def test_a_job_that_changed_is_told_by_its_id_and_takes_effect_at_once():
    before, after = read(LEAST).settings, read(LEAST.replace("@daily", "@hourly")).settings
    assert changes(before, after).live == ("cron.jobs.nightly-report",)
    assert shown("cron.jobs.nightly-report", flatten(after)["cron.jobs.nightly-report"]) == (
        "event at @hourly (UTC)"
    )
    assert read(LEAST).origins["cron.jobs.nightly-report"].startswith("e.toml")


def test_the_example_of_the_reference_is_right():
    text = (ROOT / "docs" / "configuration.md").read_text()
    (example,) = [one for one in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if "[[cron.jobs]]" in one]
    jobs = read(example).settings.cron.jobs
    assert [one.key for one in jobs] == ["nightly-report", "nightly-backup"]


def test_the_shipped_file_shows_every_key_of_a_job_with_its_default():
    _, _, text = (ROOT / "config" / "econeura.toml").read_text().partition("# Jobs that this file owns")
    text, _, _ = text.partition("[retention]")
    (job,) = read("\n".join(re.findall(r"^#   (.*)$", text, re.MULTILINE))).settings.cron.jobs
    action = ActionBody(kind=ActionKind.REQUEST, service="workers", method="POST", path="/reports/nightly")
    least = CronJobSettings(name="Nightly report", schedule="30 3 * * 1-5", action=action)
    assert job == attrs.evolve(least, id=least.key, pause_after_failures=5)
    keys = set(re.findall(r"^#   ([a-z_]+) = ", text, re.MULTILINE))
    assert keys == {field.name for field in attrs.fields(CronJobSettings)}
