# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""W17: the flat variables of the older generation, and what runs with them."""

from __future__ import annotations

import configparser

import pytest
import yaml

from ansible_collections.sciops.sites.plugins.module_utils import _launch_supervisord
from ansible_collections.sciops.sites.plugins.plugin_utils import (
    _exports_legacy,
    _exports_write,
    _source,
    _system,
    _templates,
    _variables,
)

DEPLOYMENTS = ["dev", "staging", "prod"]
OF_DEPLOYMENTS = {
    "LOG_LEVEL": ("DEBUG", "DEBUG", "INFO"), "JAWS_SUPERVISOR_PORT": (64101, 64102, 64103),
    "JTM_SUPERVISOR_PORT": (64111, 64112, 64113), "JAWS_AUTH_PORT": (3001, 3002, 3003),
    "JAWS_REST_PORT": (5001, 5002, 5003), "CROMWELL_PORT": (50101, 50102, 50103),
}  # fmt: skip
OF_SITES = {
    "INSTALL_BASEDIR": "/opt/jaws", "CLIENT_INSTALL_BASEDIR": "/opt/client", "GLOBUS_EP": "", "GLOBUS_HOST_PATH": "/",
    "DATA_REPO_BASEDIR": "$@_INSTALL_BASEDIR/data", "PYTHON": "python3", "LOAD_PYTHON": "module load python",
    "JAWS_GROUP": "jaws", "JTM_GROUP": "jtm", "CLIENT_GROUP": "users", "JAWS_SCRATCH_BASEDIR": "${SCRATCH}/jaws",
    "JTM_SCRATCH_BASEDIR": "/scratch/jtm", "SUPERVISOR_HOST": "127.0.0.1", "CLUSTER_QOS": "cost$$1",
    "MAX_RAM_GB": 250, "LOAD_JAVA": "", "RMQ_HOST": "rmq.example.org", "RMQ_PORT": 5672, "RMQ_PW": "hush-hush",
}  # fmt: skip


def flat_variables() -> dict[str, object]:
    found: dict[str, object] = {"GIT_STRATEGY": "clone"}
    for index, deployment in enumerate(DEPLOYMENTS):
        found.update({f"{deployment}_{name}": values[index] for name, values in OF_DEPLOYMENTS.items()})
    for site in ("CORI", "LBL_GOV"):
        for name, value in OF_SITES.items():
            found[f"{site}_{name}"] = value.replace("@", site) if isinstance(value, str) else value
    return {**found, "CENTRAL_INSTALL_BASEDIR": "/opt/central", "CENTRAL_RMQ_HOST": "rmq.example.org"}


def ci(variables, rest: str = "") -> str:
    return yaml.safe_dump({"variables": variables}, sort_keys=False) + rest


def imported(text: str, form=_exports_legacy.read_ci):
    flat = form(text, "flat.yml")
    assert [str(one) for one in flat.problems] == []
    result, problems = _exports_legacy.convert(flat, "flat.yml", DEPLOYMENTS, "JAWS_", [], "SITE_VERSION")
    assert [str(one) for one in problems] == []
    return result


def resolved(result, kind: str, site: str, deployment: str):
    """The target as a deploy has it, and the options of its rendered files."""
    own = {name for name in result.documents if name.startswith(f"{kind}/")}
    texts = {name[len(kind) + 1 :]: _exports_write.render(result.documents[name]) for name in own}
    yaml_files = {name: text for name, text in texts.items() if name.endswith(".yml")}
    documents = {name: _source.parse(text, name, "site", None, "") for name, text in yaml_files.items()}
    system = _system.build(
        documents[f"{kind}.system.yml"],
        {name[7:-4]: one for name, one in documents.items() if name.startswith("layers/")},
        {name[6:-4]: one for name, one in documents.items() if name.startswith("sites/")},
    )
    assert [str(one) for one in system.problems] == []
    secrets = {"JAWS_SUPERVISORD_PW": "a%b$HOME", "JAWS_RMQ_PW": "x", "JAWS_SCRATCH": "/scratch"}
    target, problems = _variables.resolve(
        system, site, deployment, f"{site}-{deployment}", secrets, {"SITE_VERSION": "1"}
    )
    assert [str(one) for one in problems if one.fatal] == []
    parser = configparser.RawConfigParser(inline_comment_prefixes=(" ;",))
    files = _templates.Templates(texts.__getitem__, lambda path: None).render(target)
    for one in files:
        parser.read_string(one["content"])
    # the launch method finds each service in them
    texts = _launch_supervisord.definitions({}, target["services"], {one["dest"]: one["content"] for one in files})
    assert list(texts) == [one["name"] for one in target["services"]]
    return target, parser


def programs(parser) -> list[str]:
    return [name[8:] for name in parser.sections() if name.startswith("program:")]


@pytest.mark.parametrize(("deployment", "last"), [("dev", 1), ("staging", 2), ("prod", 3)])
def test_w17_three_supervisords(deployment, last):
    """W17: central 3 programs on 64121..3; site 3 + 2; cromwell after jtm, 120 s to stop."""
    result = imported(ci(flat_variables()))
    target, site = resolved(result, "site", "cori", deployment)
    assert programs(site) == ["jaws-site-daemon", "jaws-site-jtm-rpc", "jaws-site-central-rpc"]
    assert site["inet_http_server"]["port"] == f"127.0.0.1:6410{last}"
    assert site["program:jaws-site-daemon"]["command"] == f"/opt/jaws/jaws-{deployment}/shims/jaws-site-daemon"
    assert target["values"]["LOG_LEVEL"] == ("INFO" if deployment == "prod" else "DEBUG")
    assert target["launch"]["config"] == f"/opt/jaws/jaws-supervisord-{deployment}/supervisord-jaws.conf"

    target, backend = resolved(result, "backend", "cori-backend", deployment)
    assert programs(backend) == ["jaws-jtm", "jaws-cromwell"]
    assert backend["inet_http_server"]["port"] == f"127.0.0.1:6411{last}"
    assert backend["program:jaws-jtm"]["priority"] == "1"
    cromwell = backend["program:jaws-cromwell"]
    assert (cromwell["priority"], cromwell["startsecs"], cromwell["stopwaitsecs"]) == ("9", "10", "120")
    assert [(one["name"], one["after"]) for one in target["services"]] == [
        ("jaws-jtm", []),
        ("jaws-cromwell", ["jaws-jtm"]),
    ]
    assert target["services"][1]["timeout"] > 120
    assert target["unique"]["port"] == {"JTM_SUPERVISOR_PORT": 64110 + last, "CROMWELL_PORT": 50100 + last}

    target, central = resolved(result, "central", "central", deployment)
    assert programs(central) == ["auth", "rest", "rpc"]
    assert central["inet_http_server"]["port"] == f"127.0.0.1:6412{last}"
    assert target["root"] == f"/opt/central/jaws-{deployment}"


def test_w17_values_of_a_site():
    result = imported(ci(flat_variables()))
    target, _parser = resolved(result, "site", "lbl_gov", "dev")
    values = target["values"]
    assert values["DATA_REPO_BASEDIR"] == "/opt/jaws/data" and values["CLIENT_INSTALL_BASEDIR"] == "/opt/client"
    assert (values["GROUP"], values["JTM_GROUP"], values["CLUSTER_QOS"]) == ("jaws", "jtm", "cost$1")
    assert (values["SCRATCH_BASEDIR"], values["JTM_SCRATCH_BASEDIR"]) == ("/scratch/jaws", "/scratch/jtm")
    assert (values["MAX_RAM_GB"], values["RMQ_PORT"]) == ("250", 5672)
    assert list(result.needed) == ["SCRATCH"]
    assert "hush" not in repr(result)
    secret = "RMQ_PW: is a secret; its value was not taken over, give it by the environment or Ansible Vault"
    assert [said for said in result.findings if "hosts" not in said] == [
        f"flat.yml:39: CORI_{secret}",
        f"flat.yml:58: LBL_GOV_{secret}",
        "flat.yml: GIT_STRATEGY: is of no deployment and no site, and was not taken over",
    ]


def test_export_lines_and_ci_variables_give_the_same():
    lines = []
    for name, value in flat_variables().items():
        text = str(value).replace("$$", "\\$")
        lines.append(f'export {name}="{text}"')
    exported = imported("\n".join(lines), _exports_legacy.read_exports)
    wanted = imported(ci(flat_variables())).documents
    for one in (exported.documents, wanted):
        for name, document in one.items():
            if name.endswith(".system.yml"):
                document["variables"]["SCRATCH" if "central" not in name else "RMQ_HOST"].pop("description", None)
    assert exported.documents == wanted


def test_w17_a_missing_name_is_an_error():
    """W17: all missing names are listed, in the words of the file."""
    variables = flat_variables()
    for name in ("dev_LOG_LEVEL", "LBL_GOV_JTM_GROUP", "CORI_RMQ_PORT"):
        del variables[name]
    flat = _exports_legacy.read_ci(ci(variables), "flat.yml")
    result, problems = _exports_legacy.convert(flat, "flat.yml", DEPLOYMENTS, "JAWS_", [], "SITE_VERSION")
    assert [str(one) for one in problems] == [
        "flat.yml: dev_LOG_LEVEL: is missing",
        "flat.yml: CORI_RMQ_PORT: is missing",
        "flat.yml: LBL_GOV_JTM_GROUP: is missing",
    ]
    assert result.documents == {}


def test_values_of_gitlab():
    """Late references, `$$`, `expand: false`, numbers; other parts of the file are not read."""
    text = ci(
        {"A": "$B/${C}$$D", "B": "b", "C": {"value": "$B", "expand": False, "description": "x"}, "N": 1.5},
        "job:\n  script: !reference [.x, script]\n",
    )
    flat = _exports_legacy.read_ci(text, "ci.yml")
    assert flat.problems == []
    assert flat.values == {"A": ("b/$B$D",), "B": ("b",), "C": ("$B",), "N": ("1.5",)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("variables: {A: $B, B: $A}\n", "ci.yml:1: variables.A: its value needs itself: A -> B -> A"),
        ("variables: {A: true}\n", "ci.yml:1: variables.A: must be text or a number, or a mapping with `value`"),
        ("variables:\n  A: 1\n  A: 2\n", "ci.yml:3: variables.A: is declared twice, the first time in line 2"),
        ("stages: [a]\n", "ci.yml: variables: is missing; it must be a mapping of names and values"),
        ("a: [\n", "ci.yml:2: is not valid YAML"),
    ],
)
def test_faults_of_a_ci_file(text, words):
    assert str(_exports_legacy.read_ci(text, "ci.yml").problems[0]).startswith(words)
