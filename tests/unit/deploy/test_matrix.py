# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""W18: the jobs of continuous integration."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.modules.ci_matrix import DOCUMENTATION
from ansible_collections.sciops.sites.plugins.plugin_utils import _matrix

SITES = {
    "assembly": "supervisord", "aws": "supervisord", "dori": "systemd", "jgi": "supervisord", "nmdc": "supervisord",
    "perlmutter": "scrontab", "tahoma": "supervisord", "birch": "systemd",
}  # fmt: skip
DEPLOYMENTS = ("dev", "staging", "prod")


def targets(sites=None):
    return [
        _matrix.Target(f"{site}-{deployment}", "jaws", site, deployment, "venv", launch)
        for site, launch in (sites or SITES).items()
        for deployment in DEPLOYMENTS
    ]


def made(sites=None):
    return _matrix.jobs(targets(sites), _matrix.RULES)


def test_w18_eight_sites_make_24_jobs_by_the_rules():
    """W18: tag dev deploys dev; release/* deploys staging (may fail, not at Slurm sites), and prod on request."""
    jobs = made()
    assert len(jobs) == 24
    by_name = {job["name"]: job for job in jobs}
    assert by_name["deploy-jgi-dev"] == {
        "name": "deploy-jgi-dev", "system": "jaws", "site": "jgi", "deployment": "dev", "hosts": ["jgi-dev"],
        "when": "automatic", "allow_failure": False, "ref": {"tag": "dev"},
    }  # fmt: skip
    for site, launch in SITES.items():
        dev, staging, prod = (by_name[f"deploy-{site}-{deployment}"] for deployment in DEPLOYMENTS)
        assert (dev["when"], dev["ref"], dev["allow_failure"]) == ("automatic", {"tag": "dev"}, False)
        assert (staging["when"], staging["ref"]) == ("automatic", {"branch": "release/*"})
        assert staging["allow_failure"] is (launch != "scrontab")
        assert (prod["when"], prod["ref"], prod["allow_failure"]) == ("manual", {"branch": "release/*"}, False)
    assert [job["name"] for job in jobs[:3]] == [f"deploy-assembly-{deployment}" for deployment in DEPLOYMENTS]


NAMES = st.lists(st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True), min_size=2, max_size=9, unique=True)


@given(names=NAMES, launch=st.sampled_from(["supervisord", "scrontab"]), dialect=st.sampled_from(["gitlab", "github"]))
def test_w18_a_new_site_changes_no_other_job(names, launch, dialect):
    """W18: the text with the new site is the text without it, and three jobs in one place."""
    before, after = (
        _matrix.DIALECTS[dialect](made(dict.fromkeys(some, launch)), "make deploy") for some in (names[1:], names)
    )
    pattern = rf"^( *)deploy-{re.escape(names[0])}-(dev|staging|prod):\n(\1 .*\n|\1- .*\n)*"
    assert re.sub(pattern, "", after, flags=re.M) == before
    assert len(re.findall(pattern, after, flags=re.M)) == 3


def test_gitlab():
    document = yaml.safe_load(_matrix.gitlab(made(), "make deploy"))
    assert document["deploy-dori-staging"] == {
        "extends": ".sciops-sites-deploy",
        "variables": {
            "SCIOPS_SITES_SITE": "dori",
            "SCIOPS_SITES_DEPLOYMENT": "staging",
            "SCIOPS_SITES_LIMIT": "dori-staging",
        },
        "environment": {"name": "dori/staging"},
        "resource_group": "deploy-dori-staging",
        "rules": [{"if": r"$CI_COMMIT_BRANCH =~ /^release\//", "when": "on_success", "allow_failure": True}],
    }
    assert document["deploy-perlmutter-staging"]["rules"][0]["allow_failure"] is False
    assert document["deploy-dori-prod"]["rules"][0]["when"] == "manual"
    assert document["deploy-dori-dev"]["rules"][0]["if"] == '$CI_COMMIT_TAG == "dev"'
    assert document[".sciops-sites-deploy"] == {"stage": "deploy", "script": ["make deploy"]}
    assert len(document) == 25


def test_github():
    document = yaml.safe_load(_matrix.github(made(), "make deploy"))
    assert document["on"]["push"] == {"tags": ["dev"], "branches": ["release/**"]}
    jobs = document["jobs"]
    assert len(jobs) == 24
    asked = "github.event_name == 'workflow_dispatch' && inputs.job == 'deploy-dori-{}'"
    assert jobs["deploy-dori-prod"]["if"] == f"{asked.format('prod')} && startsWith(github.ref, 'refs/heads/release/')"
    assert jobs["deploy-dori-dev"]["if"] == (
        f"(github.event_name == 'push' || {asked.format('dev')}) && github.ref == 'refs/tags/dev'"
    )
    assert (jobs["deploy-dori-staging"]["continue-on-error"], jobs["deploy-dori-dev"]["continue-on-error"]) == (
        True,
        False,
    )
    assert jobs["deploy-dori-dev"]["steps"][1] == {"run": "make deploy"}


def test_hosts_of_one_site_share_a_job():
    both = [_matrix.Target(f"a-dev-{host}", "jaws", "a", "dev", None, "systemd") for host in ("h2", "h1")]
    (job,) = _matrix.jobs(both, _matrix.RULES)
    assert job["hosts"] == ["a-dev-h1", "a-dev-h2"]
    assert yaml.safe_load(_matrix.gitlab([job], "x"))["deploy-a-dev"]["variables"]["SCIOPS_SITES_LIMIT"] == (
        "a-dev-h1,a-dev-h2"
    )


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([{"deployment": "dev", "tag": "x"}], "a-staging: no rule fits deployment staging; add one to rules"),
        ([{"launch": "x", "tag": "x"}], "a-dev: a rule asks for its launch method, which is in none of its variables"),
        ([{"tag": "x", "branch": "y"}], "rules[0]: must have one of tag and branch"),
        ([{"deployment": "dev"}], "rules[0]: must have one of tag and branch"),
        (
            [{"branch": "a*b"}],
            "rules[0].branch: a*b: must be letters, digits, '.', '_', '/' and '-', with a * at the end",
        ),
        ([{"branch": "x' || true"}], "rules[0].branch: x' || true: must be letters"),
    ],
)
def test_faults(rules, words):
    some = [_matrix.Target(f"a-{name}", "jaws", "a", name, None, None) for name in DEPLOYMENTS]
    with pytest.raises(ValueError, match=re.escape(words)):
        _matrix.jobs(some, rules)


def test_each_dialect_is_documented():
    assert yaml.safe_load(DOCUMENTATION)["options"]["dialect"]["choices"] == list(_matrix.DIALECTS)
